// What a checkpoint is: family, dimensions, preprocessing and labels. Plain data; no weights, no
// buffers. It comes from a config.json (timm hub or Hugging Face transformers), an --arch name or
// the shapes of the weights. build_graph() (models/families) turns it into a graph, which is what a
// .qbin stores; nothing that runs a .qbin knows of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/model_info.h"

namespace vitrun {

enum class Family { kVit, kSwin };  // kVit: ViT, DeiT (also distilled), DeiT-III

struct ModelConfig : ModelInfo {
  Family family = Family::kVit;
  int patch = 16;
  float norm_eps = 1e-6f;
  bool qkv_bias = true;
  int embed_dim = 192;      // Swin: of the first stage; stage s has embed_dim << s
  int mlp_hidden = 768;     // Swin: of the first stage, doubled with each
  std::vector<int> depths;  // blocks per stage; ViT has one stage
  std::vector<int> heads;   // per stage

  // ViT family.
  bool class_token = true;
  bool distilled = false;            // a second prefix token with its own head
  bool pos_embed_has_prefix = true;  // DeiT-III: false, pos_embed covers the patches only
  bool layer_scale = false;

  // Swin: the nominal side of a window. A stage whose map is smaller along an axis uses the map's
  // side there, and its bias table has (2h - 1) * (2w - 1) rows of that reduced window.
  int window = 7;
};

// Shapes of a weight file's tensors under their current timm names.
using ShapeMap = std::map<std::string, Dims>;

// Refuses dimensions that cannot be a model (zero, not divisible, absurdly large): called by every
// way in.
void validate(const ModelConfig& config);

// A built-in architecture by timm's name, e.g. "deit_small_distilled_patch16_224",
// "swin_tiny_patch4_window7_224", with or without a tag (".fb_in1k"); an unknown name fails and
// lists the known ones.
ModelConfig config_from_arch(const std::string& arch);
std::vector<std::string> known_archs();

// The same for a given weight file: classes, flags and a square image size come from the shapes,
// whatever else the name says must agree with them. `where` names the file in messages.
ModelConfig config_from_arch(const std::string& arch, const ShapeMap& shapes,
                             const std::string& where);

// Parses config.json (either convention) and completes it from the shapes; `where` names the file
// in messages. A value that contradicts the shapes fails with both.
ModelConfig config_from_json(const std::string& text, const ShapeMap& shapes,
                             const std::string& where);

// Takes preprocessing from the text of transformers' preprocessor_config.json.
void apply_preprocessor_json(const std::string& text, ModelConfig& config,
                             const std::string& where);

// Everything from the shapes, where that is unambiguous (heads = embed_dim / 64 for ViT; Swin's are
// stored). What no shape tells is timm's default for the family: LayerNorm's epsilon,
// preprocessing, and for Swin that the last map is one window.
ModelConfig config_from_shapes(const ShapeMap& shapes, const std::string& where);

// For parsers. A configuration that states nothing yet: sizes are 0, depths and heads empty.
ModelConfig open_config(Family family);
// For parsers. Fills what `config` leaves open from the shapes and validates. A stated size must
// agree with them; the flags (qkv_bias, class_token, distilled, ...) are always the shapes'.
void complete(ModelConfig& config, const ShapeMap& shapes, const std::string& where);
// For parsers: the family whose tensor names these are.
Family family_of(const ShapeMap& shapes);

}  // namespace vitrun
