// A configuration leaves things open: who states them, what is guessed, and timm's and
// transformers' defaults for preprocessing.
#include <doctest/doctest.h>

#include <algorithm>

#include "models/base/error.h"
#include "models/checkpoints/config.h"
#include "models/checkpoints/timm_archs.h"
#include "models/families/families.h"

using namespace vitrun;

namespace {

using Strings = std::vector<std::string>;

ShapeMap shapes_of(const ModelConfig& config) {
  ShapeMap shapes;
  for (const Param& p : build_graph(config).params) shapes[p.name] = p.dims;
  return shapes;
}

// A ViT of width 128 without a built-in name.
ModelConfig small_vit() {
  ModelConfig c = config_from_arch("vit_tiny_patch16_224");
  c.embed_dim = 128;
  c.mlp_hidden = 512;
  c.heads = {2};
  return c;
}

bool guesses(const ModelConfig& c, const std::string& what) {
  return std::ranges::any_of(c.guesses, [&](const std::string& g) { return g.starts_with(what); });
}

template <class Call>
std::string error_of(Call call) {
  try {
    (void)call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("guesses: shapes alone leave heads, pooling, epsilon and preprocessing open") {
  const ShapeMap shapes = shapes_of(small_vit());
  const ModelConfig c = config_from_shapes(shapes, "f");
  CHECK(c.heads == std::vector<int>{2});
  for (const char* what : {"heads 2 (embed_dim / 64)", "pooling token", "LayerNorm's epsilon 1e-06",
                           "activation GELU", "preprocessing bicubic"})
    CHECK_MESSAGE(guesses(c, what), what);
  const ModelConfig stated =
      config_from_shapes(shapes, "f", {.heads = 4, .pool = Pool::kAverage, .transformers = true});
  CHECK(stated.heads == std::vector<int>{4});
  CHECK(stated.pool == Pool::kAverage);
  CHECK_FALSE(guesses(stated, "heads"));
  CHECK_FALSE(guesses(stated, "pooling"));
  CHECK(stated.norm_eps == 1e-12f);
  CHECK(stated.preprocess.squash);
}

TEST_CASE("guesses: what is said must not contradict the configuration") {
  const ShapeMap shapes = shapes_of(small_vit());
  const std::string json = R"({"model_type":"vit","num_attention_heads":2})";
  CHECK(config_from_json(json, shapes, "f", {.heads = 2}).heads == std::vector<int>{2});
  CHECK(error_of([&] { return config_from_json(json, shapes, "f", {.heads = 4}); }) ==
        "f: the configuration says heads 2, --heads 4");
  const std::string token = R"({"architecture":"vit_x_patch16_224","global_pool":"token"})";
  CHECK(error_of([&] {
          return config_from_json(token, shapes, "f", {.pool = Pool::kAverage});
        }).find("another pooling than --pool") != std::string::npos);
  ModelConfig gap = small_vit();
  gap.class_token = false;
  CHECK(error_of([&] {
          return config_from_shapes(shapes_of(gap), "f", {.pool = Pool::kToken});
        }).find("no class token") != std::string::npos);
  const ShapeMap swin = shapes_of(config_from_arch("swin_tiny_patch4_window7_224"));
  CHECK(error_of([&] {
          return config_from_shapes(swin, "f", {.heads = 3});
        }).find("--heads is for ViT") != std::string::npos);
}

TEST_CASE("guesses: heads of timm's architectures that are not embed_dim / 64") {
  // The number of heads that timm 1.0.31 gives these names.
  const std::tuple<const char*, int, int> known[] = {{"vit_huge_patch14_224", 1280, 16},
                                                     {"vit_giant_patch14_224", 1408, 16},
                                                     {"deit3_huge_patch14_224", 1280, 16},
                                                     {"vit_base_patch16_plus_240", 896, 14}};
  for (const auto& [arch, width, heads] : known) {
    ModelConfig c = small_vit();
    c.embed_dim = width;
    c.heads = {heads};
    c.depths = {1};
    const ModelConfig read =
        config_from_json(R"({"architecture":")" + std::string(arch) + R"("})", shapes_of(c), "f");
    CHECK_MESSAGE(read.heads == std::vector<int>{heads}, arch);
    CHECK_FALSE(guesses(read, "heads"));
    CHECK(config_from_arch(arch, shapes_of(c), "f").heads == std::vector<int>{heads});
  }
  const std::string other = R"({"architecture":"vit_other_patch16_224"})";
  CHECK(guesses(config_from_json(other, shapes_of(small_vit()), "f"), "heads 2"));
}

TEST_CASE("timm's flat configuration, of before pretrained_cfg") {
  ModelConfig model = config_from_arch("vit_tiny_patch16_224");
  model.num_classes = 3;
  const ModelConfig c = config_from_json(
      R"({"architecture":"vit_tiny_patch16_224","num_classes":3,"input_size":[3,224,224],)"
      R"("mean":[0.1,0.2,0.3],"crop_pct":0.8,"interpolation":"bilinear","labels":["a","b","c"],)"
      R"("first_conv":"patch_embed.proj","classifier":"head","num_features":192})",
      shapes_of(model), "f");
  CHECK(c.labels == Strings{"a", "b", "c"});
  CHECK(c.preprocess.mean[1] == 0.2f);
  CHECK(c.preprocess.std[1] == 0.224f);  // timm's default, not the architecture's
  CHECK(c.preprocess.crop_pct == 0.8f);
  CHECK(c.preprocess.resize == PreprocessConfig::Resize::kBilinear);
  CHECK_FALSE(guesses(c, "preprocessing"));
}

TEST_CASE("preprocessor_config.json: what rescales, normalises and is not known") {
  ModelConfig c = config_from_arch("vit_tiny_patch16_224");
  apply_preprocessor_json(R"({"do_rescale":false,"image_mean":127.5,"image_std":127.5})", c, "f");
  CHECK(c.preprocess.mean[0] == 0.5f);
  CHECK(c.preprocess.std[2] == 0.5f);
  apply_preprocessor_json(R"({"rescale_factor":0.00784313725490196,"do_normalize":false})", c, "f");
  CHECK(c.preprocess.mean[0] == 0);
  CHECK(c.preprocess.std[0] == doctest::Approx(0.5));  // (2 x / 255 - 0) / 1
  c.guesses = {"preprocessing of no file"};
  apply_preprocessor_json(R"({"image_processor_type":"ViTImageProcessorFast","gamma":2})", c, "f");
  CHECK(c.guesses == Strings{"'gamma' of f has no effect"});
  CHECK(c.preprocess.mean[0] == 0.5f);
  CHECK(c.preprocess.floor_crop);
  CHECK(c.preprocess.squash);
}

TEST_CASE("preprocessor_config.json: what a class does where keys are absent") {
  // image_mean[0], image_std[0], resample and size of a new object of transformers 5.24's classes.
  const std::tuple<const char*, float, float, bool, bool, float> classes[] = {
      {"ViTImageProcessor", 0.5f, 0.5f, false, true, 1},
      {"DeiTImageProcessor", 0.5f, 0.5f, true, true, 0.875f},
      {"BeitImageProcessor", 0.5f, 0.5f, true, true, 1},
      {"SiglipImageProcessor", 0.5f, 0.5f, true, true, 1},
      {"CLIPImageProcessor", 0.48145466f, 0.26862954f, true, false, 1},
      {"BitImageProcessor", 0.48145466f, 0.26862954f, true, false, 1},
      {"DINOv3ViTImageProcessorFast", 0.485f, 0.229f, false, true, 1}};
  for (const auto& [name, mean, std, bicubic, squash, crop] : classes) {
    CAPTURE(name);
    ModelConfig c = config_from_arch("vit_tiny_patch16_224");
    apply_preprocessor_json(cat(R"({"image_processor_type":")", name, R"("})"), c, "f");
    CHECK(c.preprocess.mean[0] == mean);
    CHECK(c.preprocess.std[0] == std);
    CHECK((c.preprocess.resize == PreprocessConfig::Resize::kBicubic) == bicubic);
    CHECK(c.preprocess.squash == squash);
    CHECK(c.preprocess.crop_pct == crop);
  }
  ModelConfig c = config_from_arch("vit_tiny_patch16_224");
  CHECK(error_of([&] {
          apply_preprocessor_json(R"({"image_processor_type":"ViTImageProcessor","size":384})", c,
                                  "f");
          return 0;
        }) ==
        "f: makes images of 384x384, the model takes 224x224; if it is to take the former, give "
        "--image-size 384x384");
}

TEST_CASE("preprocessing of a type of transformers' without preprocessor_config.json") {
  // The hub's files of these types have these: mean[0], bicubic, both sides, crop_pct.
  const std::tuple<const char*, float, bool, bool, float> types[] = {
      {"vit", 0.5f, false, true, 1},
      {"vit_msn", 0.485f, false, true, 1},
      {"vit_mae", 0.485f, false, true, 1},
      {"deit", 0.485f, true, true, 0.875f}};
  for (const auto& [type, mean, bicubic, squash, crop] : types) {
    CAPTURE(type);
    const ModelConfig c =
        config_from_json(cat(R"({"model_type":")", type, R"(","num_attention_heads":2})"),
                         shapes_of(small_vit()), "f");
    CHECK(c.preprocess.mean[0] == mean);
    CHECK((c.preprocess.resize == PreprocessConfig::Resize::kBicubic) == bicubic);
    CHECK(c.preprocess.squash == squash);
    CHECK(c.preprocess.crop_pct == crop);
    CHECK(guesses(c, "preprocessing, as no preprocessor_config.json says it"));
  }
  ModelConfig dino = small_vit();
  dino.layer_scale = true;
  const ModelConfig c =
      config_from_json(R"({"model_type":"dinov2","num_attention_heads":2})", shapes_of(dino), "f");
  CHECK(c.preprocess.mean[0] == 0.485f);
  CHECK_FALSE(c.preprocess.squash);
  CHECK(c.preprocess.crop_pct == 0.875f);
  CHECK(c.norm_eps == 1e-6f);
}

TEST_CASE("transformers' Swin pads what is no multiple of the patch, ViT leaves it out") {
  ModelConfig swin = config_from_arch("swin_tiny_patch4_window7_224");
  CHECK(error_of([&] {
          return config_from_json(R"({"model_type":"swin","image_size":226,"window_size":7})",
                                  shapes_of(swin), "f");
        }).find("transformers' Swin pads such images") != std::string::npos);
  const ModelConfig vit =
      config_from_json(R"({"model_type":"vit","image_size":239,"num_attention_heads":2})",
                       shapes_of(small_vit()), "f");
  CHECK(vit.image_height == 239);
}

TEST_CASE("what a timm name says that no tensor tells") {
  // timm 1.0.31 builds these with: heads, epsilon, activation, pooling, heads of the pooling, RoPE.
  using Grid = RopeConfig::Grid;
  const struct {
    const char* arch;
    int width, heads;
    float eps;
    ActType act;
    Pool pool;
    Grid rope;
  } known[] = {
      {"vit_base_patch16_clip_quickgelu_224", 768, 12, 1e-5f, ActType::kQuickGelu, Pool::kToken,
       Grid::kNone},
      {"vit_base_patch16_clip_224", 768, 12, 1e-5f, ActType::kGelu, Pool::kToken, Grid::kNone},
      {"vit_so400m_patch14_siglip_gap_224", 1152, 16, 1e-6f, ActType::kGelu, Pool::kAverage,
       Grid::kNone},
      {"vit_large_patch16_siglip_gap_512", 1024, 16, 1e-6f, ActType::kGeluTanh, Pool::kAverage,
       Grid::kNone},
      {"vit_small_patch14_dinov2", 384, 6, 1e-6f, ActType::kGelu, Pool::kToken, Grid::kNone},
      {"vit_small_patch16_dinov3", 384, 6, 1e-5f, ActType::kGelu, Pool::kAverage, Grid::kCentred},
      {"vit_small_patch16_rope_mixed_224", 384, 6, 1e-6f, ActType::kGelu, Pool::kToken,
       Grid::kMixed},
      {"eva02_tiny_patch14_224", 192, 3, 1e-6f, ActType::kSilu, Pool::kAverage, Grid::kIndex},
      {"beitv2_base_patch16_224", 768, 12, 1e-6f, ActType::kGelu, Pool::kAverage, Grid::kNone}};
  for (const auto& k : known) {
    CAPTURE(k.arch);
    const TimmArch* arch = timm_arch(k.arch, "f");
    REQUIRE(arch != nullptr);
    ModelConfig c = open_config(Family::kVit);
    apply_arch(*arch, c);
    CHECK(arch->width == k.width);
    CHECK(c.heads == std::vector<int>{k.heads});
    CHECK(c.norm_eps == k.eps);
    CHECK(c.act == k.act);
    CHECK(arch->pool == k.pool);
    CHECK(c.rope.grid == k.rope);
  }
  CHECK(timm_arch("vit_pe_core_base_patch16_224", "f")->pool_prefix);
  CHECK_FALSE(timm_arch("vit_so150m_patch16_reg4_map_256", "f")->pool_prefix);
  CHECK(timm_arch("vit_so150m_patch16_reg4_map_256", "f")->registers == 4);
  CHECK(timm_arch("vit_pe_core_base_patch16_224", "f")->pool_heads == 8);
  CHECK(timm_arch("vit_nobody_has_this", "f") == nullptr);
  CHECK(error_of([] { return timm_arch("test_vit4", "f"); }) ==
        "f: 'test_vit4' has norms of timm's class RmsNorm, which vitrun does not run");
  CHECK_FALSE(timm_arch("vit_intern300m_patch14_448", "f")->last_norm);
  CHECK(timm_arch("vit_base_patch16_gap_224", "f")->last_norm);
}

TEST_CASE("--arch takes what timm's name says, and --image-size what no tensor does") {
  ModelConfig c = small_vit();
  c.embed_dim = 384;
  c.heads = {6};
  c.class_token = true;
  c.layer_scale = true;
  c.positions = Positions::kNone;
  c.registers = 4;
  const ShapeMap shapes = shapes_of(c);
  CHECK(error_of([&] {
          return config_from_shapes(shapes, "f", {.image_height = 64});
        }).starts_with("f: tensor 'pos_embed' is missing; RoPE, which needs none, must be named"));
  CHECK(error_of([&] { return config_from_arch("vit_small_patch16_dinov3", shapes, "f"); }) ==
        "f: the weights do not tell the image size: it must come from config.json or --image-size");
  const ModelConfig read = config_from_arch("vit_small_patch16_dinov3.lvd1689m", shapes, "f",
                                            {.image_height = 64, .image_width = 96});
  CHECK(read.image_width == 96);
  CHECK(read.rope.grid == RopeConfig::Grid::kCentred);
  CHECK(read.norm_eps == 1e-5f);
  CHECK(read.pool == Pool::kAverage);
  CHECK(guesses(read, "preprocessing"));
  CHECK(error_of([&] { return config_from_arch("vit_base_patch16_dinov3", shapes, "f"); }) ==
        "f: the configuration says embed_dim 768, the weights 384");
}

TEST_CASE("shapes alone do not tell the activation of CLIP, SigLIP, EVA and others") {
  const std::pair<const char*, void (*)(ModelConfig&)> untold[] = {
      {"a norm before the blocks (CLIP)", [](ModelConfig& c) { c.norm_pre = true; }},
      {"a gated MLP", [](ModelConfig& c) { c.gated = true; }},
      {"norms inside the blocks", [](ModelConfig& c) { c.mlp_norm = true; }},
      {"a projection (CLIP)", [](ModelConfig& c) { c.projection = 8, c.num_classes = 0; }}};
  for (const auto& [text, change] : untold) {
    ModelConfig c = small_vit();
    change(c);
    const std::string said = error_of([&] { return config_from_shapes(shapes_of(c), "f"); });
    CAPTURE(said);
    CHECK(said.find(text) != std::string::npos);
    CHECK(said.find("must come from config.json or --arch") != std::string::npos);
  }
  // A norm of what is pooled stands for the mean: timm moves the last norm there with it.
  ModelConfig c = small_vit();
  c.last_norm = false;
  c.fc_norm = true;
  const ModelConfig read = config_from_shapes(shapes_of(c), "f");
  CHECK(read.pool == Pool::kAverage);
  CHECK(guesses(read, "pooling avg"));
}

TEST_CASE("weights without a head, and a distillation token's") {
  ShapeMap shapes = shapes_of(small_vit());
  shapes.erase("head.weight");
  shapes.erase("head.bias");
  const ModelConfig c = config_from_json(
      R"({"model_type":"vit","num_attention_heads":2,"id2label":{"0":"a","1":"b"}})", shapes, "f");
  CHECK(c.num_classes == 0);
  CHECK(c.labels.empty());
  CHECK(guesses(c, "no classes: the configuration says 2, the weights have no head"));
  CHECK_FALSE(guesses(
      config_from_json(R"({"architecture":"vit_x_patch16_224","num_classes":0})", shapes, "f"),
      "no classes"));

  ModelConfig deit = small_vit();
  deit.distilled = deit.head_dist = true;
  shapes = shapes_of(deit);
  shapes.erase("head_dist.weight");
  shapes.erase("head_dist.bias");
  const std::string said = "f: not supported: a distillation token without a head of its own, or ";
  CHECK(error_of([&] { return config_from_shapes(shapes, "f"); }).starts_with(said));
  CHECK_FALSE(config_from_shapes(shapes, "f", {.transformers = true}).head_dist);
  shapes = shapes_of(deit);
  shapes.erase("dist_token");
  CHECK(error_of([&] { return config_from_shapes(shapes, "f"); }).starts_with(said));
}

TEST_CASE("attention pooling and RoPE that the weights do not have whole") {
  ModelConfig c = small_vit();
  c.pool = Pool::kMap;
  c.pool_heads = 2;
  c.pool_hidden = 64;
  ShapeMap shapes = shapes_of(c);
  shapes.erase("attn_pool.query");
  shapes["attn_pool.latent"] = {1, 1, 128};
  const std::string map = R"({"architecture":"vit_x_patch16_224","global_pool":"map"})";
  const auto why = [&](const std::string& text) {
    return error_of([&] { return config_from_json(text, shapes, "f", {.weights = "w"}); });
  };
  CHECK(why(map) == "w: tensor 'attn_pool.q.weight' is missing");
  shapes["attn_pool.q.weight"] = {128, 128};
  CHECK(why(map) == "w: tensor 'attn_pool.q.bias' is missing");
  shapes["attn_pool.q.bias"] = {128};
  CHECK(why(map) == "");
  shapes["attn_pool.latent"] = {1, 2, 128};
  CHECK(why(map) == "w: tensor 'attn_pool.latent' is [1, 2, 128], the model needs [128]");

  shapes = shapes_of(small_vit());
  const std::string mixed =
      R"({"architecture":"vit_small_patch16_rope_mixed_224","model_args":{"embed_dim":128,)"
      R"("num_heads":2}})";
  CHECK(why(mixed) == "w: tensor 'rope.freqs' is missing");
  shapes["rope.freqs"] = {2, 12, 2, 31};
  CHECK(why(mixed) == "w: tensor 'rope.freqs' is [2, 12, 2, 31], the model needs [2, 12, 2, 32]");
  shapes["rope.freqs"] = {2, 12, 2, 32};
  CHECK(why(mixed) == "");
  CHECK(why(R"({"architecture":"vit_x_patch16_224","model_args":{"num_heads":2}})") ==
        "f: the weights have rope.freqs, so the configuration must name RoPE");
}

TEST_CASE("pruned heads are named") {
  ShapeMap shapes = shapes_of(small_vit());
  shapes["blocks.3.attn.qkv.weight"] = {320, 128};
  CHECK(error_of([&] { return config_from_shapes(shapes, "f"); }) ==
        "f: 'blocks.3.attn.qkv.weight' has 320 rows, expected 384; pruned heads are not supported");
}

TEST_CASE("relative positions by an MLP that the weights do not have whole, or do not tell apart") {
  ModelConfig c = small_vit();
  c.positions = Positions::kNone;
  ShapeMap shapes = shapes_of(c);
  const auto why = [&](const std::string& text) {
    return error_of([&] { return config_from_json(text, shapes, "f", {.weights = "w"}); });
  };
  const std::string mlp = "shared_rel_pos.mlp.",
                    args = R"(","model_args":{"embed_dim":128,"num_heads":2,"img_size":224}})",
                    begins = R"({"architecture":"vit_srelpos_small_patch16_224)" + args,
                    ends = R"({"architecture":"vit_relpos_small_patch16_rpn_224)" + args;
  shapes[mlp + "fc1.weight"] = {32, 2};
  CHECK(why(ends) == "w: tensor 'shared_rel_pos.mlp.fc1.bias' is missing");
  shapes[mlp + "fc1.bias"] = {32};
  shapes[mlp + "fc2.weight"] = {3, 32};
  shapes[mlp + "fc2.bias"] = {2};
  CHECK(why(ends) ==
        "w: tensor 'shared_rel_pos.mlp.fc2.weight' is [3, 32], the model needs [2, 32]");
  shapes[mlp + "fc2.weight"] = {2, 32};
  CHECK(why(ends) == "");
  CHECK(config_from_json(ends, shapes, "f").post_norm);
  // There is no LayerScale, which blocks that begin with norms have.
  CHECK_MESSAGE(why(begins).find("whether norms begin or end the branches") != std::string::npos,
                why(begins));
  for (int i = 0; i < 12; i++)
    for (const char* scale : {".ls1.gamma", ".ls2.gamma"})
      shapes["blocks." + std::to_string(i) + scale] = {128};
  CHECK(why(begins) == "");
  CHECK(!config_from_json(begins, shapes, "f").post_norm);
}
