// Models and images at the edge of what can be quantized: finite scales and answers near the float
// model's. The measured errors of units, by hand.
#include <doctest/doctest.h>

#include <cmath>

#include "models/graph/rewrite.h"
#include "quant/pipeline.h"
#include "runtime/files/npy.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

struct Case {
  std::string name;
  FloatModel model;
  Tensor images;
};

Case golden(const std::string& name) {
  return {name, load_float_model(kModels + name + ".safetensors"),
          read_npy(kModels + name + ".input.npy")};
}

// Some channels of LayerNorms, of weights and of biases are zero.
Case zero_channels(const std::string& name) {
  Case c = golden(name);
  c.name += ", zero channels";
  for (const Node& n : c.model.graph.nodes) {
    if (n.kind == NodeKind::kNorm) {
      c.model.weights.at(n.weight).data[3] = c.model.weights.at(n.bias).data[3] = 0;
    } else if (n.kind == NodeKind::kLinear) {
      Tensor& w = c.model.weights.at(n.weight);
      const auto depth = w.data.size() / static_cast<size_t>(w.dims[0]);
      std::fill_n(w.data.begin() + static_cast<int64_t>(2 * depth), depth, 0.f);
      if (!n.bias.empty()) c.model.weights.at(n.bias).data[2] = 0;
    }
  }
  return c;
}

Case constant_images(const std::string& name) {
  Case c = golden(name);
  c.name += ", constant images";
  std::fill(c.images.data.begin(), c.images.data.end(), 0.25f);
  return c;
}

Case one_image(const std::string& name) {
  Case c = golden(name);
  c.name += ", one image";
  c.images = slice(c.images, 0, 1);
  return c;
}

Case equal_weights(const std::string& name) {
  Case c = golden(name);
  c.name += ", equal weights";
  for (auto& [parameter, t] : c.model.weights) std::fill(t.data.begin(), t.data.end(), 0.01f);
  return c;
}

Case one_block() {
  Case c = golden("vit");
  c.name += ", one block";
  Graph& graph = c.model.graph;
  for (const char* add : {"blocks.1.add2", "blocks.1.add1"}) bypass(graph, graph.find(add));
  prune(graph);
  REQUIRE(graph.find("blocks.0.mlp.fc2") >= 0);
  REQUIRE(graph.find("blocks.1.attn.qkv") < 0);
  std::erase_if(c.model.weights, [](const auto& w) { return w.first.starts_with("blocks.1."); });
  return c;
}

TEST_CASE("degenerate models and images give finite scales and sane answers") {
  std::vector<Case> cases = {one_block()};
  for (const char* name : {"vit", "swin_padded"})
    for (auto make : {zero_channels, constant_images, one_image, equal_weights})
      cases.push_back(make(name));
  for (const Case& c : cases)
    for (Method method : {Method::kLayerwise, Method::kRepq, Method::kCrl, Method::kFqVit,
                          Method::kPtq4Vit, Method::kApqVit})
      for (int bits : {3, 8}) {
        CAPTURE(c.name);
        CAPTURE(method_name(method));
        CAPTURE(bits);
        const Tensor want = Reference(c.model.graph, c.model.weights, 1).run(c.images);
        QuantizeOptions options;
        options.method = method;
        options.weight_bits = options.activation_bits = bits;
        options.levels = method == Method::kCrl;
        const Quantized quantized = quantize_model(c.model, tensor_source(c.images), options);
        for (const UnitRow& row : quantized.units) {
          CAPTURE(row.name);
          CHECK(std::isfinite(row.after.output));
          CHECK(row.low <= 0);
          CHECK(row.high >= row.low);
        }
        const Aligned file(quantized.file.serialize());
        const QuantModel model(QbinFile::from_memory(file.bytes(), "in memory"));
        for (const QuantizedOperand& o : model.graph().operands())
          CHECK(model.graph().quantizer(o.quantize).scale > 0);
        Engine engine(model.graph(), {.max_batch = static_cast<int>(c.images.dims[0])});
        std::vector<float> logits(want.data.size());
        engine.run(c.images.data.data(), static_cast<int>(c.images.dims[0]), logits.data());
        double error = 0, energy = 0;
        for (size_t i = 0; i < logits.size(); i++) {
          REQUIRE(std::isfinite(logits[i]));
          error += std::pow(logits[i] - want.data[i], 2);
          energy += std::pow(want.data[i], 2);
        }
        // FQ-ViT's log2 codes put a factor of up to sqrt 2 on attention weights that are all alike.
        const bool fine = bits == 8 && method != Method::kFqVit;
        CHECK(error <= (fine ? 0.25 * 0.25 : 2 * 2) * energy);
      }
}

TEST_CASE("the errors of a unit, by hand") {
  const FloatModel model = load_float_model(kModels + "vit.safetensors");
  Reference engine(model.graph, model.weights, 1);
  Tensor weight({1, 2}), rows({1, 2, 2});
  weight.data = {1, 2};
  rows.data = {0.25f, 1, 3, -1};
  // Codes of step 1 from 0 to 7: the rows become (0, 1) and (3, 0); the weight (1, 1).
  const WeightCodes codes{1, 2, 3, {1, 1}, {{1, 0}}};
  const LinearError e = linear_error(engine, weight, codes, rows, {3, {1, 0}});
  CHECK(e.input == doctest::Approx((0.0625 + 1) / (0.0625 + 1 + 9 + 1)));
  CHECK(e.weight == doctest::Approx(1.0 / 5));
  // Outputs 2.25 and 1, with codes 1 and 3; the mean of the outputs is 1.625.
  CHECK(e.output == doctest::Approx((1.25 * 1.25 + 4) / (2 * 0.625 * 0.625)));
  CHECK(decibels(0.1) == doctest::Approx(10));
  CHECK(decibels(0) == 99);
}

}  // namespace
}  // namespace vitrun
