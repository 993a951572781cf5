// Tuning by gradients: it must undo damage to what it may change, and leave the rest alone.
#include <doctest/doctest.h>

#include <cmath>

#include "quant/pipeline.h"
#include "quant/weights/tune.h"
#include "runtime/files/npy.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

// A model whose weights are 8-bit codes, with inputs in float as far as ranges allow.
struct Case {
  FloatModel reference, model;
  std::map<std::string, WeightCodes> weights;
  std::vector<SiteRange> ranges;
  ImageSource images;
};

Case make_case(const std::string& name) {
  Case c;
  c.reference = load_float_model(kModels + name + ".safetensors");
  for (int i = 0; i < c.reference.graph.size(); i++)
    if (c.reference.graph.is(i, NodeKind::kLinear)) ensure_bias(c.reference, i);
  c.model = c.reference;
  for (const Node& n : c.model.graph.nodes)
    if (n.kind == NodeKind::kLinear)
      c.weights[n.name] = quantize_weight(c.model.weights.at(n.weight), 8);
  c.images = tensor_source(read_npy(kModels + name + ".input.npy"));
  Reference engine(c.reference.graph, c.reference.weights, 1);
  const std::vector<Site> sites = activation_sites(c.reference.graph);
  c.ranges = calibrate(engine, sites, std::vector<int>(sites.size(), 8), c.images, {});
  return c;
}

// |y - t| / |t| of the first output: of the model in float with what its codes stand for.
double error_of(const Case& c) {
  FloatModel twin = c.model;
  for (const Node& n : twin.graph.nodes)
    if (n.kind == NodeKind::kLinear)
      twin.weights.at(n.weight).data = dequantize_weight(c.weights.at(n.name)).data;
  const Tensor images = c.images.load(0, c.images.count);
  const Tensor wanted = Reference(c.reference.graph, c.reference.weights, 1).run(images),
               y = Reference(twin.graph, twin.weights, 1).run(images);
  double difference = 0, size = 0;
  for (size_t i = 0; i < y.data.size(); i++) {
    difference += std::pow(double{y.data[i]} - double{wanted.data[i]}, 2);
    size += std::pow(double{wanted.data[i]}, 2);
  }
  return std::sqrt(difference / size);
}

// Adds `part` of its size to every third element or takes it away, in turn.
void damage(std::vector<float>& v, float part) {
  for (size_t i = 0; i < v.size(); i += 3) v[i] *= i % 2 ? 1 + part : 1 - part;
}

TEST_CASE("tuning undoes damage to biases, norms and scales") {
  for (const char* name : {"vit", "swin"}) {
    for (const std::string part : {"bias", "norm", "scale"}) {
      const std::string model_name = name;
      CAPTURE(model_name);
      CAPTURE(part);
      Case c = make_case(name);
      const double sound = error_of(c);
      for (const Node& n : c.model.graph.nodes) {
        if (n.block < 0) continue;
        if (n.kind == NodeKind::kLinear && part == "bias")
          damage(c.model.weights.at(n.bias).data, 1);
        if (n.kind == NodeKind::kNorm && part == "norm")
          damage(c.model.weights.at(n.weight).data, 0.5);
        if (n.kind == NodeKind::kLinear && part == "scale")
          for (size_t i = 0; i < c.weights.at(n.name).ranges.size(); i += 3)
            c.weights.at(n.name).ranges[i].scale *= 1.5f;
      }
      const double damaged = error_of(c);
      REQUIRE(damaged > 3 * sound);
      const auto codes = c.weights;
      tune(c.model, c.weights, c.ranges, c.reference, c.images, 1, {},
           {.steps = 200, .rate = 1e-2});
      CHECK(error_of(c) < damaged / 3);
      for (const auto& [linear, w] : codes) CHECK(c.weights.at(linear).codes == w.codes);
    }
  }
}

TEST_CASE("tuning gives the same model with any number of threads") {
  Case one = make_case("swin_padded"), three = make_case("swin_padded");
  tune(one.model, one.weights, one.ranges, one.reference, one.images, 1, {}, {.steps = 3});
  tune(three.model, three.weights, three.ranges, three.reference, three.images, 3, {},
       {.steps = 3});
  bool changed = false;
  for (const auto& [name, tensor] : one.model.weights) {
    CAPTURE(name);
    CHECK(tensor.data == three.model.weights.at(name).data);
    changed |= tensor.data != one.reference.weights.at(name).data;
  }
  CHECK(changed);
  for (const auto& [name, codes] : one.weights)
    for (size_t i = 0; i < codes.ranges.size(); i++)
      CHECK(codes.ranges[i].scale == three.weights.at(name).ranges[i].scale);
}

TEST_CASE("a padding's row, which is a bias, is not tuned") {
  Case c = make_case("swin_padded");
  tune(c.model, c.weights, c.ranges, c.reference, c.images, 1, {}, {.steps = 3});
  const Shapes shapes = infer_shapes(c.reference.graph);
  int padded = 0;
  for (int i = 0; i < c.reference.graph.size(); i++) {
    const Node& n = c.reference.graph[i];
    if (n.kind != NodeKind::kLinear || !shapes[i].pad_row) continue;
    padded++;
    CHECK(c.model.weights.at(n.bias).data == c.reference.weights.at(n.bias).data);
  }
  CHECK(padded > 0);
}

}  // namespace
}  // namespace vitrun
