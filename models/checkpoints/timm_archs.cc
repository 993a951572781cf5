#include "models/checkpoints/timm_archs.h"

#include "models/base/error.h"

namespace vitrun {
namespace {

using Grid = RopeConfig::Grid;

constexpr TimmArch kArchs[] = {
#define VITRUN_REFUSED(name, reason)
#define VITRUN_ARCH(name, heads, eps, act, pool, pool_heads, ...) \
  {name, heads, eps, ActType::act, Pool::pool, pool_heads, RopeConfig __VA_ARGS__},
#include "models/checkpoints/timm_archs.inc"
#undef VITRUN_ARCH
#undef VITRUN_REFUSED
};

struct Refused {
  const char *name, *reason;
};
constexpr Refused kRefused[] = {
#define VITRUN_ARCH(name, heads, eps, act, pool, pool_heads, ...)
#define VITRUN_REFUSED(name, reason) {name, reason},
#include "models/checkpoints/timm_archs.inc"
#undef VITRUN_ARCH
#undef VITRUN_REFUSED
};

}  // namespace

const TimmArch* timm_arch(const std::string& name, const std::string& where) {
  for (const Refused& refused : kRefused)
    if (name == refused.name)
      fail(where, ": '", name, "' ", refused.reason, ", which vitrun does not run");
  for (const TimmArch& arch : kArchs)
    if (name == arch.name) return &arch;
  return nullptr;
}

}  // namespace vitrun
