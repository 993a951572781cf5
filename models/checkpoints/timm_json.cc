// Reads timm's config.json: the form of today's hub, with "pretrained_cfg", and the flat one before
// it.
#include <algorithm>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"

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
  if (!o.has(key) || c.num_classes == 0) return;
  c.labels = read_labels(o, key);
  if (is_placeholder(c.labels)) c.labels.clear();
  if (!o.has("label_descriptions")) return;
  const Object descriptions = o.object("label_descriptions");
  for (std::string& label : c.labels)
    if (descriptions.has(label.c_str())) label = descriptions.text(label.c_str());
}

// Arguments that are read or checked below or have no effect on inference.
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
    "pos_embed",
    "pretrained_window_sizes",
};

void refuse_args(const Object& args) {
  for (const auto& [key, value] : args.json_value().items()) {
    const bool known = std::any_of(std::begin(kKnownArgs), std::end(kKnownArgs),
                                   [&name = key](const char* k) { return name == k; });
    if (!known && !value.is_null()) fail(args.path(), ": '", key, "' is not supported");
  }
  require(args, "in_chans", 3, "3");
  require(args, "act_layer", "gelu", "\"gelu\"");
  require(args, "fc_norm", false, "false");
  require(args, "always_partition", false, "false");
  require(args, "pre_norm", false, "false");
  require(args, "qk_norm", false, "false");
  require(args, "reg_tokens", 0, "0");
  require(args, "pos_embed", "learn", "\"learn\"");
  require(args, "dynamic_img_pad", false, "false");
}

// timm's number of heads by a part of the architecture's name; the first line that fits counts.
struct Heads {
  const char* part;
  int heads;
};
constexpr Heads kHeads[] = {
    {"_base_patch16_gap_224", 16},
    {"_plus_", 14},
    {"_tiny_", 3},
    {"_small_", 6},
    {"_medium_", 8},
    {"_base_", 12},
    {"_betwixt_", 10},
    {"_large_", 16},
    {"_huge_", 16},
    {"_giant_", 16},
    {"_gigantic_", 16},
    {"_so400m_", 16},
};

// Settles what neither "model_args" nor the shapes tell: the named architecture's heads.
void read_heads(const Object& args, const Given& given, ModelConfig& c) {
  read(args, "num_heads", c.heads);
  if (c.family == Family::kSwin || args.has("num_heads")) return;
  if (given.heads) c.heads = {given.heads};
  for (const Heads& known : kHeads)
    if (c.heads.empty() && c.arch.find(known.part) != c.arch.npos) c.heads = {known.heads};
}

// Reads the number of classes, which is 0 of a model without a head.
void read_classes(const Object& o, ModelConfig& c) {
  if (o.has("num_classes") && o.at("num_classes") != 0) read(o, "num_classes", c.num_classes);
}

void read_model_args(const Object& args, const Given& given, ModelConfig& c) {
  refuse_args(args);
  if (args.has("img_size")) std::tie(c.image_height, c.image_width) = args.size("img_size");
  if (args.has("patch_size")) c.patch = args.square("patch_size");
  read_classes(args, c);
  if (args.has("embed_dim")) c.mlp_hidden = 0;  // the named architecture's width no longer fits
  read(args, "embed_dim", c.embed_dim);
  read(args, "depth", c.depths);
  read(args, "depths", c.depths);
  read_heads(args, given, c);
  read_timm_windows(args, c);
  read_mlp_ratio(args, c);
}

void check_model_args(const Object& args, const ModelConfig& c) {
  if (args.has("qkv_bias")) check_flag(args, "qkv_bias", args.flag("qkv_bias"), c.qkv_bias);
  if (c.family == Family::kSwin) return;
  if (args.has("class_token"))
    check_flag(args, "class_token", args.flag("class_token"), c.class_token);
  if (args.has("init_values")) check_flag(args, "init_values", true, c.layer_scale);
  if (args.has("no_embed_class") && c.class_token)
    check_flag(args, "no_embed_class", args.flag("no_embed_class"), !c.pos_embed_has_prefix);
}

// Reads global_pool, which changes the model and none of its weights.
void read_pool(const Object& o, ModelConfig& c) {
  if (!o.has("global_pool")) return;
  const std::string text = o.text("global_pool");
  if (text != "token" && text != "avg") o.bad("global_pool", "\"token\" or \"avg\"");
  const Pool pool = text == "token" ? Pool::kToken : Pool::kAverage;
  if (c.pool != Pool::kOpen && c.pool != pool) o.bad("global_pool", "the same in all places");
  c.pool = pool;
}

// timm's ViT with a class token that pools the mean has fc_norm in place of the last norm, unless
// its arguments say otherwise.
void check_pool(const Object& root, const Object& args, const ModelConfig& c) {
  if (c.family == Family::kVit && c.class_token && c.pool == Pool::kAverage && !args.has("fc_norm"))
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

// Returns the named architecture if it is built in, with the image size left to the shapes, else an
// open configuration with timm's default preprocessing.
ModelConfig timm_base(const Object& root, Family family) {
  const std::string arch = root.text("architecture");
  const std::string name = arch.substr(0, arch.find('.'));
  const std::vector<std::string> known = known_archs();
  if (std::find(known.begin(), known.end(), name) != known.end()) {
    ModelConfig c = config_from_arch(name);
    c.num_classes = 0;
    if (c.family == Family::kVit) c.image_height = c.image_width = 0;
    return c;
  }
  const auto starts = [&](const char* prefix) { return name.starts_with(prefix); };
  if (!starts("vit_") && !starts("deit_") && !starts("deit3_") && !starts("swin_") &&
      !starts("swinv2_"))
    fail(root.path(), ": architecture '", arch,
         "' is not supported; expected a vit_, deit_, deit3_, swin_ or swinv2_ model");
  ModelConfig c = open_config(family);
  c.swin_v2 = starts("swinv2_");
  c.arch = name;
  c.preprocess.crop_pct = 0.875f;
  return c;
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
  read_classes(cfg, c);
  read_classes(root, c);
  read_pool(args, c);
  read_pool(root, c);
  complete(c, shapes, root.path(), given);
  check_model_args(args, c);
  check_pool(root, args, c);
  read_timm_preprocess(cfg, c);
  read_timm_labels(cfg, c);
  read_timm_labels(root, c);
  return c;
}

}  // namespace vitrun
