// The processes of one `mpirun -n R vitlrp`. Built without MPI (-DVITRUN_MPI=ON), or started
// without mpirun, there is one.
#pragma once

#include "lrp/walk/scores.h"

namespace vitrun {

class Ranks {
 public:
  Ranks();  // starts MPI where mpirun started this process; one object a process
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int count() const { return count_; }

  // Collective: every rank calls them, and every rank gets the answer.
  bool any(bool mine) const;
  Scores sum(const Scores& mine) const;  // of the same model and target; exact, in any order

 private:
  int rank_ = 0, count_ = 1;
};

}  // namespace vitrun
