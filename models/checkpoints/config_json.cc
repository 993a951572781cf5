// Reads the two conventions of config.json (timm hub, Hugging Face transformers) and transformers'
// preprocessor_config.json.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config.h"
#include "models/checkpoints/json.h"

namespace vitrun {
namespace {

using nlohmann::json;

constexpr int kMaxNesting = 8;

// A JSON object and its path for messages ("config.json: pretrained_cfg.mean: ..."). A key that is
// null counts as absent. The getters fail unless the key holds that type.
class Object {
 public:
  Object(const json& value, std::string path) : value_(value), path_(std::move(path)) {
    if (!value.is_object()) fail(path_, ": expected a JSON object");
  }

  bool has(const char* key) const {
    const auto it = value_.find(key);
    return it != value_.end() && !it->is_null();
  }
  const json& at(const char* key) const {
    if (!has(key)) fail(path_, ": no '", key, "'");
    return value_[key];
  }
  Object object(const char* key) const { return {at(key), path_ + ": " + key}; }
  std::string text(const char* key) const {
    if (!at(key).is_string()) bad(key, "a string");
    return at(key).get<std::string>();
  }
  bool flag(const char* key) const {
    if (!at(key).is_boolean()) bad(key, "true or false");
    return at(key).get<bool>();
  }
  double number(const char* key) const {
    if (!at(key).is_number()) bad(key, "a number");
    return at(key).get<double>();
  }
  int integer(const char* key) const { return as_integer(key, at(key)); }

  // Returns one positive integer or a list of them, as a list.
  std::vector<int> integers(const char* key) const {
    const json& value = at(key);
    if (!value.is_array()) return {as_integer(key, value)};
    std::vector<int> list;
    for (const json& v : value) list.push_back(as_integer(key, v));
    if (list.empty()) bad(key, "an integer or a list of integers");
    return list;
  }
  // Reads three numbers, or one that stands for all three.
  void read_rgb(const char* key, float (&out)[3]) const {
    const json& value = at(key);
    for (size_t i = 0; i < 3; i++) {
      const json& v = value.is_array() && value.size() == 3 ? value[i] : value;
      if (!v.is_number()) bad(key, "three numbers");
      out[i] = v.get<float>();
    }
  }
  // Returns (height, width), from a pair or from the one side of a square.
  std::pair<int, int> size(const char* key) const {
    const std::vector<int> sides = integers(key);
    if (sides.size() > 2) bad(key, "one or two integers");
    return {sides.front(), sides.back()};
  }
  int square(const char* key) const {
    const auto [height, width] = size(key);
    if (height != width) bad(key, "a square");
    return height;
  }

  const json& json_value() const { return value_; }
  const std::string& path() const { return path_; }

  [[noreturn]] void bad(const char* key, const char* expected) const {
    fail(path_, ": '", key, "' is ", at(key).dump().substr(0, 60), ", expected ", expected);
  }

 private:
  int as_integer(const char* key, const json& value) const {
    const double d = value.is_number() ? value.get<double>() : 0;
    if (!(d >= 1 && d <= 1e6) || d != std::floor(d)) bad(key, "a positive integer");
    return static_cast<int>(d);
  }

  const json& value_;
  std::string path_;
};

void read(const Object& o, const char* key, int& out) {
  if (o.has(key)) out = o.integer(key);
}

void read(const Object& o, const char* key, std::vector<int>& out) {
  if (o.has(key)) out = o.integers(key);
}

// Fails unless the key is absent or has the given value. Another value would be another model.
template <class T>
void require(const Object& o, const char* key, const T& expected, const char* text) {
  if (o.has(key) && o.at(key) != expected) o.bad(key, text);
}

// Fails where a configuration states another flag than the shapes, from which flags come.
void check_flag(const Object& o, const char* key, bool stated, bool found) {
  if (stated != found)
    fail(o.path(), ": '", key, "' is ", o.at(key).dump().substr(0, 20),
         ", but the weights say otherwise");
}

// Sets crop_pct, which must be above 0.1 so that no image is enlarged beyond reason.
void set_crop_pct(const Object& o, const char* key, float pct, ModelConfig& c) {
  if (!(pct > 0.1f && pct <= 1)) o.bad(key, "a crop of more than 0.1 and at most 1 of the image");
  c.preprocess.crop_pct = pct;
}

// Returns out / size. If it is not exact it is rounded down, so that floor(out / crop_pct) is
// `size`.
float crop_ratio(int out, int size) {
  const float ratio = static_cast<float>(double{1} * out / size);
  return double{ratio} * size == out ? ratio : std::nextafter(ratio, 0.0f);
}

// --- labels -----------------------------------------------------------------------------------

// Reads {"0": "tench", ...}, which must have every index from 0 on.
std::vector<std::string> indexed_labels(const Object& o, const char* key) {
  const json& map = o.at(key);
  std::vector<std::string> labels(map.size());
  for (size_t i = 0; i < labels.size(); i++) {
    const auto it = map.find(std::to_string(i));
    if (it == map.end() || !it->is_string()) o.bad(key, "a string for each class from \"0\" on");
    labels[i] = it->get<std::string>();
  }
  return labels;
}

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

// Reads timm's labels: names (often WordNet ids), or their descriptions where there are any.
void read_timm_labels(const Object& o, ModelConfig& c) {
  if (!o.has("label_names")) return;
  c.labels = read_labels(o, "label_names");
  if (!o.has("label_descriptions")) return;
  const Object descriptions = o.object("label_descriptions");
  for (std::string& label : c.labels)
    if (descriptions.has(label.c_str())) label = descriptions.text(label.c_str());
}

// Whether labels are the "LABEL_0", "LABEL_1", ... that transformers writes where nobody named the
// classes.
bool is_placeholder(const std::vector<std::string>& labels) {
  for (size_t i = 0; i < labels.size(); i++)
    if (labels[i] != "LABEL_" + std::to_string(i)) return false;
  return true;
}

// --- timm hub ---------------------------------------------------------------------------------

// Arguments that are read or checked below or have no effect on inference.
constexpr const char* kKnownArgs[] = {
    "drop_rate",       "pos_drop_rate", "patch_drop_rate", "proj_drop_rate",   "attn_drop_rate",
    "drop_path_rate",  "weight_init",   "fix_init",        "dynamic_img_size", "strict_img_size",
    "dynamic_img_pad", "in_chans",      "num_classes",     "img_size",         "patch_size",
    "embed_dim",       "depth",         "depths",          "num_heads",        "mlp_ratio",
    "window_size",     "class_token",   "qkv_bias",        "init_values",      "no_embed_class",
    "global_pool",     "act_layer",     "fc_norm",         "always_partition", "pre_norm",
    "qk_norm",         "reg_tokens",    "pos_embed",
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

void read_mlp_ratio(const Object& o, ModelConfig& c) {
  if (!o.has("mlp_ratio") || c.embed_dim == 0) return;
  const double hidden = c.embed_dim * o.number("mlp_ratio");
  if (!(hidden >= 1 && hidden <= 1e6)) o.bad("mlp_ratio", "a positive ratio");
  c.mlp_hidden = static_cast<int>(hidden);
}

// Reads an int, or a list with one int or [h, w] for each stage, which must all be the same.
void read_window(const Object& o, ModelConfig& c) {
  if (!o.has("window_size")) return;
  json flat = o.at("window_size").is_array() ? o.at("window_size").flatten() : o.at("window_size");
  const int first = flat.is_object() && !flat.empty() && flat.begin()->is_number_integer()
                        ? flat.begin()->get<int>()
                        : 0;
  for (const json& side : flat)
    if (flat.is_object() && side != first) o.bad("window_size", "the same square in all stages");
  c.window = flat.is_object() ? first : o.integer("window_size");
  if (c.window < 1) o.bad("window_size", "a positive integer");
}

void read_model_args(const Object& args, ModelConfig& c) {
  refuse_args(args);
  if (args.has("img_size")) std::tie(c.image_height, c.image_width) = args.size("img_size");
  if (args.has("patch_size")) c.patch = args.square("patch_size");
  read(args, "num_classes", c.num_classes);
  if (args.has("embed_dim")) c.mlp_hidden = 0;  // the named architecture's width no longer fits
  read(args, "embed_dim", c.embed_dim);
  read(args, "depth", c.depths);
  read(args, "depths", c.depths);
  read(args, "num_heads", c.heads);
  read_window(args, c);
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

// Fails on pooling other than the graph's, which would be another model with the same weights.
void check_pool(const Object& o, const ModelConfig& c) {
  const bool token = c.family == Family::kVit && c.class_token;
  require(o, "global_pool", token ? "token" : "avg", token ? "\"token\"" : "\"avg\"");
}

void read_input_size(const Object& o, ModelConfig& c) {
  if (!o.has("input_size")) return;
  const std::vector<int> size = o.integers("input_size");
  if (size.size() != 3 || size[0] != 3) o.bad("input_size", "[3, height, width]");
  c.image_height = size[1];
  c.image_width = size[2];
}

void read_timm_preprocess(const Object& o, ModelConfig& c) {
  if (o.has("mean")) o.read_rgb("mean", c.preprocess.mean);
  if (o.has("std")) o.read_rgb("std", c.preprocess.std);
  if (o.has("crop_pct")) set_crop_pct(o, "crop_pct", static_cast<float>(o.number("crop_pct")), c);
  if (o.has("interpolation")) {
    const std::string name = o.text("interpolation");
    if (name != "bicubic" && name != "bilinear")
      o.bad("interpolation", "\"bicubic\" or \"bilinear\"");
    c.preprocess.resize = name == "bicubic" ? PreprocessConfig::Resize::kBicubic
                                            : PreprocessConfig::Resize::kBilinear;
  }
  if (o.has("crop_mode")) {
    const std::string mode = o.text("crop_mode");
    if (mode != "center" && mode != "squash") o.bad("crop_mode", "\"center\" or \"squash\"");
    c.preprocess.squash = mode == "squash";
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
  if (!starts("vit_") && !starts("deit_") && !starts("deit3_") && !starts("swin_"))
    fail(root.path(), ": architecture '", arch,
         "' is not supported; expected a vit_, deit_, deit3_ or swin_ model");
  ModelConfig c = open_config(family);
  c.arch = name;
  c.preprocess.crop_pct = 0.875f;
  return c;
}

ModelConfig timm_config(const Object& root, const ShapeMap& shapes) {
  ModelConfig c = timm_base(root, family_of(shapes));
  const json none = json::object();
  const Object args = root.has("model_args") ? root.object("model_args") : Object(none, "");
  const Object cfg = root.has("pretrained_cfg") ? root.object("pretrained_cfg") : Object(none, "");
  read_input_size(cfg, c);
  read_model_args(args, c);
  read(cfg, "num_classes", c.num_classes);
  read(root, "num_classes", c.num_classes);
  complete(c, shapes, root.path());
  check_model_args(args, c);
  check_pool(args, c);
  check_pool(root, c);
  read_timm_preprocess(cfg, c);
  read_timm_labels(cfg, c);
  read_timm_labels(root, c);
  return c;
}

// --- transformers -----------------------------------------------------------------------------

void read_transformers_sizes(const Object& root, ModelConfig& c) {
  if (root.has("image_size")) std::tie(c.image_height, c.image_width) = root.size("image_size");
  if (root.has("patch_size")) c.patch = root.square("patch_size");
  if (c.family == Family::kSwin) {
    read(root, "embed_dim", c.embed_dim);
    read(root, "depths", c.depths);
    read(root, "num_heads", c.heads);
    read(root, "window_size", c.window);
    read_mlp_ratio(root, c);
  } else {
    read(root, "hidden_size", c.embed_dim);
    read(root, "num_hidden_layers", c.depths);
    read(root, "num_attention_heads", c.heads);
    read(root, "intermediate_size", c.mlp_hidden);
  }
  if (root.has("id2label")) {
    c.labels = indexed_labels(root, "id2label");
    c.num_classes = count_of(c.labels);
    if (is_placeholder(c.labels)) c.labels.clear();
  }
}

// Sets the defaults of these models' image processors, which preprocessor_config.json may change.
void set_transformers_preprocess(const std::string& type, PreprocessConfig& p) {
  p.squash = true;
  p.crop_pct = type == "deit" ? 0.875f : 1.0f;  // DeiT takes the middle 224 of 256 pixels
  if (type != "vit") return;
  p.resize = PreprocessConfig::Resize::kBilinear;
  std::fill(std::begin(p.mean), std::end(p.mean), 0.5f);
  std::fill(std::begin(p.std), std::end(p.std), 0.5f);
}

ModelConfig transformers_config(const Object& root, const ShapeMap& shapes) {
  const std::string type = root.text("model_type");
  if (type != "vit" && type != "deit" && type != "swin")
    root.bad("model_type", "\"vit\", \"deit\" or \"swin\"");
  require(root, "hidden_act", "gelu", "\"gelu\" (the erf form)");
  require(root, "num_channels", 3, "3");
  require(root, "use_absolute_embeddings", false, "false");
  ModelConfig c = open_config(type == "swin" ? Family::kSwin : Family::kVit);
  c.arch = type;
  c.norm_eps = type == "swin" ? 1e-5f : 1e-12f;  // the defaults of their configuration classes
  if (root.has("layer_norm_eps")) c.norm_eps = static_cast<float>(root.number("layer_norm_eps"));
  read_transformers_sizes(root, c);
  complete(c, shapes, root.path());
  if (root.has("qkv_bias")) check_flag(root, "qkv_bias", root.flag("qkv_bias"), c.qkv_bias);
  set_transformers_preprocess(type, c.preprocess);
  return c;
}

// --- transformers' preprocessor_config.json ---------------------------------------------------

struct Sides {
  int height = 0, width = 0;
  bool shortest = false;  // the shorter side becomes `height`, the ratio stays
};

// Reads 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}.
Sides read_sides(const Object& o, const char* key) {
  if (!o.at(key).is_object()) {
    const auto [height, width] = o.size(key);
    return {height, width, false};
  }
  const Object size = o.object(key);
  if (!size.has("shortest_edge")) return {size.integer("height"), size.integer("width"), false};
  const int side = size.integer("shortest_edge");
  return {side, side, true};
}

void read_resample(const Object& o, PreprocessConfig& p) {
  if (!o.has("resample")) return;
  constexpr int kPillowBilinear = 2, kPillowBicubic = 3;
  const int filter = o.integer("resample");
  if (filter != kPillowBilinear && filter != kPillowBicubic)
    o.bad("resample", "2 (bilinear) or 3 (bicubic)");
  p.resize = filter == kPillowBicubic ? PreprocessConfig::Resize::kBicubic
                                      : PreprocessConfig::Resize::kBilinear;
}

void read_resize_and_crop(const Object& o, ModelConfig& c) {
  if (!o.has("size")) return;
  const Sides size = read_sides(o, "size");
  const bool crop = o.has("do_center_crop") && o.flag("do_center_crop");
  const Sides out = crop && o.has("crop_size") ? read_sides(o, "crop_size") : size;
  const bool fits = out.height == c.image_height && out.width == c.image_width &&
                    (crop || !size.shortest || c.image_height == c.image_width);
  if (!fits)
    fail(o.path(), ": makes images of ", out.height, "x", out.width, ", the model takes ",
         c.image_height, "x", c.image_width);
  // One ratio must serve both sides.
  if (int64_t{size.height} * out.width != int64_t{size.width} * out.height)
    o.bad("size", "the aspect ratio of crop_size");
  c.preprocess.squash = !size.shortest;
  set_crop_pct(o, "size", crop_ratio(out.height, size.height), c);
}

// Validates a configuration to which preprocessing and labels have been added since complete().
void validate_again(const ModelConfig& c, const std::string& where) {
  try {
    validate(c);
  } catch (const Error& e) {
    fail(where, ": ", e.what());
  }
}

}  // namespace

void apply_preprocessor_json(const std::string& text, ModelConfig& config,
                             const std::string& where) {
  const json value = parse_json(text, where, kMaxNesting);
  const Object o(value, where);
  PreprocessConfig& p = config.preprocess;
  require(o, "do_resize", true, "true");
  require(o, "do_rescale", true, "true");
  require(o, "do_normalize", true, "true");
  if (o.has("rescale_factor") && std::abs(o.number("rescale_factor") * 255 - 1) > 1e-6)
    o.bad("rescale_factor", "1/255");
  if (o.has("image_mean")) o.read_rgb("image_mean", p.mean);
  if (o.has("image_std")) o.read_rgb("image_std", p.std);
  read_resample(o, p);
  read_resize_and_crop(o, config);
  validate_again(config, where);
}

ModelConfig config_from_json(const std::string& text, const ShapeMap& shapes,
                             const std::string& where) {
  const json value = parse_json(text, where, kMaxNesting);
  const Object root(value, where);
  if (!root.has("architecture") && !root.has("model_type"))
    fail(where, ": neither 'architecture' (timm) nor 'model_type' (transformers)");
  ModelConfig c =
      root.has("architecture") ? timm_config(root, shapes) : transformers_config(root, shapes);
  validate_again(c, where);
  return c;
}

}  // namespace vitrun
