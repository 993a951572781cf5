// The configuration of a checkpoint: family, dimensions, preprocessing and labels. It comes from a
// config.json (timm hub or Hugging Face transformers), an --arch name or the shapes of the weights.
// build_graph() (models/families) turns it into a graph, which is what a .qbin stores. Nothing that
// runs a .qbin knows of configurations.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/model_info.h"

namespace vitrun {

enum class Family { kVit, kSwin };  // kVit stands for ViT, DeiT (also distilled) and DeiT-III

struct ModelConfig : ModelInfo {
  Family family = Family::kVit;
  int patch = 16;
  float norm_eps = 1e-6f;
  bool qkv_bias = true;
  int embed_dim = 192;      // width of the first stage; Swin's stage s has embed_dim << s
  int mlp_hidden = 768;     // hidden width of the first stage's MLPs, doubled with each stage
  std::vector<int> depths;  // blocks of each stage; ViT has one stage
  std::vector<int> heads;   // heads of each stage

  // The next four are for the ViT family.
  bool class_token = true;
  bool distilled = false;            // a second prefix token with its own head
  bool pos_embed_has_prefix = true;  // false for DeiT-III, whose pos_embed covers only the patches
  bool layer_scale = false;

  // The nominal side of Swin's windows. A stage whose map is smaller along an axis uses the map's
  // side there; the bias table of the resulting h x w window has (2h - 1) * (2w - 1) rows.
  int window = 7;
};

// The shapes of a weight file's tensors by their current timm names.
using ShapeMap = std::map<std::string, Dims>;

// Fails on dimensions that cannot be a model's (zero, not divisible, absurdly large). Whatever
// reads a configuration from a file calls it.
void validate(const ModelConfig& config);

// Returns a built-in architecture by timm's name, e.g. "deit_small_distilled_patch16_224",
// "swin_tiny_patch4_window7_224", with or without a tag (".fb_in1k"). An unknown name fails and
// lists the known ones.
ModelConfig config_from_arch(const std::string& arch);
std::vector<std::string> known_archs();

// Returns the architecture for a given weight file. Classes, flags and a square image size come
// from the shapes; all else that the name says must agree with them. `where` names the file in
// messages.
ModelConfig config_from_arch(const std::string& arch, const ShapeMap& shapes,
                             const std::string& where);

// Parses config.json (either convention) and completes it from the shapes. `where` names the file
// in messages. Where a value contradicts the shapes, the message states both.
ModelConfig config_from_json(const std::string& text, const ShapeMap& shapes,
                             const std::string& where);

// Takes preprocessing from the text of transformers' preprocessor_config.json.
void apply_preprocessor_json(const std::string& text, ModelConfig& config,
                             const std::string& where);

// Takes the whole configuration from the shapes and fails where they are ambiguous. ViT has
// embed_dim / 64 heads; Swin's shapes tell the heads. What no shape tells is timm's default for the
// family: LayerNorm's epsilon, preprocessing, and for Swin that the last map is one window.
ModelConfig config_from_shapes(const ShapeMap& shapes, const std::string& where);

// The last three functions are for parsers.
// Returns a configuration that states nothing yet: sizes are 0, depths and heads are empty.
ModelConfig open_config(Family family);
// Fills what `config` leaves open from the shapes, and validates it. A stated size must agree with
// the shapes; the flags (qkv_bias, class_token, distilled, ...) are always those of the shapes.
void complete(ModelConfig& config, const ShapeMap& shapes, const std::string& where);
// Returns the family that has these tensor names.
Family family_of(const ShapeMap& shapes);

}  // namespace vitrun
