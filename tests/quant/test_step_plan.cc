// Steps of entropy-coded weights: where they are best, the size that they give, and files of coded
// weights against the same codes stored as they are.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "quant/bits/step_plan.h"
#include "quant/pipeline.h"
#include "runtime/files/npy.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

Tensor normal_weight(int n, int k, float deviation) {
  std::mt19937 random(static_cast<unsigned>(n + k));
  std::normal_distribution<float> normal(0, deviation);
  Tensor weight({n, k});
  for (float& w : weight.data) w = normal(random);
  return weight;
}

TEST_CASE("the step of an entropy gives normal values that entropy") {
  const Tensor weight = normal_weight(200, 300, 0.03f);
  for (double bits : {2.0, 3.0, 4.5}) {
    const WeightCodes codes = quantize_weight(weight, WeightGrid{8, step_of_entropy(weight, bits)});
    CHECK(codes.coded);
    CHECK(8.0 * double(stored_bytes(codes)) / 60000 == doctest::Approx(bits).epsilon(0.03));
  }
}

TEST_CASE("narrow: the fewest bits that hold the codes, which stand for the same") {
  for (const auto& [largest, bits] :
       {std::pair{0.9f, 3}, {3.2f, 3}, {3.6f, 4}, {7.4f, 4}, {100.f, 8}}) {
    Tensor weight({1, 3});
    weight.data = {-1, 0, largest};
    WeightCodes codes = quantize_weight(weight, WeightGrid{8, 1});
    const std::vector<float> before = dequantize_weight(codes).data;
    narrow(codes);
    CHECK(codes.bits == bits);
    CHECK(codes.ranges[0].zero == 1 << (bits - 1));
    CHECK(dequantize_weight(codes).data == before);
  }
}

TEST_CASE("steps: equal error a code, and the bytes that were asked for") {
  const Tensor a = normal_weight(64, 96, 0.02f), b = normal_weight(128, 256, 0.5f);
  const WeightGrid of_a{8, step_of_entropy(a, 3)}, of_b{8, step_of_entropy(b, 3)};
  for (int64_t bytes : {12000, 16000, 20000}) {
    StepPlan plan({{"a", a, of_a, 2.0}, {"b", b, of_b, 0.5}}, bytes, bytes);
    const double ea = 2 * std::pow(double{plan.step("a")} / double{of_a.step}, 2),
                 eb = 0.5 * std::pow(double{plan.step("b")} / double{of_b.step}, 2);
    CHECK(ea / double(a.data.size()) == doctest::Approx(eb / double(b.data.size())).epsilon(1e-4));
    int64_t taken = 0;
    for (const auto& [name, weight] : {std::pair{"a", &a}, {"b", &b}}) {
      WeightCodes codes;
      do codes = quantize_weight(*weight, WeightGrid{8, plan.step(name)});
      while (!plan.take(name, codes));
      CHECK_FALSE(plan.has(name));
      taken += stored_bytes(codes);
    }
    CHECK(taken <= bytes);
    CHECK(taken >= bytes - bytes / 100);
  }
  CHECK(contains(error_of([&] {
                   StepPlan({{"a", a, of_a, 1}}, 100, 5000);
                 }),
                 "no steps of the weights fit into a file of 5000 bytes: the smallest possible has "
                 "about "));
}

TEST_CASE("steps: fewer bits hold the largest codes, so the narrowest step is wider") {
  const Tensor weight = normal_weight(64, 96, 0.02f);
  float before = 0;
  for (int bits : {8, 5, 4, 3}) {
    StepPlan plan({{"a", weight, {bits, 0.01f}, 1}}, 1 << 20, 1 << 20);
    const float step = plan.step("a");
    CHECK(step > before);
    before = step;
  }
}

// The file is made by the default recipe.
Quantized quantized(const std::string& name, std::optional<CodedSize> size) {
  return quantize_model(load_float_model(kModels + name + ".safetensors"),
                        tensor_source(read_npy(kModels + name + ".input.npy")),
                        {.coded = size,
                         .compensate = true,
                         .levels = true,
                         .split = true,
                         .row_group = kRowGroup,
                         .rotate = Rotate::kScores});
}

Tensor logits_of(const Buffer& file, const Tensor& images) {
  const Aligned bytes(file);
  const QuantModel model(QbinFile::from_memory(bytes.bytes(), "m.qbin"));
  Engine engine(model.graph(), {.max_batch = static_cast<int>(images.dims[0])});
  return engine.run_outputs(images, {})[0];
}

TEST_CASE("a file of coded weights has the size asked for, and fewer errors the larger it is") {
  for (const std::string name : {"vit", "swin"}) {
    CAPTURE(name);
    const Tensor images = read_npy(kModels + name + ".input.npy");
    const FloatModel model = load_float_model(kModels + name + ".safetensors");
    const Tensor exact = Reference(model.graph, model.weights, 1).run(images);
    const auto whole = std::ssize(quantized(name, {}).file.serialize());
    double before = INFINITY;
    for (double part : {0.6, 0.7}) {
      const auto bytes = static_cast<int64_t>(part * static_cast<double>(whole));
      const Buffer file = quantized(name, CodedSize{bytes}).file.serialize();
      CHECK(std::ssize(file) <= bytes);
      CHECK(std::ssize(file) >= bytes - bytes / 50);
      const Tensor logits = logits_of(file, images);
      double error = 0;
      for (size_t i = 0; i < logits.data.size(); i++)
        error += std::pow(double{logits.data[i]} - double{exact.data[i]}, 2);
      CHECK(error < before);
      before = error;
    }
  }
}

}  // namespace
}  // namespace vitrun
