#include "runtime/float/blas.h"

#include <cblas.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu.h"

namespace vitrun {

void choose_blas_kernels(char** argv) {
  if (std::getenv("OPENBLAS_CORETYPE") || std::string(openblas_get_corename()) != "Prescott")
    return;
  const uint32_t features = cpu_features();
  const char* core = features & kCpuAvx512 ? "SkylakeX" : features & kCpuAvx2 ? "Haswell" : nullptr;
  if (!core) return;
  setenv("OPENBLAS_CORETYPE", core, 1);
  execv("/proc/self/exe", argv);  // where that fails, the slow kernels do
}

}  // namespace vitrun
