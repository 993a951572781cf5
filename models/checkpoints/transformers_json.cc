// Reads transformers' config.json.
#include <algorithm>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"

namespace vitrun {
namespace {

using nlohmann::json;

void read_transformers_sizes(const Object& root, ModelConfig& c) {
  if (root.has("image_size")) std::tie(c.image_height, c.image_width) = root.size("image_size");
  if (root.has("patch_size")) c.patch = root.square("patch_size");
  if (c.family == Family::kSwin) {
    read_transformers_swin(root, c);
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

}  // namespace

void set_transformers_preprocess(const std::string& type, PreprocessConfig& p) {
  p = PreprocessConfig();
  p.floor_crop = true;
  p.squash = true;
  p.crop_pct = type == "deit" ? 0.875f : 1.0f;  // DeiT takes the middle 224 of 256 pixels
  if (!type.starts_with("vit")) return;
  p.resize = PreprocessConfig::Resize::kBilinear;
  set_half_normalization(p);
}

ModelConfig transformers_config(const Object& root, const ShapeMap& shapes, const Given& given) {
  const std::string type = root.text("model_type");
  const bool swin = type == "swin" || type == "swinv2";
  if (type != "vit" && type != "deit" && type != "vit_msn" && !swin)
    root.bad("model_type", "\"vit\", \"deit\", \"vit_msn\", \"swin\" or \"swinv2\"");
  require(root, "hidden_act", "gelu", "\"gelu\" (the erf form)");
  require(root, "num_channels", 3, "3");
  require(root, "pruned_heads", json::object(), "{}");
  if (root.has("quantization_config")) fail(root.path(), ": quantized weights are not supported");
  ModelConfig c = open_config(swin ? Family::kSwin : Family::kVit);
  c.arch = type;
  c.norm_eps = swin ? 1e-5f : type == "vit_msn" ? 1e-6f : 1e-12f;  // their defaults
  if (root.has("layer_norm_eps")) c.norm_eps = static_cast<float>(root.number("layer_norm_eps"));
  read_transformers_sizes(root, c);
  complete(c, shapes, root.path(), given);
  if (swin) finish_transformers_swin(root, c);
  if (root.has("qkv_bias")) check_flag(root, "qkv_bias", root.flag("qkv_bias"), c.qkv_bias);
  set_transformers_preprocess(type, c.preprocess);
  c.guesses.push_back("preprocessing, as no preprocessor_config.json says it: " +
                      preprocess_text(c.preprocess));
  return c;
}

}  // namespace vitrun
