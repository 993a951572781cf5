// The float engine against timm and transformers (tests/golden/make_models.py).
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "models/base/error.h"
#include "runtime/files/half.h"
#include "runtime/files/model_file.h"
#include "runtime/files/npy.h"
#include "runtime/float/reference.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

double max_abs(const std::vector<float>& v) {
  double top = 0;
  for (float x : v) top = std::max(top, std::fabs(static_cast<double>(x)));
  return top;
}

// Largest difference relative to the largest logit.
double difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.dims == b.dims);
  double top = 0;
  for (size_t i = 0; i < a.data.size(); i++)
    top = std::max(top, std::fabs(static_cast<double>(a.data[i] - b.data[i])));
  return top / max_abs(b.data);
}

TEST_CASE("logits equal timm's and transformers' for every family, naming and dtype") {
  for (const char* name :
       {"vit",       "vit_f16",       "vit_bf16",      "vit_oblong",     "deit_distilled",
        "deit3",     "swin",          "swin_old",      "swin_small_map", "swin_padded",
        "hf_vit",    "hf_swin",       "hf_deit/model", "hf_deit_one",    "hf_msn",
        "vit_avg",   "vit_remainder", "swinv2",        "swinv2_padded",  "swin_s3",
        "hf_swinv2", "hf_swin_oblong"}) {
    CAPTURE(name);
    const FloatModel model = load_float_model(kModels + name + ".safetensors");
    for (int threads : {1, 3}) {
      Reference engine(model.graph, model.weights, threads);
      const Tensor logits = engine.run(read_npy(kModels + name + ".input.npy"));
      CHECK(difference(logits, read_npy(kModels + name + ".logits.npy")) < 1e-4);
    }
  }
}

TEST_CASE("the outputs of models without a head equal timm's and transformers'") {
  for (const std::string name : {"swin_base", "hf_swin_ape", "hf_swinv2_base"}) {
    CAPTURE(name);
    const FloatModel model = load_float_model(kModels + name + ".safetensors");
    CHECK(model.graph.output("logits") < 0);
    Reference engine(model.graph, model.weights, 2);
    engine.run(read_npy(kModels + name + ".input.npy"), [&](int node, Tensor& value) {
      for (const Output& o : model.graph.outputs) {
        if (o.node != node) continue;
        Tensor golden = read_npy(kModels + name + "." + o.name + ".npy");
        golden.dims = value.dims;
        CHECK(difference(value, golden) < 1e-4);
      }
    });
  }
}

TEST_CASE("a batch gives the logits of its images one by one") {
  const FloatModel model = load_float_model(kModels + "swin_padded.safetensors");
  Reference engine(model.graph, model.weights, 2);
  const Tensor images = read_npy(kModels + "swin_padded.input.npy");
  const Tensor both = engine.run(images);
  Tensor one({1, images.dims[1], images.dims[2], images.dims[3]});
  for (size_t i = 0; i < 2; i++) {
    std::copy_n(images.data.begin() + static_cast<std::ptrdiff_t>(i * one.data.size()),
                one.data.size(), one.data.begin());
    const Tensor logits = engine.run(one);
    for (size_t c = 0; c < logits.data.size(); c++)
      CHECK(logits.data[c] == doctest::Approx(both.data[i * logits.data.size() + c]).epsilon(1e-5));
  }
}

TEST_CASE("every node is observed once, in order, with the shape the graph says") {
  const FloatModel model = load_float_model(kModels + "deit_distilled.safetensors");
  Reference engine(model.graph, model.weights, 1);
  int next = 0;
  engine.run(read_npy(kModels + "deit_distilled.input.npy"), [&](int node, Tensor& value) {
    CHECK(node == next++);
    const Node& n = model.graph[node];
    const Shape& s = engine.shapes()[node];
    CHECK(value.dims == Dims{2, s.groups * s.rows, s.cols});
    if (n.kind == NodeKind::kSoftmax) {  // rows are distributions
      double sum = 0;
      for (int64_t c = 0; c < s.cols; c++) sum += value.data[static_cast<size_t>(c)];
      CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    }
  });
  CHECK(next == static_cast<int>(model.graph.nodes.size()));
}

TEST_CASE("an observer's changes reach the nodes after") {
  const FloatModel model = load_float_model(kModels + "vit.safetensors");
  Reference engine(model.graph, model.weights, 1);
  const int norm = model.graph.find("norm");
  const Tensor logits =
      engine.run(read_npy(kModels + "vit.input.npy"), [&](int node, Tensor& value) {
        if (node == norm) std::fill(value.data.begin(), value.data.end(), 0.f);
      });
  const std::vector<float>& bias = model.weights.at("head.bias").data;
  for (size_t c = 0; c < bias.size(); c++) CHECK(logits.data[c] == bias[c]);
}

TEST_CASE("images of another size are refused") {
  const FloatModel model = load_float_model(kModels + "vit.safetensors");
  Reference engine(model.graph, model.weights, 1);
  CHECK_THROWS_AS(engine.run(Tensor({1, 3, 8, 8})), Error);
  CHECK_THROWS_AS(engine.run(Tensor({0, 3, 16, 16})), Error);
}

TEST_CASE("halves convert exactly and round to nearest even") {
  for (uint32_t bits = 0; bits < 0x10000; bits++) {
    const float x = half_to_float(static_cast<uint16_t>(bits));
    if (!std::isnan(x)) REQUIRE(float_to_half(x) == bits);
  }
  CHECK(float_to_half(1.0f + 0x1p-11f) == 0x3c00);             // a tie, to even
  CHECK(float_to_half(1.0f + 3 * 0x1p-11f) == 0x3c02);         // a tie, to even
  CHECK(float_to_half(1.0f + 0x1p-11f + 0x1p-20f) == 0x3c01);  // above the tie
  CHECK(float_to_half(65519.9f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);  // infinity
  CHECK(float_to_half(0x1p-25f) == 0);       // a tie at the bottom, to even
  CHECK(float_to_half(-0x1.8p-25f) == 0x8001);
}

}  // namespace
}  // namespace vitrun
