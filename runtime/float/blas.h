// OpenBLAS' choice of kernels.
#pragma once

namespace vitrun {

// A CPU younger than OpenBLAS gets the kernels of a Prescott of 2004: Emerald Rapids from Debian
// 12's 0.3.21, where quantizing then takes 1.7 times as long. If so, and OPENBLAS_CORETYPE does not
// say otherwise, this starts the program anew with kernels for the instructions the CPU has. To be
// called first in main().
void choose_blas_kernels(char** argv);

}  // namespace vitrun
