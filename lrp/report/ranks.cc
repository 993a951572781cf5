#include "lrp/report/ranks.h"

#ifdef VITRUN_MPI
#include <mpi.h>

#include <cstdlib>

#include "models/base/error.h"
#endif

namespace vitrun {

#ifdef VITRUN_MPI
namespace {

// Whether an MPI launcher started this process. Open MPI's mpirun sets the first variable, those of
// MPICH and Slurm set the others. Without any of them MPI is not started, since starting it takes
// longer than many runs.
bool under_mpirun() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
    if (std::getenv(name)) return true;
  return false;
}

void add_sums(void* in, void* in_out, int* count, MPI_Datatype*) {
  for (int i = 0; i < *count; i++)
    static_cast<ExactSum*>(in_out)[i].add(static_cast<const ExactSum*>(in)[i]);
}

}  // namespace

Ranks::Ranks() {
  if (!under_mpirun()) return;
  if (MPI_Init(nullptr, nullptr) != MPI_SUCCESS) fail("MPI does not start");
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &count_);
}

Ranks::~Ranks() {
  int started = 0;
  MPI_Initialized(&started);
  if (started) MPI_Finalize();
}

bool Ranks::any(bool mine) const {
  if (count_ == 1) return mine;
  int flag = mine, answer = 0;
  MPI_Allreduce(&flag, &answer, 1, MPI_INT, MPI_LOR, MPI_COMM_WORLD);
  return answer != 0;
}

Scores Ranks::sum(const Scores& mine) const {
  Scores all = mine;
  if (count_ == 1) return all;
  std::vector<ExactSum> sums;
  for (const Scores::Unit& u : mine.units)
    sums.insert(sums.end(), {u.score, u.squares, u.gradient_input});
  std::vector<ExactSum> total(sums.size());
  MPI_Datatype exact;
  MPI_Op add;
  MPI_Type_contiguous(sizeof(ExactSum), MPI_BYTE, &exact);
  MPI_Type_commit(&exact);
  MPI_Op_create(add_sums, 1, &add);
  MPI_Allreduce(sums.data(), total.data(), static_cast<int>(sums.size()), exact, add,
                MPI_COMM_WORLD);
  MPI_Op_free(&add);
  MPI_Type_free(&exact);
  MPI_Allreduce(&mine.images, &all.images, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(&mine.skipped, &all.skipped, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  for (size_t u = 0; u < all.units.size(); u++) {
    all.units[u].score = total[3 * u];
    all.units[u].squares = total[3 * u + 1];
    all.units[u].gradient_input = total[3 * u + 2];
  }
  return all;
}
#else
Ranks::Ranks() = default;
Ranks::~Ranks() = default;

bool Ranks::any(bool mine) const {
  return mine;
}

Scores Ranks::sum(const Scores& mine) const {
  return mine;
}
#endif

}  // namespace vitrun
