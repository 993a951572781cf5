// Reads OpenCLIP's open_clip_config.json: the image tower, ViT's or one of timm's.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "models/base/error.h"
#include "models/checkpoints/config_parsers.h"
#include "models/checkpoints/timm_archs.h"

namespace vitrun {
namespace {

using nlohmann::json;

// Keys of "vision_cfg" that are read, that the weights tell or that have no effect on inference.
constexpr const char* kKnownKeys[] = {
    "image_size",
    "patch_size",
    "width",
    "layers",
    "head_width",
    "mlp_ratio",
    "ls_init_value",
    "no_ln_pre",
    "pool_type",
    "patch_dropout",
    "output_tokens",
    "final_ln_after_pool",
    "timm_model_name",
    "timm_pool",
    "timm_proj",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "timm_proj_bias",
    "norm_kwargs",
    "act_kwargs",
    "pos_embed_type",
    "attentional_pool",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "timm_use_cls_pool",
};

void refuse_keys(const Object& vision) {
  for (const auto& [key, value] : vision.json_value().items()) {
    const bool known =
        std::ranges::any_of(kKnownKeys, [&name = key](const char* k) { return name == k; });
    if (!known && !value.is_null() && value != false)
      fail(vision.path(), ": '", key, "' is not supported");
  }
  require(vision, "pos_embed_type", "learnable", "\"learnable\"");
}

// Attentional pooling. "parallel" and "cascade" have a second one, whose query is the embedding.
void read_pooler(const Object& vision, ModelConfig& c) {
  if (!vision.has("attentional_pool") || vision.at("attentional_pool") == false) return;
  require(vision, "attentional_pool", true, "true or false");
  if (c.pool == Pool::kAverage) vision.bad("pool_type", "\"tok\" with attentional_pool");
  c.pool_queries = vision.has("attn_pooler_queries") ? vision.integer("attn_pooler_queries") : 256;
  c.pool_heads = vision.has("attn_pooler_heads") ? vision.integer("attn_pooler_heads") : 8;
}

void read_tower(const Object& vision, ModelConfig& c) {
  c.arch = "open_clip";
  c.norm_eps = 1e-5f;
  read(vision, "width", c.embed_dim);
  if (vision.json_value().value("layers", json()).is_number()) read(vision, "layers", c.depths);
  const int head = vision.has("head_width") ? vision.integer("head_width") : 64;
  if (head < 1 || c.embed_dim % head) vision.bad("head_width", "a divisor of 'width'");
  c.heads = {c.embed_dim / head};
  if (vision.has("norm_kwargs"))
    if (const Object norm = vision.object("norm_kwargs"); norm.has("eps"))
      c.norm_eps = static_cast<float>(norm.number("eps"));
  if (vision.has("act_kwargs") && !vision.at("act_kwargs").empty()) {
    const Object act = vision.object("act_kwargs");
    require(act, "approximate", "tanh", "\"tanh\"");
    c.act = ActType::kGeluTanh;
  }
  if (vision.has("pool_type")) {
    const std::string pool = vision.text("pool_type");
    if (pool != "tok" && pool != "avg") vision.bad("pool_type", "\"tok\" or \"avg\"");
    if (pool == "avg") c.pool = Pool::kAverage;
  }
  read_pooler(vision, c);
}

void read_timm_tower(const Object& vision, ModelConfig& c) {
  const std::string name = vision.text("timm_model_name");
  const TimmArch* arch = timm_arch(name.substr(0, name.find('.')), vision.path());
  if (!arch) vision.bad("timm_model_name", "a ViT that timm 1.0.31 has");
  c.arch = arch->name;
  apply_arch(*arch, c);
  c.pool = arch->pool;
  if (vision.has("timm_pool") && vision.text("timm_pool") != "")
    c.pool = read_pool_name(vision, "timm_pool");
}

void read_preprocess(const Object& root, ModelConfig& c) {
  set_transformers_preprocess("clip", c.preprocess);
  c.preprocess.floor_crop = false;  // torchvision's centre crop
  if (!root.has("preprocess_cfg")) return;
  const Object o = root.object("preprocess_cfg");
  if (o.has("mean")) o.read_rgb("mean", c.preprocess.mean);
  if (o.has("std")) o.read_rgb("std", c.preprocess.std);
  if (o.has("interpolation")) {
    const std::string how = o.text("interpolation");
    if (how != "bicubic" && how != "bilinear")
      o.bad("interpolation", "\"bicubic\" or \"bilinear\"");
    if (how == "bilinear") c.preprocess.resize = PreprocessConfig::Resize::kBilinear;
  }
  if (o.has("resize_mode")) {
    const std::string mode = o.text("resize_mode");
    if (mode != "shortest" && mode != "squash") o.bad("resize_mode", "\"shortest\" or \"squash\"");
    c.preprocess.squash = mode == "squash";
  }
}

}  // namespace

ModelConfig open_clip_config(const Object& root, const ShapeMap& shapes, const Given& given) {
  const Object model = root.object("model_cfg"), vision = model.object("vision_cfg");
  refuse_keys(vision);
  ModelConfig c = open_config(Family::kVit);
  if (vision.has("image_size")) std::tie(c.image_height, c.image_width) = vision.size("image_size");
  if (vision.has("patch_size")) c.patch = vision.square("patch_size");
  const bool timm = vision.has("timm_model_name");
  timm ? read_timm_tower(vision, c) : read_tower(vision, c);
  if (!timm && model.flag_or("quick_gelu", false)) c.act = ActType::kQuickGelu;
  complete(c, shapes, root.path(), given);
  if (vision.flag_or("final_ln_after_pool", false)) {
    c.last_norm = false;
    c.fc_norm = true;
  }
  read_preprocess(root, c);
  return c;
}

}  // namespace vitrun
