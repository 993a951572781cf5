// Predicted errors of the logits against those measured by running the model; the gradients they
// are made of against finite differences.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "kernels/pack.h"
#include "lrp/walk/scores.h"
#include "models/graph/quantizers.h"
#include "models/graph/rewrite.h"
#include "quant/bits/logits_error.h"
#include "quant/bits/target_plan.h"
#include "quant/weights/gradients.h"
#include "quant/weights/weight_codes.h"
#include "runtime/float/fake_quant.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

Tensor random_images(const ModelInfo& info, int64_t count) {
  Tensor images({count, 3, info.image_height, info.image_width});
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (float& x : images.data) x = normal(random);
  return images;
}

double squared_change(const Tensor& a, const Tensor& b) {
  double change = 0, energy = 0;
  for (size_t i = 0; i < a.data.size(); i++) {
    change += std::pow(double{a.data[i]} - double{b.data[i]}, 2);
    energy += std::pow(double{a.data[i]}, 2);
  }
  return change / energy;
}

std::vector<int> linears_of(const Graph& graph) {
  std::vector<int> linears;
  for (size_t i = 0; i < graph.nodes.size(); i++)
    if (graph.nodes[i].kind == NodeKind::kLinear) linears.push_back(static_cast<int>(i));
  return linears;
}

TEST_CASE("gradients summed over tokens are the logits' derivatives by biases") {
  for (const char* name : {"vit", "swin", "deit3"}) {
    CAPTURE(name);
    FloatModel m = load_float_model(model(name));
    const Tensor image = random_images(m.info, 1);
    Reference forward(m.graph, m.weights, 1);
    std::map<int, std::vector<double>> sums;  // over tokens, of each Linear's columns
    const int64_t seed = 3;
    const GradientWalk walk(m);
    walk.visit(walk.values(forward, image), {&seed, 1},
               [&](int linear, std::span<const float> gradient) {
                 const size_t cols = static_cast<size_t>(linear_size(m.graph, linear).n);
                 sums[linear].resize(cols);
                 for (size_t i = 0; i < gradient.size(); i++) sums[linear][i % cols] += gradient[i];
               });
    CHECK(sums.size() == linears_of(m.graph).size());
    const std::vector<double> signs = sums.rbegin()->second;  // the head's gradient is the signs
    const auto along = [&](const std::string& bias, size_t column, float step) {
      m.weights.at(bias).data[column] += step;
      const Tensor logits = forward.run(image);
      m.weights.at(bias).data[column] -= step;
      return std::inner_product(signs.begin(), signs.end(), logits.data.begin(), 0.0);
    };
    for (const auto& [linear, sum] : sums) {
      const std::string bias = m.graph[linear].bias;
      if (bias.empty()) continue;
      CAPTURE(bias);
      double largest = 0;
      for (double s : sum) largest = std::max(largest, std::fabs(s));
      for (size_t column = 0; column < sum.size(); column += 5)
        CHECK(std::fabs((along(bias, column, 0.01f) - along(bias, column, -0.01f)) / 0.02 -
                        sum[column]) < 0.02 * largest + 1e-3);
    }
  }
}

TEST_CASE("gradients leave out the row that pads a Swin map; their norms and moments are theirs") {
  const FloatModel m = load_float_model(model("swin_padded"));
  const Tensor images = random_images(m.info, 4);  // the last is unseen
  const auto got = output_gradients(m, images, 3);
  std::map<int, std::vector<double>> squares, fitted, unseen;
  Reference forward(m.graph, m.weights, 1);
  const GradientWalk walk(m);
  const Shapes shapes = infer_shapes(m.graph);
  for (int64_t i = 0; i < 4 * kGradientSigns; i++)
    walk.visit(walk.values(forward, slice(images, i % 4, 1)), {&i, 1},
               [&](int linear, std::span<const float> gradient) {
                 const auto rows = static_cast<size_t>(shapes[m.graph[linear].in[0]].rows);
                 const auto cols = static_cast<size_t>(shapes[linear].cols);
                 REQUIRE(gradient.size() == rows * cols);
                 auto& norms = squares[linear];
                 auto& moments = (i % 4 < 3 ? fitted : unseen)[linear];
                 norms.resize(4 * rows);
                 moments.resize(cols * cols);
                 for (size_t row = 0; row < rows; row++)
                   for (size_t a = 0; a < cols; a++)
                     for (size_t b = 0; b < cols; b++) {
                       const double product =
                           double{gradient[row * cols + a]} * double{gradient[row * cols + b]};
                       moments[a * cols + b] += product;
                       if (a == b) norms[static_cast<size_t>(i % 4) * rows + row] += product;
                     }
               });
  const auto check = [](const auto& values, const std::vector<double>& wanted) {
    REQUIRE(values.size() == wanted.size());
    double error = 0, energy = 1e-30;
    for (size_t i = 0; i < values.size(); i++) {
      error += std::pow(static_cast<double>(values[i]) - wanted[i], 2);
      energy += std::pow(wanted[i], 2);
    }
    CHECK(error < 1e-8 * energy);
  };
  CHECK(squares.size() > 5);
  for (auto& [linear, sums] : squares) {
    for (double& s : sums) s = std::sqrt(s / static_cast<double>(kGradientSigns));
    check(got.at(linear).norms, sums);
    check(got.at(linear).fitted.matrix(), fitted.at(linear));
    check(got.at(linear).unseen.matrix(), unseen.at(linear));
  }
}

// Sum of predictions over sum of measurements, and how far their ranks agree.
struct Agreement {
  std::vector<double> predicted, measured;

  double ratio() const {
    return std::accumulate(predicted.begin(), predicted.end(), 0.0) /
           std::accumulate(measured.begin(), measured.end(), 0.0);
  }
  double ranks() const { return kendall_tau(predicted, measured); }
};

// A prediction is a sum of many squares over twelve images, each with signs of its own: what errs
// is the theory's first order and the independence of rows, which should leave sums over units
// within a factor of 2. Ranks must agree for the most part: units differ by more than that.
TEST_CASE("predicted errors of the embedded model's logits are those measured") {
  FloatModel m = load_float_model(VITRUN_TEST_DIR "/../models/cifar10/vit.safetensors");
  const Tensor images = random_images(m.info, 24);
  const LogitsErrors errors =
      predict_errors(m, tensor_source(images), {.activations = true, .threads = 2}, {});
  Reference engine(m.graph, m.weights, 2);
  const Tensor first = slice(images, 0, 12), last = slice(images, 12, 12);
  const Tensor exact = engine.run(last);
  for (int bits : {3, 4, 5}) {
    CAPTURE(bits);
    Agreement weights;
    for (const Site& s : activation_sites(m.graph)) {
      const Node& n = m.graph[s.consumer];
      if (n.kind != NodeKind::kLinear) continue;
      Tensor& weight = m.weights.at(n.weight);
      Tensor other = dequantize_weight(quantize_weight(weight, bits));
      std::swap(weight, other);
      weights.predicted.push_back(errors.at(s.unit).weight[static_cast<size_t>(bits - kMinBits)]);
      weights.measured.push_back(squared_change(exact, engine.run(last)));
      std::swap(weight, other);
    }
    CHECK(weights.ratio() > 0.5);
    CHECK(weights.ratio() < 2);
    CHECK(weights.ranks() > 0.5);
  }
  std::vector<Site> sites;
  for (const Site& s : activation_sites(m.graph))
    if (!s.softmax && s.unit != "patch_embed") sites.push_back(s);
  for (int bits : {4, 6}) {
    CAPTURE(bits);
    const auto ranges =
        calibrate(engine, sites, std::vector<int>(sites.size(), bits), tensor_source(first), {});
    Agreement inputs;
    for (size_t i = 0; i < sites.size(); i++) {
      if (i && sites[i].unit == sites[i - 1].unit) continue;  // k, measured with q
      const size_t end = i + 1 < sites.size() && sites[i + 1].unit == sites[i].unit ? i + 2 : i + 1;
      inputs.predicted.push_back(
          errors.at(sites[i].unit).activation[static_cast<size_t>(bits - kMinBits)]);
      inputs.measured.push_back(
          squared_change(exact, engine.run(last, [&](int node, Tensor& value) {
            for (size_t s = i; s < end; s++)
              if (sites[s].node == node) fake_quantize(sites[s], ranges[s].params(), value);
          })));
    }
    CHECK(inputs.ratio() > 0.5);
    CHECK(inputs.ratio() < 2);
    CHECK(inputs.ranks() > 0.5);
  }
  // The plans that follow: where 8 bits cost nothing inputs have them; on avx2, where 6 bits and
  // more cost time and, of W4's bytes, two weights of 3 bits each, few multiply-adds have those.
  for (const std::string target : kTargets) {
    CAPTURE(target);
    const CostTable costs = read_costs(target);
    const BitPlan plan = plan_within(m.graph, errors, &costs, {4, 8}, {}).bits;
    double above = 0, all = 0;
    for (const UnitWork& work : work_of(m.graph)) {
      const UnitBits& bits = plan.at(work.unit);
      const auto share = static_cast<double>(work.multiply_adds);
      all += share;
      if (work.kind == NodeKind::kLinear && bits.weight > 5) above += share;
      if (target == "vnni" || target == "neondot") CHECK(bits.activation == 8);
    }
    if (target == "avx2") CHECK(above < 0.25 * all);
  }
}

TEST_CASE("predicted errors fall with bits, less with compensated rounding; weights stay") {
  const FloatModel m = load_float_model(model("deit_distilled"));
  const Weights before = m.weights;
  const ImageSource images = tensor_source(random_images(m.info, 24));
  double sums[2] = {};
  for (const bool compensate : {false, true})
    for (const auto& [unit, e] : predict_errors(m, images, {.compensate = compensate}, {})) {
      REQUIRE(e.weight.size() == 6);
      CHECK(e.weight[5] == e.weight[2] / 64);
      for (double a : e.activation) CHECK(a == 0);  // not asked for
      sums[compensate] += e.weight[0];
    }
  CHECK(sums[0] > 0);
  CHECK(sums[1] < sums[0]);
  for (const auto& [name, t] : m.weights) CHECK(t.data == before.at(name).data);
}

}  // namespace
}  // namespace vitrun
