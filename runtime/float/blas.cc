#include "runtime/float/blas.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu.h"
#include "models/base/error.h"

namespace vitrun {
namespace {

#ifdef VITRUN_STATIC_BLAS
Blas load() {
  return {cblas_sgemm, openblas_set_num_threads};
}
#else
template <class Function>
void find(void* library, const char* name, Function*& to) {
  to = reinterpret_cast<Function*>(dlsym(library, name));
  if (!to) fail("libopenblas.so.0 has no function ", name);
}

Blas load() {
  const bool linked = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");  // as into vitquant
  void* library = linked ? RTLD_DEFAULT : dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!linked && !library)
    fail("float weights need OpenBLAS (Debian's package libopenblas0), which cannot be loaded: ",
         dlerror());
  Blas loaded{};
  find(library, "cblas_sgemm", loaded.sgemm);
  find(library, "openblas_set_num_threads", loaded.set_threads);
  return loaded;
}
#endif

}  // namespace

const Blas& blas() {
  static const Blas loaded = load();
  return loaded;
}

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
