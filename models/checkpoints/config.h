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

// timm's global_pool: the class token, or the mean of the patches. Open: nobody has said.
enum class Pool { kOpen, kToken, kAverage };

struct ModelConfig : ModelInfo {
  Family family = Family::kVit;
  int patch = 16;
  float norm_eps = 1e-6f;
  bool qkv_bias = true;
  int embed_dim = 192;      // width of the first stage; Swin's stage s has embed_dim << s
  int mlp_hidden = 768;     // hidden width of the first stage's MLPs, doubled with each stage
  std::vector<int> depths;  // blocks of each stage; ViT has one stage
  std::vector<int> heads;   // heads of each stage

  // The next six are for the ViT family.
  bool class_token = true;
  bool distilled = false;            // a second prefix token
  bool head_dist = false;            // which has a head of its own
  bool pos_embed_has_prefix = true;  // false for DeiT-III, whose pos_embed covers only the patches
  bool layer_scale = false;
  Pool pool = Pool::kOpen;

  // The next six are for Swin. A parser may give one entry of a list for all stages, and leaves the
  // shifts to complete().
  bool swin_v2 = false;  // norms behind the branches, attention by cosines
  bool absolute_positions = false;
  // The nominal sides of each stage's windows. A stage whose map is smaller along an axis uses the
  // map's side there; the bias table of the resulting h x w window has (2h - 1) * (2w - 1) rows.
  std::vector<int> windows;
  std::vector<int> shifts;  // of the windows of every other block, where the map is larger
  std::vector<int> pretrained_windows;  // SwinV2's; empty or 0: as `windows`
  bool pad_first = false;               // transformers pads a map before it is shifted, timm after

  // Guesses are what neither the configuration nor the shapes state, as "heads 3 (embed_dim / 64)".
  std::vector<std::string> guesses;
};

// A checkpoint's properties that neither its configuration nor its shapes tell.
struct Given {
  int heads = 0;              // 0: not said
  Pool pool = Pool::kOpen;    // what a user says where the configuration does not
  bool transformers = false;  // the tensors have transformers' names
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
                             const std::string& where, const Given& given = {});

// Sets the sides of Swin's windows and shifts of half of them.
void set_windows(ModelConfig& config, const std::vector<int>& windows);

// Fails if the text of a config.json names a model that vitrun does not run.
void refuse_foreign_config(const std::string& text, const std::string& where);

// Parses config.json (either convention) and completes it from the shapes. `where` names the file
// in messages. Where a value contradicts the shapes, the message states both.
ModelConfig config_from_json(const std::string& text, const ShapeMap& shapes,
                             const std::string& where, const Given& given = {});

// Takes preprocessing from the text of transformers' preprocessor_config.json.
void apply_preprocessor_json(const std::string& text, ModelConfig& config,
                             const std::string& where);

// Takes the whole configuration from the shapes and fails where they are ambiguous. ViT has
// embed_dim / 64 heads; Swin's shapes tell the heads. What no shape tells is timm's default for the
// family, or transformers': LayerNorm's epsilon, preprocessing, and for Swin that the last map is
// one window. All of that is listed in the configuration's `guesses`.
ModelConfig config_from_shapes(const ShapeMap& shapes, const std::string& where,
                               const Given& given = {});

// The other functions are for parsers.
// Returns a configuration that states nothing yet: sizes are 0, depths and heads are empty.
ModelConfig open_config(Family family);
// Fills what `config` leaves open from the shapes, and validates it. A stated size must agree with
// the shapes; the flags (qkv_bias, class_token, distilled, ...) are always those of the shapes.
void complete(ModelConfig& config, const ShapeMap& shapes, const std::string& where,
              const Given& given);
// Says how images are resized and normalised, for `guesses`.
std::string preprocess_text(const PreprocessConfig& preprocess);
// Normalises pixels to -1..1, as the ViTs of the augreg and JAX releases want them. All other
// models want ImageNet's statistics.
void set_half_normalization(PreprocessConfig& preprocess);
// Returns the family that has these tensor names.
Family family_of(const ShapeMap& shapes);

}  // namespace vitrun
