// Reads transformers' config.json.
#include <algorithm>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"

namespace vitrun {
namespace {

using nlohmann::json;

// A model_type that is read. `vision` is the key of the vision tower's own configuration in one of
// images and text.
struct Type {
  const char* name;
  Family family;
  float norm_eps;  // the default
  const char* vision = "";
};
constexpr Type kTypes[] = {
    {"vit", Family::kVit, 1e-12f},
    {"deit", Family::kVit, 1e-12f},
    {"vit_msn", Family::kVit, 1e-6f},
    {"vit_mae", Family::kVit, 1e-12f},
    {"ijepa", Family::kVit, 1e-12f},
    {"beit", Family::kVit, 1e-12f},
    {"dinov2", Family::kVit, 1e-6f},
    {"dinov2_with_registers", Family::kVit, 1e-6f},
    {"dinov3_vit", Family::kVit, 1e-5f},
    {"clip", Family::kVit, 1e-5f, "vision_config"},
    {"clip_vision_model", Family::kVit, 1e-5f},
    {"siglip", Family::kVit, 1e-6f, "vision_config"},
    {"siglip_vision_model", Family::kVit, 1e-6f},
    {"swin", Family::kSwin, 1e-5f},
    {"swinv2", Family::kSwin, 1e-5f},
};

const Type& type_of(const Object& root) {
  const std::string name = root.text("model_type");
  std::string known;
  for (const Type& type : kTypes) {
    if (name == type.name) return type;
    known += cat(known.empty() ? "" : ", ", type.name);
  }
  root.bad("model_type", ("one of " + known).c_str());
}

bool is(const Type& type, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, type.name) != names.end();
}

void read_transformers_sizes(const Object& root, ModelConfig& c) {
  if (root.has("image_size")) std::tie(c.image_height, c.image_width) = root.size("image_size");
  if (root.has("patch_size")) c.patch = root.square("patch_size");
  if (c.family == Family::kSwin) {
    read_transformers_swin(root, c);
  } else {
    read(root, "hidden_size", c.embed_dim);
    read(root, "num_hidden_layers", c.depths);
    read(root, "num_attention_heads", c.heads);
    // DINOv2 has a ratio in its place.
    root.has("mlp_ratio") ? read_mlp_ratio(root, c) : read(root, "intermediate_size", c.mlp_hidden);
  }
}

void read_labels(const Object& root, ModelConfig& c) {
  if (!root.has("id2label")) return;
  c.labels = indexed_labels(root, "id2label");
  c.num_classes = count_of(c.labels);
  if (is_placeholder(c.labels)) c.labels.clear();
}

// Sizes that are absent because they are the defaults of the type.
void read_defaults(const Type& type, const ShapeMap& shapes, ModelConfig& c) {
  const auto fill = [](int& size, int usual) { size = size ? size : usual; };
  if (is(type, {"clip", "clip_vision_model"})) fill(c.patch, 32);
  if (is(type, {"siglip", "siglip_vision_model"})) fill(c.patch, 16);
  if (c.image_height == 0 && c.family == Family::kVit) c.image_height = c.image_width = 224;
  if (!c.heads.empty() || c.family == Family::kSwin) return;
  // No default of this type is to be relied on where the width is neither stated nor the default.
  const bool dinov3 = is(type, {"dinov3_vit"});
  const auto patches = shapes.find("patch_embed.proj.weight");
  const bool usual = patches != shapes.end() && !patches->second.empty() &&
                     patches->second[0] == (dinov3 ? 384 : 768);
  if (c.embed_dim || usual) c.heads = {dinov3 ? 6 : 12};
}

// The MLP's activation. SwiGLU's gate has SiLU in DINOv2, whatever "hidden_act" says.
void read_act(const Object& root, const Type& type, ModelConfig& c) {
  constexpr std::pair<const char*, ActType> kActs[] = {
      {"gelu", ActType::kGelu},
      {"quick_gelu", ActType::kQuickGelu},
      {"gelu_pytorch_tanh", ActType::kGeluTanh},
      {"gelu_new", ActType::kGeluTanh},
      {"silu", ActType::kSilu},
  };
  std::string name = is(type, {"clip", "clip_vision_model"})       ? "quick_gelu"
                     : is(type, {"siglip", "siglip_vision_model"}) ? "gelu_pytorch_tanh"
                                                                   : "gelu";
  if (root.has("hidden_act")) name = root.text("hidden_act");
  const bool gated = root.has("use_swiglu_ffn") && root.flag("use_swiglu_ffn");
  const auto* found = std::ranges::find(kActs, name, [](const auto& act) { return act.first; });
  if (found == std::end(kActs) || (c.family == Family::kSwin && found->second != ActType::kGelu))
    root.bad("hidden_act", c.family == Family::kSwin
                               ? "\"gelu\" (the erf form)"
                               : "\"gelu\" (the erf form), \"quick_gelu\", \"gelu_pytorch_tanh\" "
                                 "or \"silu\"");
  c.act = gated ? ActType::kSilu : found->second;
}

// DINOv3's positions.
void read_rope(const Object& root, ModelConfig& c) {
  c.rope = {RopeConfig::Grid::kCentred, false, false, 100};
  if (root.has("rope_theta")) c.rope.temperature = root.number("rope_theta");
  if (root.has("rope_parameters")) {
    const Object rope = root.object("rope_parameters");
    if (rope.has("rope_theta")) c.rope.temperature = rope.number("rope_theta");
  }
}

// Sets what a type's classifier or pooled output takes of the tokens.
void set_pool(const Object& root, const Type& type, const ShapeMap& shapes, ModelConfig& c) {
  const bool classifier = shapes.contains("head.weight");
  c.position_filter = is(type, {"dinov2_with_registers"}) ? PositionFilter::kBicubicAntialias
                                                          : PositionFilter::kBicubic;
  if (is(type, {"dinov2", "dinov2_with_registers"}) && classifier) c.pool = Pool::kTokenAndAverage;
  if (is(type, {"siglip", "siglip_vision_model"}))
    c.pool = classifier || !shapes.contains("attn_pool.latent") ? Pool::kAverage : Pool::kMap;
  if (is(type, {"clip", "clip_vision_model"})) {
    c.raw_features = true;
    if (classifier) c.pool = Pool::kAverage;
  }
  if (is(type, {"beit"}))
    c.pool = root.flag_or("use_mean_pooling", true) ? Pool::kAverage : Pool::kToken;
  if (is(type, {"ijepa"})) c.pool = Pool::kAverage;
}

// Fails where the weights have not what all models of the type have, or what the configuration
// says.
void check_parts(const Object& vision, const Type& type, const ModelConfig& c) {
  const bool clip = is(type, {"clip", "clip_vision_model"}),
             dino = type.family == Family::kVit && std::string(type.name).starts_with("dino"),
             no_class =
                 c.family == Family::kSwin || is(type, {"siglip", "siglip_vision_model", "ijepa"});
  const std::pair<bool, const char*> lacking[] = {{c.class_token == no_class, "class token"},
                                                  {clip && !c.norm_pre, "norm before the blocks"},
                                                  {dino && !c.layer_scale, "LayerScale"}};
  for (const auto& [wrong, part] : lacking)
    if (wrong && c.family == Family::kVit)
      fail(vision.path(), ": 'model_type' is \"", type.name, "\", but the weights ",
           c.class_token && no_class ? "have a " : "have no ", part);
  int registers = c.registers;
  read_count(vision, "num_register_tokens", registers);
  if (registers != c.registers)
    fail(vision.path(), ": the configuration says ", registers, " register tokens, the weights ",
         c.registers);
}

// DINOv2 and DINOv3 take images of any size and resize positions to them, so the size is the image
// processor's; others insist on their own.
Given with_size(const Type& type, Given given, ModelConfig& c) {
  if (!is(type, {"dinov2", "dinov2_with_registers", "dinov3_vit"}) || given.image_height ||
      given.processor_height == 0)
    return given;
  given.image_height = given.processor_height;
  given.image_width = given.processor_width;
  if (given.image_height != c.image_height || given.image_width != c.image_width)
    c.guesses.push_back(cat("images of ", given.image_height, "x", given.image_width,
                            ", as preprocessor_config.json makes them (the configuration says ",
                            c.image_height, "x", c.image_width, ")"));
  return given;
}

}  // namespace

void set_transformers_preprocess(const std::string& type, PreprocessConfig& p) {
  constexpr float kClipMean[] = {0.48145466f, 0.4578275f, 0.40821073f};
  constexpr float kClipStd[] = {0.26862954f, 0.26130258f, 0.27577711f};
  const auto starts = [&](const char* name) { return type.starts_with(name); };
  p = PreprocessConfig();
  p.floor_crop = true;
  p.squash = !starts("clip") && !starts("dinov2");
  // DeiT and DINOv2 take the middle 224 of 256 pixels.
  p.crop_pct = type == "deit" || starts("dinov2") ? 0.875f : 1.0f;
  if (starts("vit") || starts("dinov3")) p.resize = PreprocessConfig::Resize::kBilinear;
  if (type == "vit" || starts("siglip") || starts("beit")) set_half_normalization(p);
  if (!starts("clip")) return;
  std::copy_n(kClipMean, 3, p.mean);
  std::copy_n(kClipStd, 3, p.std);
}

ModelConfig transformers_config(const Object& root, const ShapeMap& shapes, const Given& given) {
  const Type& type = type_of(root);
  const bool tower = root.has(type.vision);
  const Object vision = tower ? root.object(type.vision) : root;
  for (const Object& o : {root, vision}) {
    require(o, "num_channels", 3, "3");
    if (type.family == Family::kVit) require(o, "use_absolute_embeddings", false, "false");
    require(o, "pruned_heads", json::object(), "{}");
    if (o.has("quantization_config")) fail(o.path(), ": quantized weights are not supported");
  }
  ModelConfig c = open_config(type.family);
  c.arch = type.name;
  c.norm_eps = type.norm_eps;
  if (vision.has("layer_norm_eps"))
    c.norm_eps = static_cast<float>(vision.number("layer_norm_eps"));
  read_transformers_sizes(vision, c);
  read_labels(root, c);
  read_defaults(type, shapes, c);
  read_act(vision, type, c);
  if (vision.has("pooler_act")) {
    if (vision.text("pooler_act") == "gelu")
      c.pooler_act = ActType::kGelu;
    else
      require(vision, "pooler_act", "tanh", "\"tanh\" or \"gelu\"");
  }
  if (is(type, {"dinov3_vit"})) read_rope(vision, c);
  set_pool(vision, type, shapes, c);
  complete(c, shapes, root.path(), with_size(type, given, c));
  check_parts(vision, type, c);
  if (is(type, {"clip", "clip_vision_model"}) && c.num_classes) c.last_norm = false;
  if (c.family == Family::kSwin) finish_transformers_swin(root, c);
  if (vision.has("qkv_bias") && !is(type, {"beit"}))
    check_flag(vision, "qkv_bias", vision.flag("qkv_bias"), c.qkv_bias);
  set_transformers_preprocess(type.name, c.preprocess);
  c.guesses.push_back("preprocessing, as no preprocessor_config.json says it: " +
                      preprocess_text(c.preprocess));
  return c;
}

}  // namespace vitrun
