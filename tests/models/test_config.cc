#include "models/checkpoints/config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "models/base/error.h"
#include "models/families/families.h"
#include "models/names/names.h"

using namespace vitrun;

namespace {

ShapeMap shapes_of(const ModelConfig& config) {
  ShapeMap shapes;
  for (const Param& p : build_graph(config).params) shapes[p.name] = p.dims;
  return shapes;
}

ShapeMap shapes_of(const std::string& arch) {
  return shapes_of(config_from_arch(arch));
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

#define CHECK_ERROR(expression, text)                                 \
  do {                                                                \
    const std::string thrown = error_of([&] { (void)(expression); }); \
    CAPTURE(thrown);                                                  \
    CHECK(thrown.find(text) != std::string::npos);                    \
  } while (0)

bool same_sizes(const ModelConfig& a, const ModelConfig& b) {
  return a.image_height == b.image_height && a.image_width == b.image_width && a.patch == b.patch &&
         a.num_classes == b.num_classes && a.embed_dim == b.embed_dim &&
         a.mlp_hidden == b.mlp_hidden && a.depths == b.depths && a.heads == b.heads &&
         a.class_token == b.class_token && a.distilled == b.distilled &&
         a.positions == b.positions && a.layer_scale == b.layer_scale;
}

// "{...}" of a transformers ViT with the shapes of vit_tiny_patch16_224, and more keys.
std::string hf_vit(const std::string& more) {
  return R"({"model_type":"vit","hidden_size":192,"num_hidden_layers":12,"num_attention_heads":3,)"
         R"("intermediate_size":768,"image_size":224,"patch_size":16)" +
         (more.empty() ? "" : "," + more) + "}";
}

std::string timm_vit(const std::string& more) {
  return R"({"architecture":"vit_tiny_patch16_224")" + (more.empty() ? "" : "," + more) + "}";
}

struct Change {
  const char* message;
  void (*apply)(ModelConfig&);
};

const Change kInvalid[] = {
    {"patch size is 0", [](ModelConfig& c) { c.patch = 0; }},
    {"image height is 0", [](ModelConfig& c) { c.image_height = 0; }},
    {"image width is 4096", [](ModelConfig& c) { c.image_width = 4096; }},
    {"number of patches is 50176", [](ModelConfig& c) { c.patch = 1; }},
    {"embed_dim is -192", [](ModelConfig& c) { c.embed_dim = -192; }},
    {"embed_dim is 8192", [](ModelConfig& c) { c.embed_dim = 8192; }},
    {"embed_dim 192 is no multiple of the number of heads, 5",
     [](ModelConfig& c) { c.heads = {5}; }},
    {"number of heads is 0", [](ModelConfig& c) { c.heads = {0}; }},
    {"heads of 2 stages but depths of 1",
     [](ModelConfig& c) {
       c.heads = {3, 3};
     }},
    {"hidden width of the MLP is 20000", [](ModelConfig& c) { c.mlp_hidden = 20000; }},
    {"number of stages is 0", [](ModelConfig& c) { c.depths = c.heads = {}; }},
    {"number of stages is 2",
     [](ModelConfig& c) {
       c.depths = {2, 2}, c.heads = {3, 3};
     }},
    {"depth is 65", [](ModelConfig& c) { c.depths = {65}; }},
    {"number of classes is -1", [](ModelConfig& c) { c.num_classes = -1; }},
    {"number of classes is 100001", [](ModelConfig& c) { c.num_classes = 100001; }},
    {"norm_eps is 0", [](ModelConfig& c) { c.norm_eps = 0; }},
    {"norm_eps is nan", [](ModelConfig& c) { c.norm_eps = NAN; }},
    {"norm_eps is 0.1", [](ModelConfig& c) { c.norm_eps = 0.1f; }},
    {"std is 0", [](ModelConfig& c) { c.preprocess.std[1] = 0; }},
    {"mean is inf", [](ModelConfig& c) { c.preprocess.mean[2] = INFINITY; }},
    {"crop_pct is 1.5", [](ModelConfig& c) { c.preprocess.crop_pct = 1.5f; }},
    {"crop_pct is nan", [](ModelConfig& c) { c.preprocess.crop_pct = NAN; }},
    {"2 labels for 1000 classes",
     [](ModelConfig& c) {
       c.labels = {"a", "b"};
     }},
    {"distillation token without a class token",
     [](ModelConfig& c) { c.distilled = true, c.class_token = false; }},
    {"pooling is 'token', but",
     [](ModelConfig& c) { c.pool = Pool::kToken, c.class_token = false; }},
    {"pooling is 'avg', expected",
     [](ModelConfig& c) { c.pool = Pool::kAverage, c.distilled = true; }},
    {"pooling is 'map', expected 'token'",
     [](ModelConfig& c) { c.pool = Pool::kMap, c.distilled = true; }},
    {"pooling is 'map', expected 'avg' for Swin",
     [](ModelConfig& c) { c.pool = Pool::kMap, c.family = Family::kSwin; }},
    {"window is 0", [](ModelConfig& c) { c.family = Family::kSwin, c.windows = c.shifts = {0}; }},
};

}  // namespace

TEST_CASE("config: validate refuses what cannot be a model") {
  CHECK(error_of([] { validate(config_from_arch("vit_tiny_patch16_224")); }) == "");
  for (const Change& change : kInvalid) {
    ModelConfig c = config_from_arch("vit_tiny_patch16_224");
    change.apply(c);
    CHECK_ERROR(validate(c), change.message);
  }
}

TEST_CASE("config: architectures have timm's parameters and preprocessing") {
  std::ifstream file(std::string(VITRUN_TEST_DIR) + "/golden/models/archs.txt");
  std::string arch;
  int64_t parameters;
  int side, count = 0;
  float crop, mean, std;
  while (file >> arch >> parameters >> side >> crop >> mean >> std) {
    CAPTURE(arch);
    const ModelConfig c = config_from_arch(arch);
    validate(c);
    int64_t sum = 0;
    for (const auto& [name, dims] : shapes_of(c)) sum += element_count(dims);
    CHECK(sum == parameters);
    CHECK(c.arch == arch);
    CHECK(c.image_height == side);
    CHECK(c.preprocess.crop_pct == crop);
    CHECK(c.preprocess.mean[0] == mean);
    CHECK(c.preprocess.std[0] == std);
    count++;
  }
  CHECK(count == 51);
}

TEST_CASE("config: --arch") {
  CHECK(config_from_arch("deit_small_patch16_224.fb_in1k").arch == "deit_small_patch16_224");
  CHECK_ERROR(config_from_arch("vit_huge"), "unknown architecture 'vit_huge'; known: vit_tiny");
  CHECK_ERROR(config_from_arch(""), "unknown architecture ''");

  // A fine-tuned file: other classes, another image size.
  ModelConfig tuned = config_from_arch("deit_tiny_patch16_224");
  tuned.num_classes = 7;
  tuned.image_height = tuned.image_width = 96;
  const ModelConfig c = config_from_arch("deit_tiny_patch16_224", shapes_of(tuned), "f");
  CHECK(same_sizes(c, tuned));
  CHECK_ERROR(config_from_arch("deit_small_patch16_224", shapes_of(tuned), "f"),
              "f: the configuration says embed_dim 384, the weights 192");
  CHECK_ERROR(config_from_arch("swin_tiny_patch4_window7_224", shapes_of(tuned), "f"),
              "says Swin, the tensor names say ViT");
  CHECK_ERROR(config_from_arch("swin_tiny_patch4_window7_224",
                               shapes_of("swin_small_patch4_window7_224"), "f"),
              "f: the configuration says depths [2, 2, 6, 2], the weights [2, 2, 18, 2]");
}

TEST_CASE("config: shapes alone give back every architecture") {
  for (const std::string& arch : known_archs()) {
    CAPTURE(arch);
    const ModelConfig expected = config_from_arch(arch);
    if (expected.swin_v2 || arch.starts_with("swin_s3")) continue;  // tell no window, no image size
    const ModelConfig c = config_from_shapes(shapes_of(expected), "f");
    CHECK(same_sizes(c, expected));
    CHECK(c.norm_eps == expected.norm_eps);
    if (c.family == Family::kSwin) CHECK(c.windows == expected.windows);
  }
}

TEST_CASE("config: what shapes cannot tell is an error") {
  ModelConfig c = config_from_arch("vit_tiny_patch16_224");
  c.image_width = 256;
  CHECK_ERROR(config_from_shapes(shapes_of(c), "f"), "image size must come from config.json");
  c = config_from_arch("vit_tiny_patch16_224");
  c.embed_dim = 96;
  CHECK_ERROR(config_from_shapes(shapes_of(c), "f"), "do not tell the number of heads");
  c = config_from_arch("swin_tiny_patch4_window7_224");
  c.image_height = c.image_width = 96;  // maps 24, 12, 6, 3: the window shrinks
  CHECK_ERROR(config_from_shapes(shapes_of(c), "f"), "do not tell the image size");
  CHECK_ERROR(config_from_shapes({}, "f"), "f: no tensor 'patch_embed.proj.weight'");
  ShapeMap shapes = shapes_of("vit_tiny_patch16_224");
  shapes["patch_embed.proj.weight"] = {192, 1, 16, 16};
  CHECK_ERROR(config_from_shapes(shapes, "f"), "has 1 input channels, expected 3");
  shapes["patch_embed.proj.weight"] = {192, 768};
  CHECK_ERROR(config_from_shapes(shapes, "f"), "has shape [192, 768], expected 4 sides");
  shapes["patch_embed.proj.weight"] = {192, 3, int64_t{1} << 40, 16};
  CHECK_ERROR(config_from_shapes(shapes, "f"), "of a sensible size");
}

TEST_CASE("config: timm's config.json") {
  const ShapeMap shapes = shapes_of("vit_tiny_patch16_224");
  ModelConfig c = config_from_json(
      timm_vit(R"("num_classes":1000,"global_pool":"token","pretrained_cfg":{"input_size":)"
               R"([3,224,224],"crop_pct":0.8,"interpolation":"bilinear","crop_mode":"squash",)"
               R"("mean":[0.1,0.2,0.3],"std":[0.4,0.5,0.6],"pool_size":null})"),
      shapes, "f");
  CHECK(same_sizes(c, config_from_arch("vit_tiny_patch16_224")));
  CHECK(c.preprocess.squash);
  CHECK(c.preprocess.resize == PreprocessConfig::Resize::kBilinear);
  CHECK(c.preprocess.mean[1] == 0.2f);
  CHECK(c.preprocess.std[2] == 0.6f);
  CHECK(c.preprocess.crop_pct == 0.8f);

  ModelConfig small = config_from_arch("vit_tiny_patch16_224");
  small.num_classes = 2;
  c = config_from_json(timm_vit(R"("label_names":["n01","n02"],"label_descriptions":)"
                                R"({"n01":"cat"})"),
                       shapes_of(small), "f");
  CHECK(c.labels == std::vector<std::string>{"cat", "n02"});
  CHECK(c.preprocess.mean[0] == 0.5f);

  // Maps 24, 12, 6 and 3 with the nominal window 7.
  ModelConfig swin = config_from_arch("swin_tiny_patch4_window7_224");
  swin.image_height = swin.image_width = 96;
  c = config_from_json(R"({"architecture":"swin_custom","model_args":{"img_size":96,)"
                       R"("window_size":[7,7,7,7]}})",
                       shapes_of(swin), "f");
  CHECK(c.windows == std::vector<int>{7, 7, 7, 7});
  CHECK(c.arch == "swin_custom");
  CHECK(c.heads == std::vector<int>{3, 6, 12, 24});

  // A window for each stage, and one that is not told.
  const ModelConfig s3 = config_from_arch("swin_s3_tiny_224");
  for (const char* text :
       {R"("window_size":[7,7,14,7],)", R"("window_size":[7,[7,7],[14,14],7],)", ""})
    CHECK(config_from_json(R"({"architecture":"swin_custom","model_args":{)" + std::string(text) +
                               R"("img_size":224}})",
                           shapes_of(s3), "f")
              .windows == s3.windows);
}

// The shapes of a SwinV2's tensors as its file has them.
ShapeMap shapes_of_v2(const ModelConfig& config) {
  ShapeMap shapes = shapes_of(config);
  for (size_t s = 0; s < config.depths.size(); s++)
    for (int i = 0; i < config.depths[s]; i++) {
      const std::string attn = cat("layers.", s, ".blocks.", i, ".attn.");
      const int64_t heads = config.heads[s];
      for (const char* derived : {"relative_position_bias_table", "qk_norm.weight"})
        shapes.erase(attn + derived);
      shapes[attn + "logit_scale"] = {heads, 1, 1};
      shapes[attn + "cpb_mlp.0.weight"] = {512, 2};
      shapes[attn + "cpb_mlp.0.bias"] = {512};
      shapes[attn + "cpb_mlp.2.weight"] = {heads, 512};
    }
  return shapes;
}

TEST_CASE("config: SwinV2") {
  const ModelConfig base = config_from_arch("swinv2_base_window12to16_192to256");
  const ShapeMap shapes = shapes_of_v2(base);
  ModelConfig c = config_from_json(
      R"({"architecture":"swinv2_base_window12to16_192to256.ms_in22k_ft_in1k"})", shapes, "f");
  CHECK(same_sizes(c, base));
  CHECK(c.swin_v2);
  CHECK(c.qkv_bias);
  CHECK(c.windows == std::vector<int>{16, 16, 16, 16});
  CHECK(c.shifts == std::vector<int>{8, 8, 8, 8});
  CHECK(c.pretrained_windows == std::vector<int>{12, 12, 12, 6});

  const std::string hf = R"({"model_type":"swinv2","window_size":16,"image_size":)";
  c = config_from_json(hf + R"(256,"pretrained_window_sizes":[12,12,12,6]})", shapes, "f");
  CHECK(same_sizes(c, base));
  CHECK(c.windows == std::vector<int>{16, 16, 16, 8});  // the last map's side
  CHECK(c.shifts == std::vector<int>{8, 8, 0, 0});
  CHECK(c.pretrained_windows == std::vector<int>{12, 12, 12, 6});
  CHECK(c.pad_first);

  const std::pair<std::string, const char*> bad[] = {
      {hf + R"([256,192]})", "a map that is no wider than its windows of 16"},
      {hf + R"(258})", "no multiple of the patch size 4"},
      {hf + R"(256,"use_absolute_embeddings":true})", "transformers' own SwinV2 fails with it"},
      {hf + R"(256,"pretrained_window_sizes":[1,1,1,1]})", "no 1"},
      {hf + R"(256,"pretrained_window_sizes":[12,12]})", "pretraining of 2 stages but depths of 4"},
      {R"({"model_type":"swin","image_size":256})", "says Swin, the tensor names say SwinV2"},
      {R"({"architecture":"swinv2_custom"})", "do not tell the window"},
      {R"({"architecture":"swinv2_custom","model_args":{"window_size":[8,16]}})",
       "the side of square windows, or a list"},
      {R"({"architecture":"swinv2_custom","model_args":{"window_size":8}})",
       "do not tell the image size"},
  };
  for (const auto& [text, message] : bad) CHECK_ERROR(config_from_json(text, shapes, "f"), message);
  CHECK_ERROR(config_from_json(R"({"architecture":"swinv2_tiny_window8_256"})",
                               shapes_of("swin_tiny_patch4_window7_224"), "f"),
              "says SwinV2, the tensor names say Swin");
}

TEST_CASE("config: transformers' Swin shifts along no axis where a map is one window high") {
  ModelConfig swin = config_from_arch("swin_tiny_patch4_window7_224");
  swin.image_height = 448;
  const ModelConfig c = config_from_json(
      R"({"model_type":"swin","image_size":[448,224],"window_size":7})", shapes_of(swin), "f");
  CHECK(c.shifts == std::vector<int>{3, 3, 3, 0});
}

TEST_CASE("config: absolute positions in Swin") {
  ShapeMap shapes = shapes_of("swin_tiny_patch4_window7_224");
  shapes["absolute_pos_embed"] = {1, 3136, 96};
  const std::string text = R"({"model_type":"swin","image_size":224,"window_size":7)";
  CHECK(config_from_json(text + "}", shapes, "f").absolute_positions);
  CHECK_ERROR(config_from_json(text + R"(,"use_absolute_embeddings":false})", shapes, "f"),
              "'use_absolute_embeddings' is false, but the weights say otherwise");
  shapes["absolute_pos_embed"] = {1, 3137, 96};
  CHECK_ERROR(config_from_json(text + "}", shapes, "f"),
              "which is 3136 patches; absolute_pos_embed in the weights has 3137 rows");
}

TEST_CASE("config: bad timm config.json") {
  const ShapeMap shapes = shapes_of("vit_tiny_patch16_224");
  const std::pair<std::string, const char*> bad[] = {
      {"", "not valid JSON"},
      {"[1]", "f: expected a JSON object"},
      {"{}", "neither 'architecture'"},
      {R"({"architecture":"resnet50"})", "'architecture' is \"resnet50\": this is a ResNet, which"},
      {R"({"architecture":7})", "'architecture' is 7, expected a string"},
      {R"({"architecture":"deit_small_patch16_224"})", "says embed_dim 384, the weights 192"},
      {timm_vit(R"("num_classes":10)"), "says number of classes 10, the weights 1000"},
      {timm_vit(R"("num_classes":"10")"), R"('num_classes' is "10", expected a positive integer)"},
      {timm_vit(R"("num_classes":-1)"), "'num_classes' is -1, expected a positive integer"},
      {timm_vit(R"("num_classes":1000,"num_classes":1000)"), "'num_classes' appears twice"},
      {timm_vit(R"("global_pool":"avg")"), R"('global_pool' is "avg", expected "token")"},
      {timm_vit(R"("global_pool":"max")"), R"(is "max", expected "token", "avg" or "map")"},
      {R"({"architecture":"vit_small_patch16_rope_ape_224"})",
       "says embed_dim 384, the weights 192"},
      {R"({"architecture":"vit_base_patch16_rpn_999"})", "architecture 'vit_base_patch16_rpn_999'"},
      {R"({"architecture":"vit_base_patch16_xp_224"})", "whose attention and MLP run in parallel"},
      {R"({"architecture":"vit_small_patch16_18x2_224"})", "of timm's class ParallelThingsBlock"},
      {R"({"architecture":"test_vit4"})",
       "has norms of timm's class RmsNorm, which vitrun does not"},
      {R"({"architecture":"vit_new_patch16_rope_224"})", "'vit_new_patch16_rope_224' is not supp"},
      {R"({"architecture":"vit_new_patch16_clip_224"})", "that timm 1.0.31 has"},
      {R"({"architecture":"coat_tiny"})", "convolutional transformer"},
      {R"({"architecture":"my_vit"})", "'my_vit' is not supported; expected a ViT, DeiT"},
      {timm_vit(R"("model_args":{"patch_size":32})"), "says patch size 32, the weights 16"},
      {timm_vit(R"("model_args":{"depth":6})"), "says depth [6], the weights [12]"},
      {timm_vit(R"("model_args":{"num_heads":5})"), "no multiple of the number of heads, 5"},
      {timm_vit(R"("model_args":{"act_layer":"relu"})"),
       R"(is "relu", expected "gelu", "gelu_tanh")"},
      {timm_vit(R"("model_args":{"reg_tokens":4})"), "says 4 register tokens, the weights 0"},
      {timm_vit(R"("model_args":{"use_rot_pos_emb":true})"), "'use_rot_pos_emb' is true, expected"},
      {timm_vit(R"("model_args":{"pool_include_prefix":true})"),
       "is true, expected false, but for"},
      {timm_vit(R"("model_args":{"swiglu_mlp":true})"),
       "'swiglu_mlp' is true, but the weights say otherwise"},
      {timm_vit(R"("global_pool":"map")"), "pooling is 'map', but the weights have no attn_pool"},
      {timm_vit(R"("model_args":{"swiglu":true})"), "model_args: 'swiglu' is not supported"},
      {timm_vit(R"("model_args":{"qkv_bias":false})"), "'qkv_bias' is false, but the weights"},
      {timm_vit(R"("model_args":{"init_values":1e-5})"), "'init_values' is 1e-05, but the w"},
      {timm_vit(R"("pretrained_cfg":{"input_size":[3,384,384]})"),
       "384x384, which is 576 patches and 1 tokens; pos_embed in the weights has 197"},
      {timm_vit(R"("pretrained_cfg":{"input_size":[1,224,224]})"), "expected [3, height, width]"},
      {timm_vit(R"("pretrained_cfg":{"mean":[0.5,0.5]})"), "expected three numbers"},
      {timm_vit(R"("pretrained_cfg":{"std":[0.5,0,0.5]})"), "f: configuration: std is 0"},
      {timm_vit(R"("pretrained_cfg":{"crop_pct":0})"), "'crop_pct' is 0"},
      {timm_vit(R"("pretrained_cfg":{"interpolation":"lanczos"})"), R"("bicubic" or)"},
      {timm_vit(R"("pretrained_cfg":{"crop_mode":"border"})"), R"("center" or)"},
      {timm_vit(R"("label_names":["a"])"), "1 labels for 1000 classes"},
      {timm_vit(R"("label_names":[1])"), "expected a list of strings"},
  };
  for (const auto& [text, message] : bad) CHECK_ERROR(config_from_json(text, shapes, "f"), message);
}

TEST_CASE("config: transformers' config.json") {
  const ShapeMap vit = shapes_of("vit_tiny_patch16_224");
  ModelConfig c = config_from_json(hf_vit(R"("hidden_act":"gelu","qkv_bias":true)"), vit, "f");
  CHECK(same_sizes(c, config_from_arch("vit_tiny_patch16_224")));
  CHECK(c.norm_eps == 1e-12f);
  CHECK(c.preprocess.squash);
  CHECK(c.preprocess.crop_pct == 1);
  CHECK(c.preprocess.mean[0] == 0.5f);
  CHECK(c.preprocess.resize == PreprocessConfig::Resize::kBilinear);

  c = config_from_json(R"({"model_type":"deit","layer_norm_eps":1e-6})",
                       shapes_of("deit_small_distilled_patch16_224"), "f");
  CHECK(c.distilled);
  CHECK(c.heads == std::vector<int>{6});
  CHECK(c.guesses.front() == "heads 6 (embed_dim / 64)");
  CHECK(std::floor(224 / double{c.preprocess.crop_pct}) == 256);
  CHECK(c.preprocess.mean[0] == 0.485f);
  CHECK(c.norm_eps == 1e-6f);

  // A configuration that leaves out what is DeiTConfig's default: 12 heads.
  c = config_from_json(R"({"model_type":"deit","hidden_size":384})",
                       shapes_of("deit_small_distilled_patch16_224"), "f");
  CHECK(c.heads == std::vector<int>{12});

  c = config_from_json(R"({"model_type":"swin","image_size":224,"window_size":7,"mlp_ratio":4.0,)"
                       R"("embed_dim":96,"depths":[2,2,6,2],"num_heads":[3,6,12,24]})",
                       shapes_of("swin_tiny_patch4_window7_224"), "f");
  CHECK(c.norm_eps == 1e-5f);
  CHECK(c.preprocess.resize == PreprocessConfig::Resize::kBicubic);

  ModelConfig small = config_from_arch("vit_tiny_patch16_224");
  small.num_classes = 2;
  c = config_from_json(hf_vit(R"("id2label":{"1":"dog","0":"cat"})"), shapes_of(small), "f");
  CHECK(c.labels == std::vector<std::string>{"cat", "dog"});
  c = config_from_json(hf_vit(R"("id2label":{"0":"LABEL_0","1":"LABEL_1"})"), shapes_of(small),
                       "f");
  CHECK(c.labels.empty());
}

TEST_CASE("config: bad transformers config.json") {
  const ShapeMap vit = shapes_of("vit_tiny_patch16_224");
  const std::pair<std::string, const char*> bad[] = {
      {R"({"model_type":"blip"})",
       R"('model_type' is "blip": this is BLIP, which vitrun does not run)"},
      {R"({"model_type":"dinov2"})", "is \"dinov2\", but the weights have no LayerScale"},
      {R"({"model_type":"dinov3_vit","num_attention_heads":3})", "but the weights have no LayerS"},
      {R"({"model_type":"clip_vision_model","patch_size":16})", "have no norm before the blocks"},
      {R"({"model_type":"siglip_vision_model"})", "but the weights have a class token"},
      {R"({"model_type":"new"})", R"('model_type' is "new", expected one of vit, deit, vit_msn, )"},
      {hf_vit(R"("pooler_act":"relu")"), R"('pooler_act' is "relu", expected "tanh")"},
      {hf_vit(R"("num_register_tokens":4)"), "says 4 register tokens, the weights 0"},
      {hf_vit(R"("pruned_heads":{"0":[1]})"), "'pruned_heads' is"},
      {hf_vit(R"("quantization_config":{})"), "quantized weights are not supported"},
      {R"({"model_type":"swin"})", "says Swin, the tensor names say ViT"},
      {hf_vit(R"("hidden_act":"relu")"), R"('hidden_act' is "relu", expected "gelu")"},
      {hf_vit(R"("num_channels":1)"), "'num_channels' is 1, expected 3"},
      {hf_vit(R"("qkv_bias":false)"), "'qkv_bias' is false, but the weights say otherwise"},
      {hf_vit(R"("layer_norm_eps":0)"), "norm_eps is 0"},
      {hf_vit(R"("layer_norm_eps":"x")"), "expected a number"},
      {hf_vit(R"("id2label":{"0":"a"})"), "says number of classes 1, the weights 1000"},
      {hf_vit(R"("id2label":{"1":"a"})"), R"(expected a string for each class from "0" on)"},
      {R"({"model_type":"vit","hidden_size":384})", "says embed_dim 384, the weights 192"},
      {R"({"model_type":"vit","hidden_size":1.5})", "expected a positive integer"},
      {R"({"model_type":"vit","image_size":[224,224,3]})", "expected one or two integers"},
      {R"({"model_type":"vit","image_size":240})", "pos_embed in the weights has 197 rows"},
      {R"({"model_type":"vit","patch_size":[16,8]})", "expected a square"},
      {R"({"model_type":"vit","num_hidden_layers":11})", "says depth [11], the weights [12]"},
      {R"({"model_type":"vit","intermediate_size":1})", "says MLP width 1, the weights 768"},
  };
  for (const auto& [text, message] : bad) CHECK_ERROR(config_from_json(text, vit, "f"), message);
  CHECK_ERROR(config_from_json(R"({"model_type":"swin","image_size":224,"window_size":8})",
                               shapes_of("swin_tiny_patch4_window7_224"), "f"),
              "says window 8 on an image of 224x224, so 225 rows");
}

TEST_CASE("config: transformers' preprocessor_config.json") {
  ModelConfig c = config_from_arch("deit_tiny_patch16_224");
  apply_preprocessor_json(
      R"({"do_resize":true,"size":{"shortest_edge":256},"do_center_crop":true,"crop_size":)"
      R"({"height":224,"width":224},"resample":2,"image_mean":[0.1,0.2,0.3],)"
      R"("image_std":[0.5,0.6,0.7],"rescale_factor":0.00392156862745098})",
      c, "f");
  CHECK(c.preprocess.crop_pct == 0.875f);
  CHECK_FALSE(c.preprocess.squash);
  CHECK(c.preprocess.resize == PreprocessConfig::Resize::kBilinear);
  CHECK(c.preprocess.mean[2] == 0.3f);
  apply_preprocessor_json(R"({"size":224,"resample":3})", c, "f");
  CHECK(c.preprocess.crop_pct == 1);
  CHECK(c.preprocess.squash);

  // 224 / 255 is no float: the one above it would resize to 254.
  apply_preprocessor_json(R"({"size":255,"do_center_crop":true,"crop_size":224})", c, "f");
  CHECK(std::floor(224 / double{c.preprocess.crop_pct}) == 255);

  const std::pair<const char*, const char*> bad[] = {
      {R"({"do_flip_channel_order":true})", "'do_flip_channel_order' is true, expected false"},
      {R"({"do_pad":true})", "'do_pad' is true, expected false"},
      {R"({"do_resize":false})", "'do_resize' is false, expected true"},
      {R"({"do_magic":true})", "'do_magic' is true, expected false"},
      {R"({"size":224,"crop_pct":0.9})", "'crop_pct' is 0.9, expected null"},
      {R"({"image_processor_type":"EfficientNetImageProcessor"})", "expected that of ViT, DeiT"},
      {R"({"size":{"longest_edge":224}})", "'size' is"},
      {R"({"resample":"bicubic"})", "expected 2 (bilinear) or 3 (bicubic)"},
      {R"({"size":384})", "makes images of 384x384, the model takes 224x224"},
      {R"({"size":{"height":224}})", "f: size: no 'width'"},
      {R"({"resample":1})", "'resample' is 1, expected 2 (bilinear) or 3 (bicubic)"},
      {R"({"rescale_factor":0})", "expected a number in (1e-6, 1]"},
      {R"({"image_std":[1,1,0]})", "f: configuration: std is 0"},
      {R"({"size":[256,300],"do_center_crop":true,"crop_size":224})", "aspect ratio"},
      {R"({"size":100,"do_center_crop":true,"crop_size":224})", "at most 1 of the image"},
  };
  for (const auto& [text, message] : bad)
    CHECK_ERROR(apply_preprocessor_json(text, c, "f"), message);
}

// --- names ------------------------------------------------------------------------------------

TEST_CASE("names: timm, wrapped or not, maps to itself") {
  for (const std::string prefix : {"", "module.", "model.", "module.model."}) {
    std::vector<std::string> names;
    for (const auto& [name, dims] : shapes_of("deit3_small_patch16_224"))
      names.push_back(prefix + name);
    const NameMap map = timm_names(names, "f");
    CHECK(map.size() == names.size());
    CHECK(map.at("blocks.11.ls2.gamma") == std::vector{prefix + "blocks.11.ls2.gamma"});
  }
}

TEST_CASE("names: query, key and value are joined in this order") {
  const std::string block = "vit.encoder.layer.0.";
  std::vector<std::string> names = {
      "classifier.weight", "vit.pooler.dense.weight", "vit.embeddings.position_embeddings",
      block + "output.dense.bias", block + "attention.output.dense.bias"};
  for (const std::string part : {"value", "query", "key"})
    names.push_back(block + "attention.attention." + part + ".weight");
  const NameMap map = timm_names(names, "f");
  CHECK(map.at("blocks.0.attn.qkv.weight") ==
        std::vector<std::string>{block + "attention.attention.query.weight",
                                 block + "attention.attention.key.weight",
                                 block + "attention.attention.value.weight"});
  CHECK(map.at("blocks.0.mlp.fc2.bias").front() == block + "output.dense.bias");
  CHECK(map.at("blocks.0.attn.proj.bias").front() == block + "attention.output.dense.bias");
  CHECK(map.at("pos_embed").front() == "vit.embeddings.position_embeddings");
  CHECK(map.size() == 5);  // no pooler
  names.pop_back();
  CHECK_ERROR(timm_names(names, "f"), "'blocks.0.attn.qkv.weight' needs query, key and value");
}

TEST_CASE("names: where Swin downsamples") {
  const std::string norm = "layers.0.blocks.0.norm1.weight";
  NameMap map =
      timm_names({norm, "head.weight", "layers.0.downsample.reduction.weight",
                  "layers.0.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask"},
                 "f");
  CHECK(map.at("layers.1.downsample.reduction.weight").front() ==
        "layers.0.downsample.reduction.weight");
  CHECK(map.at("head.fc.weight").front() == "head.weight");
  CHECK(map.size() == 3);
  map = timm_names({norm, "head.fc.weight", "layers.1.downsample.reduction.weight"}, "f");
  CHECK(map.contains("layers.1.downsample.reduction.weight"));
  map = timm_names({"swin.encoder.layers.0.blocks.0.layernorm_before.weight", "classifier.weight",
                    "swin.encoder.layers.2.downsample.norm.bias"},
                   "f");
  CHECK(map.contains("layers.3.downsample.norm.bias"));
  CHECK(map.contains(norm));
}

TEST_CASE("names: SwinV2's, where k has no bias") {
  const std::string block = "swinv2.encoder.layers.0.blocks.1.", self = block + "attention.self.";
  const NameMap map = timm_names(
      {"swinv2.encoder.layers.0.blocks.0.layernorm_before.weight", self + "query.weight",
       self + "key.weight", self + "value.weight", self + "query.bias", self + "value.bias",
       self + "logit_scale", self + "continuous_position_bias_mlp.0.weight",
       self + "continuous_position_bias_mlp.2.weight", self + "relative_coords_table"},
      "f");
  const std::string attn = "layers.0.blocks.1.attn.";
  CHECK(map.at(attn + "qkv.weight").size() == 3);
  CHECK(map.at(attn + "qkv.bias") ==
        std::vector<std::string>{self + "query.bias", "", self + "value.bias"});
  CHECK(map.contains(attn + "logit_scale"));
  CHECK(map.contains(attn + "cpb_mlp.0.weight"));
  CHECK(map.contains(attn + "cpb_mlp.2.weight"));
  CHECK(map.size() == 6);
}

TEST_CASE("names: what is not supported says why") {
  const std::pair<std::vector<std::string>, const char*> bad[] = {
      {{"head.weight", "blocks.0.attn.rel_pos.relative_position_bias_table"},
       "f: this is a ViT with relative positions in timm's RelPosBias, which vitrun does not run "
       "(tensors 'blocks.0."},
      {{"head.weight", "attn_pool.pos_embed"}, "this has attention pooling, which"},
      {{"conv1.weight", "layer1.0.bn1.weight"},
       "this is a ResNet, which vitrun does not run (tensors 'conv1.weight', 'layer1"},
      {{"a", "b", "c", "d", "e", "f"}, "'a', 'b', 'c', 'd' and 2 more"},
      {{"blocks.01.norm1.weight"}, "'blocks.01.norm1.weight'"},
      {{"blocks.99999999999.norm1.weight"}, "tensors of no vision transformer that vitrun knows"},
      {{"blocks.0.norm1.gamma"}, "tensors of no vision transformer that vitrun knows"},
      {{"head.weight", "model.head.weight"}, "are both head.weight"},
      {{"text_model.embeddings.token_embedding.weight", "logit_scale"},
       "f: no tensor of a vision transformer in it"},
      {{}, "f: no tensor of a vision transformer in it"},
      {{"blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "blocks.1.attn.q_bias",
        "blocks.1.attn.k_bias", "blocks.1.attn.v_bias"},
       "'blocks.0.attn.qkv.bias' needs query, key and value"},
      {{"blocks.0.mlp.fc1_x.weight"}, "'blocks.0.mlp.fc1.weight' needs gate and value"},
  };
  for (const auto& [names, message] : bad) CHECK_ERROR(timm_names(names, "f"), message);
}
