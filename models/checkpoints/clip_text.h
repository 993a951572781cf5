// The text tower of a CLIP checkpoint: its sizes, and which tensors it is made of. It is read apart
// from the image tower, whose names (names.h) leave it out.
#pragma once

#include <string>
#include <vector>

#include "models/checkpoints/config.h"
#include "models/graph/graph.h"
#include "models/names/names.h"

namespace vitrun {

struct TextConfig {
  int width = 0, depth = 0, heads = 0, hidden = 0;
  int tokens = 0;      // rows of the table of token embeddings
  int positions = 0;   // the most tokens a text may have
  int projection = 0;  // columns of the embedding
  float norm_eps = 1e-5f;
  ActType act = ActType::kQuickGelu;
  int end_token = -1;  // the token whose row is the text's; -1: the highest of the text
};

// Whether tensors of these names hold a text tower, transformers' or OpenCLIP's.
bool has_text_tower(const std::vector<std::string>& names);

// Maps "text.blocks.0.attn.qkv.weight" and so on, as build_clip_text() names parameters, and
// "text.tokens", "text.positions" and "text.logit_scale" to the file's tensors. Fails, naming
// `where`, on a missing tensor, and on one that CLIP's text tower has not.
NameMap text_names(const std::vector<std::string>& names, const std::string& where);

// Whether the tensor of that name is OpenCLIP's projection, which is stored transposed.
bool is_transposed_projection(const std::string& source);

// Fails, naming `where`, unless the configuration is of a CLIP with a text tower, transformers' or
// OpenCLIP's.
void refuse_other_text(const std::string& json, const std::string& where);

// Takes sizes from the shapes (by the names above) and the rest from the text of a config.json of
// transformers or an open_clip_config.json. Fails, naming `where`, on other text towers than
// CLIP's.
TextConfig text_config(const std::string& json, const ShapeMap& shapes, const std::string& where);

}  // namespace vitrun
