// OpenBLAS, which the float engine multiplies with.
#pragma once

#include <cblas.h>

namespace vitrun {

// The functions of OpenBLAS that the float engine calls.
struct Blas {
  decltype(&cblas_sgemm) sgemm;
  decltype(&openblas_set_num_threads) set_threads;
};

// Loads OpenBLAS at the first call, from any thread: vitrun runs .qbin files without it, and the
// library takes megabytes of memory and most of a start. Fails with the package's name where it is
// not installed.
const Blas& blas();

// A CPU younger than OpenBLAS gets the kernels of a Prescott of 2004: Emerald Rapids from Debian
// 12's 0.3.21, where quantizing then takes 1.7 times as long. If so, and OPENBLAS_CORETYPE does not
// say otherwise, this starts the program anew with kernels for the instructions the CPU has. To be
// called first in main().
void choose_blas_kernels(char** argv);

}  // namespace vitrun
