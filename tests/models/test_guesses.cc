// A configuration leaves things open: who states them, what is guessed, and timm's and
// transformers' defaults for preprocessing.
#include <doctest/doctest.h>

#include <algorithm>

#include "models/base/error.h"
#include "models/checkpoints/config.h"
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
  const std::tuple<const char*, int, int> known[] = {{"vit_huge_patch16_224", 1280, 16},
                                                     {"vit_giant_patch16_224", 1408, 16},
                                                     {"deit3_huge_patch16_224", 1280, 16},
                                                     {"vit_base_patch16_plus_224", 896, 14}};
  for (const auto& [arch, width, heads] : known) {
    ModelConfig c = small_vit();
    c.embed_dim = width;
    c.heads = {heads};
    c.depths = {1};
    const ModelConfig read =
        config_from_json(R"({"architecture":")" + std::string(arch) + R"("})", shapes_of(c), "f");
    CHECK_MESSAGE(read.heads == std::vector<int>{heads}, arch);
    CHECK_FALSE(guesses(read, "heads"));
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

TEST_CASE("pruned heads are named") {
  ShapeMap shapes = shapes_of(small_vit());
  shapes["blocks.3.attn.qkv.weight"] = {320, 128};
  CHECK(error_of([&] { return config_from_shapes(shapes, "f"); }) ==
        "f: 'blocks.3.attn.qkv.weight' has 320 rows, expected 384; pruned heads are not supported");
}
