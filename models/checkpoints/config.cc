#include "models/checkpoints/config.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/shape_reader.h"
#include "models/checkpoints/timm_archs.h"

namespace vitrun {
namespace {

constexpr int kMaxSide = 2048, kMaxTokens = 16384, kMaxEmbed = 4096, kMaxHidden = 16384;
constexpr int kMaxClasses = 100000;

// --- validation -------------------------------------------------------------------------------

void check_image(const ModelConfig& c) {
  check_range("patch size", c.patch, 1, kMaxSide);
  check_range("image height", c.image_height, c.patch, kMaxSide);
  check_range("image width", c.image_width, c.patch, kMaxSide);
  check_range("number of patches", (c.image_height / c.patch) * (c.image_width / c.patch), 1,
              kMaxTokens);
}

// Checks the sizes of each stage. Swin doubles its width with each, so the first is checked before
// it is shifted.
void check_stages(const ModelConfig& c) {
  const int stages = count_of(c.depths);
  check_range("number of stages", stages, 1, c.family == Family::kVit ? 1 : kMaxStages);
  if (c.heads.size() != c.depths.size())
    fail("configuration: heads of ", c.heads.size(), " stages but depths of ", stages);
  check_range("embed_dim", c.embed_dim, 1, kMaxEmbed);
  check_range("hidden width of the MLP", c.mlp_hidden, 1, kMaxHidden);
  for (int s = 0; s < stages; s++) {
    const int embed = c.embed_dim << s, heads = at(c.heads, s);
    check_range("embed_dim", embed, 1, kMaxEmbed);
    check_range("hidden width of the MLP", c.mlp_hidden << s, 1, kMaxHidden);
    check_range("depth", at(c.depths, s), 1, kMaxBlocks);
    check_range("number of heads", heads, 1, embed);
    if (embed % heads)
      fail("configuration: embed_dim ", embed, " is no multiple of the number of heads, ", heads);
  }
}

// --- built-in architectures -------------------------------------------------------------------

struct VitSize {
  const char* name;
  int embed, depth, heads;
};
constexpr VitSize kVitSizes[] = {
    {"tiny", 192, 12, 3},
    {"small", 384, 12, 6},
    {"base", 768, 12, 12},
    {"large", 1024, 24, 16},
};

void set_image(ModelConfig& c, int side) {
  c.image_height = c.image_width = side;
  c.preprocess.crop_pct = side == 224 ? 0.9f : 1.0f;
}

ModelConfig vit_arch(const char* family, const VitSize& size, const char* variant, int patch,
                     int side) {
  ModelConfig c;
  c.arch = cat(family, "_", size.name, variant, "_patch", patch, "_", side);
  c.patch = patch;
  c.embed_dim = size.embed;
  c.mlp_hidden = 4 * size.embed;
  c.depths = {size.depth};
  c.heads = {size.heads};
  set_image(c, side);
  return c;
}

void add_vit(std::vector<ModelConfig>& all, int side) {
  for (const VitSize& size : kVitSizes)
    for (int patch : {32, 16, 8}) {
      ModelConfig c = vit_arch("vit", size, "", patch, side);
      const bool tiny = size.embed == 192, large = size.embed == 1024;
      if ((patch == 32 && tiny) || (patch == 8 && (tiny || large || side != 224))) continue;
      // Small with patch 8 exists only as DINO's, which wants ImageNet's statistics.
      if (patch != 8 || size.embed != 384) set_half_normalization(c.preprocess);
      all.push_back(std::move(c));
    }
}

void add_deit(std::vector<ModelConfig>& all, int side) {
  for (const VitSize& size : kVitSizes) {
    if (size.embed != 1024) {
      all.push_back(vit_arch("deit", size, "", 16, side));
      all.push_back(vit_arch("deit", size, "_distilled", 16, side));
      all.back().distilled = all.back().head_dist = true;
    }
    if (size.embed == 192) continue;
    ModelConfig c = vit_arch("deit3", size, "", 16, side);
    c.positions = Positions::kPatches;
    c.layer_scale = true;
    all.push_back(std::move(c));
  }
}

std::vector<ModelConfig> all_archs() {
  std::vector<ModelConfig> all;
  for (int side : {224, 384}) {
    add_vit(all, side);
    add_deit(all, side);
    add_swin_archs(all, side);
  }
  return all;
}

// Fails where the activation, the norms' epsilon or RoPE differ between the models that have such
// tensors: to guess them would be wrong as often as right.
void refuse_untold(const ModelConfig& c, const ShapeMap& shapes, const std::string& where) {
  const std::pair<bool, const char*> untold[] = {
      {shapes.contains("norm_pre.weight"), "a norm before the blocks (CLIP)"},
      {shapes.contains("attn_pool.latent"), "attention pooling (SigLIP)"},
      {shapes.contains("rope.freqs"), "RoPE"},
      {shapes.contains("visual_projection.weight"), "a projection (CLIP)"},
      {shapes.contains("visual_projection.transposed"), "a projection (CLIP)"},
      {c.gated, "a gated MLP"},
      {c.attn_norm || c.mlp_norm || c.qk_norm, "norms inside the blocks"}};
  for (const auto& [has, what] : untold)
    if (has)
      fail(where, ": the weights have ", what, ", and no tensor tells the activation, LayerNorm's ",
           "epsilon or RoPE of such a model: they must come from config.json or --arch");
}

}  // namespace

void settle_patch_embedding(ModelConfig& c, const ShapeReader& in) {
  const std::string name = "patch_embed.proj.weight";
  if (in.side(name, 4, 1) != 3)
    fail(in.file, ": tensor '", name, "' has ", in.side(name, 4, 1), " input channels, expected 3");
  settle(c.patch, in.side(name, 4, 2), "patch size", in.where);
  if (c.patch > kMaxSide)
    fail(in.where, ": configuration: patch size is ", c.patch, ", expected 1..", kMaxSide);
  settle(c.embed_dim, in.side(name, 4, 0), "embed_dim", in.where);
  c.patch_bias = in.has("patch_embed.proj.bias");
}

void settle_pool(ModelConfig& c, const Given& given, const std::string& where) {
  if (c.pool == Pool::kOpen) c.pool = given.pool;
  if (given.pool != Pool::kOpen && given.pool != c.pool)
    fail(where, ": the configuration says another pooling than --pool");
  if (c.pool == Pool::kOpen)
    c.pool = c.family == Family::kVit && c.class_token ? Pool::kToken : Pool::kAverage;
}

void validate(const ModelConfig& c) {
  check_image(c);
  check_stages(c);
  check_range("number of classes", c.num_classes, 0, kMaxClasses);
  if (!(c.norm_eps > 0 && c.norm_eps <= 1e-2f))
    fail("configuration: norm_eps is ", double{c.norm_eps}, ", expected a number in (0, 0.01]");
  if (c.distilled && !c.class_token)
    fail("configuration: a distillation token without a class token is not supported");
  if ((c.pool == Pool::kToken || c.pool == Pool::kTokenAndAverage) &&
      (c.family == Family::kSwin || !c.class_token))
    fail("configuration: pooling is 'token', but the model has no class token");
  if (c.distilled && c.pool != Pool::kToken && c.pool != Pool::kOpen)
    fail("configuration: pooling is '", c.pool == Pool::kAverage ? "avg" : "map",
         "', expected 'token' for a model with a distillation token");
  if (c.family == Family::kSwin && c.pool == Pool::kMap)
    fail("configuration: pooling is 'map', expected 'avg' for Swin");
  if (c.family == Family::kSwin) validate_swin(c);
  if (!c.labels.empty() && count_of(c.labels) != c.num_classes)
    fail("configuration: ", c.labels.size(), " labels for ", c.num_classes, " classes");
  check_info(c);
}

std::vector<std::string> known_archs() {
  std::vector<std::string> names;
  for (const ModelConfig& c : all_archs()) names.push_back(c.arch);
  return names;
}

ModelConfig config_from_arch(const std::string& arch) {
  const std::string name = arch.substr(0, arch.find('.'));
  for (ModelConfig& c : all_archs())
    if (c.arch == name) return c;
  std::string known;
  for (const std::string& k : known_archs()) known += " " + k;
  fail("unknown architecture '", arch, "'; known:", known,
       ", and where there are weights timm's other ViTs");
}

ModelConfig config_from_arch(const std::string& arch, const ShapeMap& shapes,
                             const std::string& where, const Given& given) {
  const std::vector<std::string> known = known_archs();
  const std::string name = arch.substr(0, arch.find('.'));
  const bool built_in = std::ranges::find(known, name) != known.end();
  const TimmArch* timm = built_in ? nullptr : timm_arch(name, "--arch");
  ModelConfig c = timm ? open_config(Family::kVit) : config_from_arch(arch);
  c.num_classes = 0;
  if (c.family == Family::kVit) c.image_height = c.image_width = 0;
  if (timm) {
    c.arch = name;
    apply_arch(*timm, c);
    c.embed_dim = timm->width;
    c.pool = given.pool == Pool::kOpen ? timm->pool : given.pool;
    c.guesses.push_back("preprocessing " + preprocess_text(c.preprocess));
  }
  complete(c, shapes, where, given);
  return c;
}

ModelConfig config_from_shapes(const ShapeMap& shapes, const std::string& where,
                               const Given& given) {
  ModelConfig c = open_config(family_of(shapes));
  c.swin_v2 = is_swin_v2(shapes);
  const bool vit = c.family == Family::kVit;
  if (vit && given.transformers) c.norm_eps = 1e-12f;
  const bool mean = vit && shapes.contains("fc_norm.weight") && given.pool == Pool::kOpen;
  if (mean) c.pool = Pool::kAverage;
  complete(c, shapes, where, given);
  refuse_untold(c, shapes, where);
  if (given.transformers && c.layer_scale && !c.relative_bias) c.norm_eps = 1e-6f;  // DINOv2's
  const bool augreg = vit && !c.distilled && !c.layer_scale;
  if (augreg) set_half_normalization(c.preprocess);
  if (c.image_height != 224 || given.transformers) c.preprocess.crop_pct = 1;
  if (given.transformers) {
    c.preprocess.squash = true;
    if (augreg) c.preprocess.resize = PreprocessConfig::Resize::kBilinear;
  }
  if (vit && c.class_token && given.pool == Pool::kOpen)
    c.guesses.push_back(mean ? "pooling avg" : "pooling token");
  if (!vit) c.guesses.push_back(cat("an image of ", c.image_height, "x", c.image_width));
  c.guesses.push_back(cat("LayerNorm's epsilon ", c.norm_eps));
  c.guesses.push_back("activation GELU (erf)");
  c.guesses.push_back("preprocessing " + preprocess_text(c.preprocess));
  return c;
}

std::string preprocess_text(const PreprocessConfig& p) {
  return cat(p.resize == PreprocessConfig::Resize::kBicubic ? "bicubic" : "bilinear",
             p.squash ? ", both sides" : ", shorter side", ", crop_pct ", p.crop_pct, ", mean ",
             p.mean[0], " ", p.mean[1], " ", p.mean[2], ", std ", p.std[0], " ", p.std[1], " ",
             p.std[2]);
}

void set_half_normalization(PreprocessConfig& p) {
  std::fill(std::begin(p.mean), std::end(p.mean), 0.5f);
  std::fill(std::begin(p.std), std::end(p.std), 0.5f);
}

ModelConfig open_config(Family family) {
  ModelConfig c;
  c.arch = family == Family::kVit ? "vit" : "swin";
  c.family = family;
  c.norm_eps = family == Family::kVit ? 1e-6f : 1e-5f;
  c.image_height = c.image_width = c.patch = c.num_classes = 0;
  c.embed_dim = c.mlp_hidden = 0;
  return c;
}

void complete(ModelConfig& config, const ShapeMap& shapes, const std::string& where,
              const Given& given) {
  if (config.family != family_of(shapes))
    fail(where, ": the configuration says ", config.family == Family::kVit ? "ViT" : "Swin",
         ", the tensor names say ", config.family == Family::kVit ? "Swin" : "ViT");
  const std::string& file = given.weights.empty() ? where : given.weights;
  const ShapeReader in{shapes, where, file};
  try {
    config.family == Family::kVit ? complete_vit(config, in, given)
                                  : complete_swin(config, in, given);
    validate(config);
  } catch (const Error& e) {
    const std::string text = e.what();
    if (text.starts_with(where) || text.starts_with(file)) throw;
    fail(where, ": ", text);
  }
}

Family family_of(const ShapeMap& shapes) {
  return shapes.contains("layers.0.blocks.0.norm1.weight") ? Family::kSwin : Family::kVit;
}

}  // namespace vitrun
