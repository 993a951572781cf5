// timm's names of architectures with ViT's blocks, and what a name says that no tensor tells.
#pragma once

#include <string>

#include "models/checkpoints/config.h"

namespace vitrun {

struct TimmArch {
  const char* name;
  int width, heads;
  float norm_eps;
  ActType act;
  Pool pool;
  int pool_heads;
  bool pool_prefix;
  int registers;
  bool last_norm;
  bool post_norm;
  RopeConfig rope;
};

// Returns the architecture of a name without a tag; null for one that is not known. Fails, naming
// `where`, on one that is known and not run.
const TimmArch* timm_arch(const std::string& name, const std::string& where);

// Takes what the name says into a configuration.
void apply_arch(const TimmArch& arch, ModelConfig& config);

}  // namespace vitrun
