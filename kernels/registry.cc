#include "kernels/registry.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/cpu.h"

namespace vitrun {

#define VITRUN_ISA(name, table, features) extern const Kernels table;
#include "kernels/isa.def"

namespace {

constexpr const Kernels* kTables[] = {
#define VITRUN_ISA(name, table, features) &(table),
#include "kernels/isa.def"
};

constexpr uint32_t kNeeds[] = {
#define VITRUN_ISA(name, table, features) features,
#include "kernels/isa.def"
};

std::string join_supported_names() {
  std::string names;
  for (const Kernels* kernels : kTables) {
    if (is_supported(*kernels)) names += (names.empty() ? "" : " ") + std::string(kernels->name);
  }
  return names;
}

}  // namespace

std::span<const Kernels* const> compiled_kernels() {
  return kTables;
}

bool is_supported(const Kernels& kernels) {
  for (size_t i = 0; i < std::size(kTables); i++) {
    if (kTables[i] == &kernels) return (cpu_features() & kNeeds[i]) == kNeeds[i];
  }
  return false;
}

const Kernels* find_kernels(const char* name) {
  if (!name || !*name) name = std::getenv("VITRUN_ISA");
  const bool any = !name || !*name;
  for (const Kernels* kernels : kTables) {
    if ((any || std::strcmp(kernels->name, name) == 0) && is_supported(*kernels)) return kernels;
  }
  return nullptr;
}

const char* isa_names() {
  static const std::string names = join_supported_names();
  return names.c_str();
}

}  // namespace vitrun
