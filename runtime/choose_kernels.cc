#include "runtime/choose_kernels.h"

#include <cstdlib>

#include "kernels/registry.h"
#include "models/base/error.h"

namespace vitrun {

const Kernels& choose_kernels(const std::string& name) {
  if (const Kernels* k = find_kernels(name.c_str())) return *k;
  const char* environment = std::getenv("VITRUN_ISA");
  fail(name.empty() ? cat("VITRUN_ISA=", environment ? environment : "") : cat("--isa ", name),
       ": not known or not supported by this CPU; it has: ", isa_names());
}

}  // namespace vitrun
