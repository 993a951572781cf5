// The processes of one `mpirun -n R vitlrp`. A build without -DVITRUN_MPI=ON, or a start without
// mpirun, has one process.
#pragma once

#include "lrp/walk/scores.h"

namespace vitrun {

class Ranks {
 public:
  Ranks();  // starts MPI where mpirun started this process; make one object in each process
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int count() const { return count_; }

  // Collective calls: every rank makes them, and every rank gets the answer. Scores must be of the
  // same model and target; their sum is exact, so the order of the ranks does not matter.
  bool any(bool mine) const;
  Scores sum(const Scores& mine) const;

 private:
  int rank_ = 0, count_ = 1;
};

}  // namespace vitrun
