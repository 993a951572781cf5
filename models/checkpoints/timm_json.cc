// Reads timm's config.json: the form of today's hub, with "pretrained_cfg", and the flat one before
// it.
#include <algorithm>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"
#include "models/checkpoints/timm_archs.h"

namespace vitrun {
namespace {

using nlohmann::json;

std::vector<std::string> read_labels(const Object& o, const char* key) {
  const json& value = o.at(key);
  if (value.is_object()) return indexed_labels(o, key);
  if (!value.is_array()) o.bad(key, "a list or a map of names");
  std::vector<std::string> labels;
  for (const json& label : value) {
    if (!label.is_string()) o.bad(key, "a list of strings");
    labels.push_back(label.get<std::string>());
  }
  return labels;
}

// Reads timm's labels: names (often WordNet ids), or their descriptions where there are any. A flat
// configuration calls them "labels".
void read_timm_labels(const Object& o, ModelConfig& c) {
  const char* key = o.has("label_names") ? "label_names" : "labels";
  if (!o.has(key)) return;
  c.labels = read_labels(o, key);
  if (is_placeholder(c.labels)) c.labels.clear();
  if (!o.has("label_descriptions")) return;
  const Object descriptions = o.object("label_descriptions");
  for (std::string& label : c.labels)
    if (descriptions.has(label.c_str())) label = descriptions.text(label.c_str());
}

// Arguments that are read or checked below, that the weights tell, or that have no effect on
// inference.
constexpr const char* kKnownArgs[] = {
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "dynamic_img_size",
    "strict_img_size",
    "dynamic_img_pad",
    "in_chans",
    "num_classes",
    "img_size",
    "patch_size",
    "embed_dim",
    "depth",
    "depths",
    "num_heads",
    "mlp_ratio",
    "window_size",
    "class_token",
    "qkv_bias",
    "init_values",
    "no_embed_class",
    "global_pool",
    "act_layer",
    "fc_norm",
    "always_partition",
    "pre_norm",
    "qk_norm",
    "reg_tokens",
    "num_reg_tokens",
    "pos_embed",
    "qkv_fused",
    "swiglu_mlp",
    "swiglu_align_to",
    "scale_mlp",
    "scale_attn_inner",
    "use_abs_pos_emb",
    "use_rel_pos_bias",
    "use_shared_rel_pos_bias",
    "use_rot_pos_emb",
    "use_fc_norm",
    "use_pre_transformer_norm",
    "use_post_transformer_norm",
    "final_norm",
    "proj_bias",
    "head_init_scale",
    "rope_type",
    "rope_temperature",
    "rope_grid_offset",
    "rope_grid_indexing",
    "rope_rotate_half",
    "ref_feat_shape",
    "attn_pool_num_heads",
    "attn_pool_mlp_ratio",
    "attn_type",
    "pool_include_prefix",
    "rope_shift_coords",
    "rope_jitter_coords",
    "rope_rescale_coords",
    "img_size_pad",
    "pretrained_window_sizes",
};

void refuse_args(const Object& args) {
  for (const auto& [key, value] : args.json_value().items()) {
    const bool known = std::any_of(std::begin(kKnownArgs), std::end(kKnownArgs),
                                   [&name = key](const char* k) { return name == k; });
    if (!known && !value.is_null()) fail(args.path(), ": '", key, "' is not supported");
  }
  require(args, "in_chans", 3, "3");
  require(args, "always_partition", false, "false");
  require(args, "dynamic_img_pad", false, "false");
}

void read_act(const Object& args, ModelConfig& c) {
  if (args.has("swiglu_mlp") && args.flag("swiglu_mlp")) c.act = ActType::kSilu;
  if (!args.has("act_layer")) return;
  constexpr std::pair<const char*, ActType> kActs[] = {{"gelu", ActType::kGelu},
                                                       {"gelu_tanh", ActType::kGeluTanh},
                                                       {"quick_gelu", ActType::kQuickGelu},
                                                       {"silu", ActType::kSilu}};
  const std::string name = args.text("act_layer");
  const auto* found = std::ranges::find(kActs, name, [](const auto& act) { return act.first; });
  if (found == std::end(kActs))
    args.bad("act_layer", "\"gelu\", \"gelu_tanh\", \"quick_gelu\" or \"silu\"");
  c.act = found->second;
}

// Reads what the arguments say of RoPE beside the architecture's name.
void read_rope(const Object& args, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  if (args.has("use_rot_pos_emb") &&
      args.flag("use_rot_pos_emb") != (rope.grid != RopeConfig::Grid::kNone))
    args.bad("use_rot_pos_emb", "what the architecture's name says");
  if (args.has("rope_temperature")) rope.temperature = args.number("rope_temperature");
  if (args.has("rope_grid_offset")) rope.offset = args.number("rope_grid_offset");
  if (args.has("rope_rotate_half")) rope.neighbours = !args.flag("rope_rotate_half");
  if (args.has("rope_grid_indexing")) rope.width_first = args.text("rope_grid_indexing") == "xy";
  if (args.has("ref_feat_shape")) rope.reference = args.square("ref_feat_shape");
  if (!args.has("rope_type")) return;
  using Grid = RopeConfig::Grid;
  const std::string type = args.text("rope_type");
  const Grid grid = type == "mixed"    ? Grid::kMixed
                    : type == "dinov3" ? Grid::kCentred
                                       : Grid::kIndex;
  if (type != "" && rope.grid != Grid::kNone && rope.grid != grid)
    args.bad("rope_type", "what the architecture's name says");
}

// Settles what neither "model_args" nor the shapes tell: the named architecture's heads.
void read_heads(const Object& args, const Given& given, ModelConfig& c) {
  const std::vector<int> named = c.heads;
  c.heads.clear();
  read(args, "num_heads", c.heads);
  if (c.heads.empty() && given.heads && c.family == Family::kVit) c.heads = {given.heads};
  if (c.heads.empty()) c.heads = named;
  if (args.has("pool_include_prefix")) c.pool_prefix = args.flag("pool_include_prefix");
  if (args.has("final_norm") && !args.flag("final_norm")) c.last_norm = false;
  if (args.has("attn_pool_num_heads")) c.pool_heads = args.integer("attn_pool_num_heads");
}

void read_model_args(const Object& args, const Given& given, ModelConfig& c) {
  refuse_args(args);
  if (args.has("img_size")) std::tie(c.image_height, c.image_width) = args.size("img_size");
  if (args.has("patch_size")) c.patch = args.square("patch_size");
  read_count(args, "num_classes", c.num_classes);
  if (args.has("embed_dim")) c.mlp_hidden = 0;  // the named architecture's width no longer fits
  read(args, "embed_dim", c.embed_dim);
  read(args, "depth", c.depths);
  read(args, "depths", c.depths);
  read_heads(args, given, c);
  read_act(args, c);
  read_rope(args, c);
  read_timm_windows(args, c);
  read_mlp_ratio(args, c);
}

// Registers are those of the arguments, else of the architecture.
void check_registers(const Object& args, const std::string& where, const ModelConfig& c) {
  int stated = c.registers;
  if (const TimmArch* known = timm_arch(c.arch, where)) stated = known->registers;
  for (const char* key : {"num_reg_tokens", "reg_tokens"}) read_count(args, key, stated);
  if (stated != c.registers)
    fail(where, ": the configuration says ", stated, " register tokens, the weights ", c.registers);
}

void check_model_args(const Object& args, const std::string& where, const ModelConfig& c) {
  if (args.has("qkv_bias")) check_flag(args, "qkv_bias", args.flag("qkv_bias"), c.qkv_bias);
  if (c.family == Family::kSwin) return;
  check_registers(args, where, c);
  if (args.flag_or("pool_include_prefix", false) &&
      (c.pool != Pool::kMap || c.act != ActType::kGelu))
    args.bad("pool_include_prefix", "false, but for attention pooling with GELU");
  if (args.has("swiglu_mlp")) check_flag(args, "swiglu_mlp", args.flag("swiglu_mlp"), c.gated);
  if (args.has("class_token"))
    check_flag(args, "class_token", args.flag("class_token"), c.class_token);
  if (args.has("init_values")) check_flag(args, "init_values", true, c.layer_scale);
  if (args.has("no_embed_class") && c.class_token && c.positions != Positions::kNone)
    check_flag(args, "no_embed_class", args.flag("no_embed_class"), c.positions != Positions::kAll);
}

// Reads global_pool, which changes the model and none of its weights.
void read_pool(const Object& o, ModelConfig& c) {
  if (!o.has("global_pool")) return;
  const Pool pool = read_pool_name(o, "global_pool");
  if (c.pool != Pool::kOpen && c.pool != pool) o.bad("global_pool", "the same in all places");
  c.pool = pool;
}

// timm's ViT with a class token that pools the mean has fc_norm in place of the last norm, unless
// its arguments or its architecture say otherwise.
void check_pool(const Object& root, const Object& args, Pool usual, const ModelConfig& c) {
  if (c.family == Family::kVit && c.class_token && c.pool == Pool::kAverage && !c.fc_norm &&
      usual != Pool::kAverage && !args.has("fc_norm") && !args.has("use_fc_norm"))
    fail(root.path(),
         ": 'global_pool' is \"avg\", expected \"token\" for weights with a class token ",
         "and without fc_norm");
}

void read_input_size(const Object& o, ModelConfig& c) {
  if (!o.has("input_size")) return;
  const std::vector<int> size = o.integers("input_size");
  if (size.size() != 3 || size[0] != 3) o.bad("input_size", "[3, height, width]");
  c.image_height = size[1];
  c.image_width = size[2];
}

// The keys of timm's configuration that say how an image becomes the model's input.
constexpr const char* kPreprocessKeys[] = {"mean", "std", "crop_pct", "interpolation", "crop_mode"};

// Reads preprocessing as timm's resolve_data_config() does: what is absent has timm's defaults,
// not the architecture's. Where nothing is said the architecture's stays, as a guess.
void read_timm_preprocess(const Object& o, ModelConfig& c) {
  PreprocessConfig& p = c.preprocess;
  if (std::none_of(std::begin(kPreprocessKeys), std::end(kPreprocessKeys),
                   [&](const char* key) { return o.has(key); })) {
    c.guesses.push_back("preprocessing " + preprocess_text(p));
    return;
  }
  p = PreprocessConfig();
  p.crop_pct = 0.875f;
  if (o.has("mean")) o.read_rgb("mean", p.mean);
  if (o.has("std")) o.read_rgb("std", p.std);
  if (o.has("crop_pct")) set_crop_pct(o, "crop_pct", static_cast<float>(o.number("crop_pct")), c);
  if (o.has("interpolation")) {
    const std::string name = o.text("interpolation");
    if (name != "bicubic" && name != "bilinear")
      o.bad("interpolation", "\"bicubic\" or \"bilinear\"");
    p.resize = name == "bicubic" ? PreprocessConfig::Resize::kBicubic
                                 : PreprocessConfig::Resize::kBilinear;
  }
  if (o.has("crop_mode")) {
    const std::string mode = o.text("crop_mode");
    if (mode != "center" && mode != "squash") o.bad("crop_mode", "\"center\" or \"squash\"");
    p.squash = mode == "squash";
  }
}

// Returns an open configuration with timm's default preprocessing, or the named architecture if it
// is built in, with the image size left to the shapes.
ModelConfig built_in(const std::string& name, Family family) {
  const std::vector<std::string> known = known_archs();
  if (std::find(known.begin(), known.end(), name) != known.end()) {
    ModelConfig c = config_from_arch(name);
    c.num_classes = 0;
    if (c.family == Family::kVit) c.image_height = c.image_width = 0;
    return c;
  }
  ModelConfig c = open_config(family);
  c.swin_v2 = name.starts_with("swinv2_");
  c.arch = name;
  c.preprocess.crop_pct = 0.875f;
  return c;
}

// Whether a name that timm 1.0.31 does not have is most likely a ViT's whose only secret is the
// number of heads: in these words' models no tensor tells the activation, the epsilon or RoPE.
bool is_plain(const std::string& name) {
  constexpr const char* kOther[] = {"rope",   "dino",     "clip",  "siglip", "eva", "beit", "pe_",
                                    "so400m", "giantopt", "flexi", "naflex", "sam", "rpn"};
  if (!name.starts_with("vit_") && !name.starts_with("deit_")) return false;
  return std::ranges::none_of(kOther,
                              [&](const char* word) { return name.find(word) != name.npos; });
}

ModelConfig timm_base(const Object& root, Family family) {
  const std::string arch = root.text("architecture");
  const std::string name = arch.substr(0, arch.find('.'));
  ModelConfig c = built_in(name, family);
  if (name.starts_with("swin")) return c;
  const TimmArch* known = timm_arch(name, root.path());
  if (!known) {
    if (!is_plain(name))
      fail(root.path(), ": architecture '", arch,
           "' is not supported; expected a ViT, DeiT, BEiT, ",
           "EVA, CLIP, SigLIP, DINO or Swin that timm 1.0.31 has");
    c.guesses.push_back(cat("architecture '", name,
                            "', which timm 1.0.31 does not have: GELU (erf), epsilon 1e-6"));
    return c;
  }
  apply_arch(*known, c);
  c.embed_dim = known->width;
  return c;
}

// The pooling that the architecture's name stands for, where nothing states another.
Pool usual_pool(const ModelConfig& c) {
  const TimmArch* known = timm_arch(c.arch, "");
  return known ? known->pool : Pool::kOpen;
}

}  // namespace

ModelConfig timm_config(const Object& root, const ShapeMap& shapes, const Given& given) {
  ModelConfig c = timm_base(root, family_of(shapes));
  const json none = json::object();
  const Object args = root.has("model_args") ? root.object("model_args") : Object(none, "");
  const bool flat = !root.has("pretrained_cfg");  // timm's form of before 2023
  const Object nested = flat ? Object(none, "") : root.object("pretrained_cfg");
  const Object& cfg = flat ? root : nested;
  read_input_size(cfg, c);
  read_model_args(args, given, c);
  read_count(cfg, "num_classes", c.num_classes);
  read_count(root, "num_classes", c.num_classes);
  read_pool(args, c);
  read_pool(root, c);
  const Pool usual = usual_pool(c);
  if (c.pool == Pool::kOpen) c.pool = usual;
  complete(c, shapes, root.path(), given);
  check_model_args(args, root.path(), c);
  check_pool(root, args, usual, c);
  read_timm_preprocess(cfg, c);
  read_timm_labels(cfg, c);
  read_timm_labels(root, c);
  if (c.num_classes == 0) c.labels.clear();
  return c;
}

}  // namespace vitrun
