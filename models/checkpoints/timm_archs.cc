#include "models/checkpoints/timm_archs.h"

#include "models/base/error.h"

namespace vitrun {
namespace {

using Grid = RopeConfig::Grid;

constexpr TimmArch kArchs[] = {
#define VITRUN_REFUSED(name, reason)
#define VITRUN_ARCH(name, width, heads, eps, act, pool, pool_heads, prefix, registers, norm, post, \
                    ...)                                                                           \
  {name,       width,  heads,     eps,  ActType::act, Pool::pool,                                  \
   pool_heads, prefix, registers, norm, post,         RopeConfig __VA_ARGS__},
#include "models/checkpoints/timm_archs.inc"
#undef VITRUN_ARCH
#undef VITRUN_REFUSED
};

struct Refused {
  const char *name, *reason;
};
constexpr Refused kRefused[] = {
#define VITRUN_ARCH(name, ...)
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

void apply_arch(const TimmArch& arch, ModelConfig& c) {
  c.heads = {arch.heads};
  c.norm_eps = arch.norm_eps;
  c.act = arch.act;
  c.rope = arch.rope;
  c.pool_heads = arch.pool_heads;
  c.pool_prefix = arch.pool_prefix;
  c.last_norm = arch.last_norm;
  c.post_norm = arch.post_norm;
  if (std::string(arch.name).starts_with("flexivit")) c.position_filter = PositionFilter::kBilinear;
}

}  // namespace vitrun
