// The configuration of a checkpoint: family, dimensions, preprocessing and labels. It comes from a
// config.json (timm hub or Hugging Face transformers), an --arch name or the shapes of the weights.
// build_graph() (models/families) turns it into a graph, which is what a .qbin stores. Nothing that
// runs a .qbin knows of configurations.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/graph.h"
#include "models/graph/model_info.h"

namespace vitrun {

// kVit stands for all whose blocks are ViT's: DeiT, DINO, CLIP, SigLIP, BEiT, EVA and others.
enum class Family { kVit, kSwin };

// timm's global_pool: the class token, the mean of the patches, or attention with a learned query
// (kMap). kTokenAndAverage is both side by side. Open: nobody has said.
enum class Pool { kOpen, kToken, kAverage, kMap, kTokenAndAverage };

// The tokens that have a learned position.
enum class Positions { kNone, kPatches, kAll };

// How positions are resized to another grid: as timm does, as transformers does, as FlexiViT.
enum class PositionFilter { kBicubicAntialias, kBicubic, kBilinear, kGeometric };

// Rotary positions of the patches; prefix tokens have none. A pair of columns is turned by
// position / temperature^(pair / pairs) along one axis, for half of the pairs along each axis.
struct RopeConfig {
  // kIndex: position i + offset, scaled by reference / side where there is a reference. kCentred:
  // 2 pi (2 (i + 1/2) / side - 1), DINOv3's. kMixed: both axes with learned frequencies.
  enum class Grid { kNone, kIndex, kCentred, kMixed };
  Grid grid = Grid::kNone;
  bool neighbours = true;    // pairs are columns 2i and 2i + 1, else i and i + half a head
  bool width_first = false;  // the first half of the pairs turns along the width
  double temperature = 10000;
  double offset = 0;
  int reference = 0;  // side of the grid the model was trained on; 0: positions are not scaled
};

struct ModelConfig : ModelInfo {
  Family family = Family::kVit;
  int patch = 16;
  float norm_eps = 1e-6f;
  bool qkv_bias = true;
  int embed_dim = 192;      // width of the first stage; Swin's stage s has embed_dim << s
  int mlp_hidden = 768;     // hidden width of the first stage's MLPs, doubled with each stage
  std::vector<int> depths;  // blocks of each stage; ViT has one stage
  std::vector<int> heads;   // heads of each stage

  // The next are for the ViT family. Prefix tokens are the class token, the distillation token and
  // the registers, in this order.
  bool class_token = true;
  bool distilled = false;
  bool head_dist = false;  // the distillation token has a head of its own
  int registers = 0;
  Positions positions = Positions::kAll;
  // The table of positions in the weights: rows of prefix tokens, then a grid of patches, which is
  // resized where the image has another one. Tables of relative positions (BEiT, Swin) are of that
  // grid.
  int position_prefix = 0, position_height = 0, position_width = 0;
  PositionFilter position_filter = PositionFilter::kBicubicAntialias;
  PositionFilter relative_filter = PositionFilter::kGeometric;  // also of Swin's tables
  RopeConfig rope;
  bool patch_bias = true;
  bool norm_pre = false;  // a norm before the blocks (CLIP)
  bool last_norm = true;  // all tokens are normalised after the blocks
  bool fc_norm = false;   // what has been pooled is normalised
  bool layer_scale = false;
  bool qk_norm = false;    // q and k are normalised by head
  bool attn_norm = false;  // a norm before proj
  bool proj_bias = true;
  bool mlp_norm = false;  // a norm before fc2
  bool gated = false;     // SwiGLU: fc1 has the gate's rows, then the values'
  bool mlp_bias = true;
  bool relative_bias = false, shared_bias = false;  // tables of relative positions, one for all
  bool relative_mlp = false;  // an MLP makes them, of (log(1 + |dy|), log(1 + |dx|)) with signs
  bool post_norm = false;     // norms end the branches of a block instead of beginning them
  ActType act = ActType::kGelu;
  Pool pool = Pool::kOpen;
  int pool_heads = 0;        // of kMap
  int pool_hidden = 0;       // hidden width of kMap's MLP
  bool pool_prefix = false;  // kMap also pools the prefix tokens (timm's EVA)
  // OpenCLIP's attentional pooling: so many queries of this width take the place of the tokens
  // before the last norm, and the first is the class token's. 0: there is none.
  int pool_queries = 0, pool_width = 0;
  bool pooler = false;  // a Linear and an activation of the class token (transformers' ViTModel)
  ActType pooler_act = ActType::kTanh;
  int projection = 0;  // columns of the embedding's projection (CLIP); 0: there is none
  bool projection_bias = false;
  bool raw_features = false;  // "features" are the tokens before the last norm (CLIP, transformers)
  bool head_bias = true;

  int prefix() const { return int{class_token} + int{distilled} + registers; }
  int patches() const { return (image_height / patch) * (image_width / patch); }

  // The next seven are for Swin. A parser may give one entry of a list for all stages, and leaves
  // the shifts to complete().
  bool swin_v2 = false;  // norms behind the branches, attention by cosines
  bool absolute_positions = false;
  // The nominal sides of each stage's windows. A stage whose map is smaller along an axis uses the
  // map's side there; the bias table of the resulting h x w window has (2h - 1) * (2w - 1) rows.
  std::vector<int> windows;
  std::vector<int> shifts;  // of the windows of every other block, where the map is larger
  std::vector<int> pretrained_windows;  // SwinV2's; empty or 0: as `windows`
  bool pad_first = false;               // transformers pads a map before it is shifted, timm after
  bool fixed_windows = false;  // windows keep their side and shift on small maps (mmdetection)

  // Guesses are what neither the configuration nor the shapes state, as "heads 3 (embed_dim / 64)".
  std::vector<std::string> guesses;
};

// A checkpoint's properties that neither its configuration nor its shapes tell.
struct Given {
  int heads = 0;                          // 0: not said
  Pool pool = Pool::kOpen;                // what a user says where the configuration does not
  int image_height = 0, image_width = 0;  // the size a user wants; 0: the configuration's
  // The size that preprocessor_config.json makes, which counts where a model of transformers
  // resizes its positions by itself (DINOv2); 0: it does not say.
  int processor_height = 0, processor_width = 0;
  bool transformers = false;  // the tensors have transformers' names
  std::string weights = "";  // the file of the tensors, for messages; "": that of the configuration
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

// Returns the height and width that a preprocessor_config.json states for the images it makes; 0, 0
// if it states none.
std::pair<int, int> processor_size(const std::string& text, const std::string& where);

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
