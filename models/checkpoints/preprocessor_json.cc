// Reads transformers' preprocessor_config.json.
#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"

namespace vitrun {
namespace {

using nlohmann::json;

constexpr int kMaxNesting = 8;

// Returns out / size. If it is not exact it is rounded down, so that floor(out / crop_pct) is
// `size`.
float crop_ratio(int out, int size) {
  const float ratio = static_cast<float>(double{1} * out / size);
  return double{ratio} * size == out ? ratio : std::nextafter(ratio, 0.0f);
}

// A class of image processors may do this in a way of its own where a key is absent.
enum class Like { kUnnamed, kPlain, kDeit, kClip, kConvNext };

// The image processors that are read, by the beginning of their class's name, and the model_type
// whose images they make.
struct Processor {
  const char* name;
  const char* type;
  Like like = Like::kPlain;
};
constexpr Processor kProcessors[] = {{"ViTImage", "vit"},
                                     {"ViTFeature", "vit"},
                                     {"DeiTImage", "deit", Like::kDeit},
                                     {"DeiTFeature", "deit", Like::kDeit},
                                     {"BitImage", "clip", Like::kClip},
                                     {"CLIPImage", "clip", Like::kClip},
                                     {"CLIPFeature", "clip", Like::kClip},
                                     {"SiglipImage", "siglip"},
                                     {"BeitImage", "beit"},
                                     {"BeitFeature", "beit"},
                                     {"DINOv3ViTImage", "dinov3_vit"},
                                     {"ConvNextImage", "deit", Like::kConvNext},
                                     {"ConvNextFeature", "deit", Like::kConvNext}};
constexpr Processor kUnnamed = {"", "", Like::kUnnamed};

// Keys that are read below or that change no pixel of an RGB image.
constexpr const char* kKnownKeys[] = {
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
    "default_to_square",
    "image_processor_type",
    "data_format",
    "do_pad",
    "pad_size",
    "do_reduce_labels",
    "feature_extractor_type",
    "processor_class",
    "device",
    "return_tensors",
    "input_data_format",
    "disable_grouping",
    "auto_map",
    "do_thumbnail",
    "do_align_long_axis",
    "do_flip_channel_order",
    "_valid_processor_keys",
    "reduce_labels",
};

struct Sides {
  int height = 0, width = 0;
  bool shortest = false;  // the shorter side becomes `height`, the ratio stays
};

// Reads 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}.
// One number alone is a square's side, or the shorter edge, as the class or the file says.
Sides read_sides(const Object& o, const char* key, bool square) {
  if (!o.at(key).is_object()) {
    const auto [height, width] = o.size(key);
    const bool shortest = o.at(key).is_number() && !o.flag_or("default_to_square", square);
    return {height, width, shortest};
  }
  const Object size = o.object(key);
  if (size.has("longest_edge")) o.bad(key, "\"height\" and \"width\", or \"shortest_edge\"");
  if (!size.has("shortest_edge")) return {size.integer("height"), size.integer("width"), false};
  const int side = size.integer("shortest_edge");
  return {side, side, true};
}

// Returns the class of the image processor, "" where the file does not name it.
std::string processor_type(const Object& o) {
  for (const char* key : {"image_processor_type", "feature_extractor_type"})
    if (o.has(key)) return o.text(key);
  return "";
}

const Processor& processor_of(const Object& o, const std::string& type) {
  if (type.empty()) return kUnnamed;
  for (const Processor& known : kProcessors)
    if (type.starts_with(known.name)) return known;
  fail(o.path(), ": the image processor is '", type,
       "', expected that of ViT, DeiT, BEiT, CLIP, SigLIP, DINOv3, ConvNext or Bit");
}

void set_defaults(const Processor& processor, PreprocessConfig& p) {
  const Like like = processor.like;
  if (like != Like::kUnnamed) set_transformers_preprocess(processor.type, p);
  if (like == Like::kDeit || like == Like::kConvNext) set_half_normalization(p);
  p.floor_crop = true;
}

// Fails on keys that would change pixels in a way that nobody here does, and notes unknown ones.
void check_keys(const Object& o, ModelConfig& c) {
  for (const char* key : {"do_flip_channel_order", "do_pad", "do_thumbnail", "do_align_long_axis"})
    require(o, key, false, "false");
  require(o, "do_resize", true, "true");
  for (const auto& [key, value] : o.json_value().items()) {
    const bool known = std::any_of(std::begin(kKnownKeys), std::end(kKnownKeys),
                                   [&name = key](const char* k) { return name == k; });
    if (known || value.is_null() || value == false) continue;
    if (key.starts_with("do_")) o.bad(key.c_str(), "false");
    c.guesses.push_back(cat("'", key, "' of ", o.path(), " has no effect"));
  }
}

void read_resample(const Object& o, PreprocessConfig& p) {
  if (!o.has("resample")) return;
  constexpr int kPillowBilinear = 2, kPillowBicubic = 3;
  const json& value = o.at("resample");
  if (value != kPillowBilinear && value != kPillowBicubic)
    o.bad("resample", "2 (bilinear) or 3 (bicubic)");
  p.resize = value == kPillowBicubic ? PreprocessConfig::Resize::kBicubic
                                     : PreprocessConfig::Resize::kBilinear;
}

[[noreturn]] void fail_size(const Object& o, const Sides& out, const ModelConfig& c) {
  fail(o.path(), ": makes images of ", out.height, "x", out.width, ", the model takes ",
       c.image_height, "x", c.image_width, "; if it is to take the former, give --image-size ",
       out.height, "x", out.width);
}

// Returns the size to which a processor resizes unless it is told.
Sides default_size(Like like, const ModelConfig& c) {
  if (like == Like::kUnnamed) return {c.image_height, c.image_width, false};
  const int side = like == Like::kDeit ? 256 : 224;
  return {side, side, like == Like::kClip};
}

void read_resize_and_crop(const Object& o, Like like, ModelConfig& c) {
  const bool crops = like == Like::kDeit || like == Like::kClip;
  const bool crop = o.flag_or("do_center_crop", crops);
  if (o.has("crop_pct")) o.bad("crop_pct", "null, but for ConvNext's image processor");
  if (!o.has("size") && like == Like::kUnnamed && !crop) return;
  const Sides size =
      o.has("size") ? read_sides(o, "size", like != Like::kClip) : default_size(like, c);
  const Sides cut = o.has("crop_size") ? read_sides(o, "crop_size", true)
                    : crops            ? Sides{224, 224, false}
                                       : size;
  const Sides out = crop ? cut : size;
  const bool fits = out.height == c.image_height && out.width == c.image_width &&
                    (crop || !size.shortest || c.image_height == c.image_width);
  if (!fits) fail_size(o, out, c);
  // One ratio must serve both sides.
  if (int64_t{size.height} * out.width != int64_t{size.width} * out.height)
    o.bad("size", "the aspect ratio of crop_size");
  c.preprocess.squash = !size.shortest;
  set_crop_pct(o, o.has("size") ? "size" : "crop_size", crop_ratio(out.height, size.height), c);
}

// Reads ConvNeXT's: below 384 pixels the shorter side becomes size / crop_pct and the middle is
// cut out, from there on both sides become the size.
void read_convnext(const Object& o, ModelConfig& c) {
  if (o.flag_or("do_center_crop", false)) o.bad("do_center_crop", "false for ConvNext");
  const Sides size = o.has("size") ? read_sides(o, "size", false) : Sides{384, 384, true};
  if (size.height != c.image_height || size.width != c.image_width) fail_size(o, size, c);
  c.preprocess.squash = size.height >= 384;
  c.preprocess.crop_pct = 1;
  if (c.preprocess.squash) return;
  c.preprocess.crop_pct = 0.875f;
  if (o.has("crop_pct")) set_crop_pct(o, "crop_pct", static_cast<float>(o.number("crop_pct")), c);
}

// Rescaling by a factor f and not by 1/255, and then (x f - mean) / std, is
// (x / 255 - mean / (255 f)) / (std / (255 f)).
void read_values(const Object& o, PreprocessConfig& p) {
  if (o.has("image_mean")) o.read_rgb("image_mean", p.mean);
  if (o.has("image_std")) o.read_rgb("image_std", p.std);
  if (!o.flag_or("do_normalize", true)) {
    std::fill(std::begin(p.mean), std::end(p.mean), 0.0f);
    std::fill(std::begin(p.std), std::end(p.std), 1.0f);
  }
  double factor = o.has("rescale_factor") ? o.number("rescale_factor") : 1.0 / 255;
  if (!o.flag_or("do_rescale", true)) factor = 1;
  if (!(factor > 1e-6 && factor <= 1)) o.bad("rescale_factor", "a number in (1e-6, 1]");
  const double scale = factor * 255;
  if (std::abs(scale - 1) <= 1e-6) return;
  for (float& mean : p.mean) mean = static_cast<float>(mean / scale);
  for (float& std : p.std) std = static_cast<float>(std / scale);
}

}  // namespace

std::pair<int, int> processor_size(const std::string& text, const std::string& where) {
  const json value = parse_json(text, where, kMaxNesting);
  const Object o(value, where);
  const char* key = o.flag_or("do_center_crop", o.has("crop_size")) ? "crop_size" : "size";
  if (!o.has(key)) return {0, 0};
  const Sides sides = read_sides(o, key, true);
  return {sides.height, sides.shortest ? sides.height : sides.width};
}

void apply_preprocessor_json(const std::string& text, ModelConfig& config,
                             const std::string& where) {
  const json value = parse_json(text, where, kMaxNesting);
  const Object o(value, where);
  const std::string type = processor_type(o);
  if (type.starts_with("TimmWrapper")) return;  // config.json says it
  std::erase_if(config.guesses, [](const auto& g) { return g.starts_with("preprocessing"); });
  const Processor& processor = processor_of(o, type);
  const Like like = processor.like;
  set_defaults(processor, config.preprocess);
  check_keys(o, config);
  read_resample(o, config.preprocess);
  like == Like::kConvNext ? read_convnext(o, config) : read_resize_and_crop(o, like, config);
  read_values(o, config.preprocess);
  validate_again(config, where);
}

}  // namespace vitrun
