// Quantizers and calibration against NumPy (tests/golden/make_quant.py) and against the formulas.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <random>

#include "models/base/error.h"
#include "models/graph/rewrite.h"
#include "quant/pipeline.h"
#include "quant/ranges/code_levels.h"
#include "quant/rewrite/fold.h"
#include "quant/rewrite/split_outliers.h"
#include "quant/rivals/hessian_ranges.h"
#include "runtime/files/npy.h"
#include "runtime/float/fake_quant.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kGolden = VITRUN_TEST_DIR "/golden/quant/";
const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

TEST_CASE("quantiles of a stream equal NumPy's, however it is cut") {
  const Tensor stream = read_npy(kGolden + "stream.npy"),
               expected = read_npy(kGolden + "quantiles.npy");
  for (size_t chunk : {size_t{1}, size_t{77}, stream.data.size()}) {
    TailObserver observer(static_cast<int64_t>(stream.data.size()));
    for (size_t i = 0; i < stream.data.size(); i += chunk)
      observer.add(std::span(stream.data).subspan(i, std::min(chunk, stream.data.size() - i)));
    for (size_t i = 0; i < std::size(kPercentiles); i++) {
      CHECK(observer.low(kPercentiles[i]) == doctest::Approx(expected.data[2 * i]).epsilon(1e-6));
      CHECK(observer.high(kPercentiles[i]) ==
            doctest::Approx(expected.data[2 * i + 1]).epsilon(1e-6));
    }
    CHECK(observer.high(1) == *std::max_element(stream.data.begin(), stream.data.end()));
  }
}

TEST_CASE("scales and zero points of weights equal NumPy's") {
  const Tensor weight = read_npy(kGolden + "weight.npy");
  for (int bits : {3, 4, 8}) {
    const Tensor expected = read_npy(kGolden + "weight_ranges_" + std::to_string(bits) + ".npy");
    const WeightCodes got = quantize_weight(weight, bits);
    for (size_t row = 0; row < got.ranges.size(); row++) {
      CAPTURE(row);
      CHECK(got.ranges[row].scale == doctest::Approx(expected.data[2 * row]).epsilon(1e-5));
      CHECK(got.ranges[row].zero == static_cast<int>(expected.data[2 * row + 1]));
    }
  }
}

TEST_CASE("a weight comes back within half a step, or at the end of its range") {
  const Tensor weight = read_npy(kGolden + "weight.npy");
  for (int bits = 3; bits <= 8; bits++) {
    const WeightCodes codes = quantize_weight(weight, bits);
    const Tensor back = dequantize_weight(codes);
    for (size_t i = 0; i < weight.data.size(); i++) {
      const UniformRange r = codes.ranges[i / 96];
      const bool clipped = codes.codes[i] == 0 || codes.codes[i] == (1 << bits) - 1;
      CHECK(codes.codes[i] < 1 << bits);
      if (!clipped) CHECK(std::fabs(back.data[i] - weight.data[i]) <= r.scale * 0.50001f);
    }
  }
}

TEST_CASE("levels are the best codes there are") {
  std::mt19937 random(3);
  constexpr int kUsed = 12, kLevels = 8;
  for (int trial = 0; trial < 5; trial++) {
    // Values up to code 11, some below the range, so that all choices of levels can be tried.
    const UniformRange range = {0.5f, 2};
    std::vector<float> x(90), w(x.size());
    for (float& v : x) v = static_cast<float>(random() % 1000) * 0.006f - 1.3f;
    for (float& v : w) v = static_cast<float>(random() % 9);
    LevelHistogram histogram(range);
    histogram.add(x, w, 0.25);
    const auto error_of = [&](size_t i, int code) {
      return 0.25 * double{w[i]} * std::pow(double{x[i]} - double{dequantize(code, range)}, 2);
    };
    double cost[kUsed][kUsed] = {};  // of all values of a code, by the level they get
    for (size_t i = 0; i < x.size(); i++)
      for (int level = 0; level < kUsed; level++)
        cost[quantize(x[i], range, 8)][level] += error_of(i, level);
    double least = INFINITY;
    for (unsigned chosen = 0; chosen < 1u << kUsed; chosen++) {
      if (std::popcount(chosen) != kLevels) continue;
      double error = 0;
      for (const auto& of_code : cost) {
        double nearest = INFINITY;
        for (int level = 0; level < kUsed; level++)
          if (chosen >> level & 1) nearest = std::min(nearest, of_code[level]);
        error += nearest;
      }
      least = std::min(least, error);
    }
    const LevelHistogram::Levels best = histogram.best(3);
    CHECK(best.runs.size() == kLevels);
    CHECK(best.error == doctest::Approx(least).epsilon(1e-5));
    double error = 0;
    const std::vector<uint8_t> table = level_table(best.runs);
    for (size_t i = 0; i < x.size(); i++)
      error += error_of(i, table[static_cast<size_t>(quantize(x[i], range, 8))]);
    CHECK(error == doctest::Approx(least).epsilon(1e-5));
  }
}

TEST_CASE("a tensor of few values has no more levels than those") {
  LevelHistogram histogram({1, 0});
  const std::vector<float> x = {7, 7, 9, 300}, w = {1, 2, 1, 1};
  histogram.add(x, w, 1);
  const auto best = histogram.best(4);
  REQUIRE(best.runs.size() == 3);
  const std::vector<uint8_t> table = level_table(best.runs);
  for (int code : {7, 9, 255}) CHECK(table[static_cast<size_t>(code)] == code);
  CHECK(best.error == doctest::Approx(45 * 45));
  CHECK(LevelHistogram({1, 0}).best(4).runs.size() == 1);  // nothing was seen
}

TEST_CASE("code 255 may be held to its own level, at the least cost to the others") {
  std::mt19937 random(5);
  std::vector<float> x(400), w(x.size(), 1);
  for (float& v : x) v = static_cast<float>(random() % 240);
  x[0] = 400;  // saturated
  LevelHistogram all({1, 0}), without({1, 0});
  all.add(x, w, 1);
  without.add(std::span(x).subspan(1), std::span(w).subspan(1), 1);
  for (int bits : {3, 4}) {
    const auto best = all.best(bits, true);
    CHECK(level_table(best.runs)[255] == 255);
    CHECK(level_table(best.runs)[254] < 255);
    CHECK(all.best(bits).error <= best.error);
    // One level fewer for the rest: between what one bit less and all of them give.
    const double rest = best.error - 145 * 145;
    CHECK(rest >= without.best(bits).error);
    CHECK(rest <= without.best(bits - 1).error);
  }
}

TEST_CASE("ranges of degenerate tensors are usable") {
  for (int bits : {3, 8}) {
    const int top = (1 << bits) - 1;
    CHECK(uniform_range(0, 0, bits) == UniformRange{1, 0});
    CHECK(uniform_range(2, 5, bits) == UniformRange{5.0f / static_cast<float>(top), 0});
    CHECK(uniform_range(-5, -2, bits) == UniformRange{5.0f / static_cast<float>(top), top});
    CHECK(uniform_range(0, 1e-44, bits) == UniformRange{1, 0});  // the scale would be denormal
    CHECK(quantize(1e30f, uniform_range(-1, 1, bits), bits) == top);
    CHECK(quantize(-INFINITY, uniform_range(-1, 1, bits), bits) == 0);
  }
}

TEST_CASE("log sqrt 2 codes stand for 2^(-k/2), to 16 bits") {
  const Tensor expected = read_npy(kGolden + "log_sqrt2.npy");
  for (int k = 0; k < 256; k++)
    CHECK(std::fabs(log_code_value(k, 2) -
                    65535.0 * static_cast<double>(expected.data[static_cast<size_t>(k)])) <=
          0.5 + 65535e-7);
}

TEST_CASE("sites name every operand of every product once") {
  const FloatModel vit = load_float_model(kModels + "deit_distilled.safetensors");
  const std::vector<Site> sites = activation_sites(vit.graph);
  size_t linears = 0, attentions = 0;
  for (const Node& n : vit.graph.nodes) {
    linears += n.kind == NodeKind::kLinear;
    attentions += n.kind == NodeKind::kMix;
  }
  CHECK(sites.size() == linears + 4 * attentions);
  for (size_t i = 0; i < sites.size(); i++)
    for (size_t j = 0; j < i; j++) CHECK(sites[i].name != sites[j].name);
  const std::vector<std::string> units = unit_names(vit.graph);
  for (const char* name : {"patch_embed", "blocks.0.attn.qkv", "blocks.0.attn.matmul1",
                           "blocks.0.attn.attn", "blocks.0.attn.matmul2", "blocks.0.attn.proj",
                           "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "head", "head_dist"})
    CHECK(std::count(units.begin(), units.end(), name) == 1);
}

TEST_CASE("folding LayerScale leaves the logits as they were") {
  FloatModel model = load_float_model(kModels + "deit3.safetensors");
  const Tensor images = read_npy(kModels + "deit3.input.npy");
  const Tensor before = Reference(model.graph, model.weights, 1).run(images);
  REQUIRE(model.graph.find("blocks.0.ls1") >= 0);
  fold_layer_scale(model);
  CHECK(model.graph.find("blocks.0.ls1") < 0);
  check_weights(model.graph, model.weights, "folded", model.info.arch);
  const Tensor after = Reference(model.graph, model.weights, 1).run(images);
  for (size_t i = 0; i < before.data.size(); i++)
    CHECK(after.data[i] == doctest::Approx(before.data[i]).epsilon(1e-4).scale(1));
}

TEST_CASE("calibrated ranges cover what the images gave") {
  const FloatModel model = load_float_model(kModels + "swin_padded.safetensors");
  const Tensor images = read_npy(kModels + "swin_padded.input.npy");
  const std::vector<Site> sites = activation_sites(model.graph);
  Reference engine(model.graph, model.weights, 2);
  const std::vector<int> bits(sites.size(), 8);
  const auto ranges = calibrate(engine, sites, bits, tensor_source(images), {Objective::kTensor});
  engine.run(images, [&](int node, Tensor& value) {
    for (size_t s = 0; s < sites.size(); s++) {
      if (sites[s].node != node || sites[s].softmax) continue;
      Tensor quantized = value;
      const UniformRange r = ranges[s].range;
      fake_quantize(sites[s], {ranges[s].bits, r.scale, r.zero}, quantized);
      double error = 0, energy = 0;
      for (size_t i = 0; i < value.data.size(); i++) {
        error += std::pow(static_cast<double>(quantized.data[i] - value.data[i]), 2);
        energy += std::pow(static_cast<double>(value.data[i]), 2);
      }
      CHECK(error < 1e-3 * energy);  // 8 bits over a range of a few standard deviations
    }
  });
}

TEST_CASE("calibration does not depend on threads") {
  const FloatModel model = load_float_model(kModels + "vit.safetensors");
  const Tensor images = read_npy(kModels + "vit.input.npy");
  const auto one = quantize_model(model, tensor_source(images), {.weight_bits = 4, .threads = 1})
                       .file.serialize();
  const auto three = quantize_model(model, tensor_source(images), {.weight_bits = 4, .threads = 3})
                         .file.serialize();
  CHECK(one == three);
}

TEST_CASE("compensated weights answer nearer to the float model, the same on any threads") {
  double nearest = 0, compensated = 0;
  for (const char* name : {"vit", "deit_distilled", "swin", "swin_padded"}) {
    const FloatModel model = load_float_model(kModels + name + ".safetensors");
    const Tensor images = read_npy(kModels + name + ".input.npy");
    const Tensor want = Reference(model.graph, model.weights, 1).run(images);
    const auto quantized = [&](bool compensate, int threads) {
      QuantizeOptions options;
      options.method = Method::kLayerwise;
      options.weight_bits = 3;
      options.compensate = compensate;
      options.threads = threads;
      return quantize_model(model, tensor_source(images), options).file.serialize();
    };
    const auto error = [&](const std::vector<uint8_t>& bytes) {
      const Aligned file(bytes);
      const QuantModel q(QbinFile::from_memory(file.bytes(), name));
      const Weights weights = dequantize_weights(q.graph());
      const Tensor got = Reference(q.graph().graph, weights, 1).run(images);
      double sum = 0, energy = 0;
      for (size_t i = 0; i < got.data.size(); i++) {
        sum += std::pow(double{got.data[i]} - double{want.data[i]}, 2);
        energy += std::pow(double{want.data[i]}, 2);
      }
      return sum / energy;
    };
    const auto once = quantized(true, 1);
    CHECK(once == quantized(true, 3));
    nearest += error(quantized(false, 1));
    compensated += error(once);
  }
  CHECK(compensated < 0.7 * nearest);
}

TEST_CASE("bits outside 3..8 and empty calibration are refused") {
  const FloatModel model = load_float_model(kModels + "vit.safetensors");
  const ImageSource images = tensor_source(read_npy(kModels + "vit.input.npy"));
  CHECK_THROWS_WITH_AS(quantize_model(model, images, {.weight_bits = 2}),
                       "weight bits must be 3 to 8, got 2", Error);
  CHECK_THROWS_WITH_AS(quantize_model(model, images, {.activation_bits = 9}),
                       "activation bits must be 3 to 8, got 9", Error);
  CHECK_THROWS_WITH_AS(quantize_model(model, {}, {}), "calibration needs at least one image",
                       Error);
}

// Relative to the largest of what is compared.
void check_close(std::span<const float> got, std::span<const float> want, double tolerance) {
  REQUIRE(got.size() == want.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < got.size(); i++) {
    worst = std::max(worst, std::fabs(double{got[i]} - double{want[i]}));
    largest = std::max(largest, std::fabs(double{want[i]}));
  }
  CHECK(worst <= tolerance * largest);
}

Tensor fold_golden(const std::string& name) {
  return read_npy(std::string(VITRUN_TEST_DIR) + "/golden/quant/fold_" + name + ".npy");
}

ChannelStatistics observed(const Tensor& x, int bits, ChannelSearch search) {
  ChannelObserver observer(24, 400, bits);
  observer.add(std::span(x.data).first(24 * 100));
  observer.add(std::span(x.data).subspan(24 * 100));
  observer.set_candidates(search);
  observer.add_error(x.data);
  return observer.best();
}

void check_fold(const ChannelStatistics& statistics, const std::string& name) {
  CAPTURE(name);
  Tensor gamma = fold_golden("gamma"), beta = fold_golden("beta"), weight = fold_golden("weight"),
         bias = fold_golden("bias");
  fold_channels(statistics, gamma, beta, weight, bias);
  const Tensor folded = fold_golden(name);
  const std::span<const float> all = folded.data;
  check_close(gamma.data, all.subspan(0, 24), 1e-5);
  check_close(beta.data, all.subspan(24, 24), 1e-5);
  check_close(weight.data, all.subspan(48, 240), 1e-5);
  check_close(bias.data, all.subspan(288, 10), 1e-5);
  CHECK(statistics.mean().scale == doctest::Approx(all[298]).epsilon(1e-5));
  CHECK(static_cast<float>(statistics.mean().zero) == all[299]);
}

TEST_CASE("channel statistics and folded parameters equal NumPy's") {
  const Tensor x = fold_golden("x");
  for (int bits : {4, 8}) {
    const ChannelStatistics found = observed(x, bits, ChannelSearch::kByPercentile);
    const Tensor want = fold_golden(cat("statistics_", bits));
    for (size_t c = 0; c < 24; c++) {
      CHECK(found.scale[c] == doctest::Approx(want.data[c]).epsilon(1e-5));
      CHECK(found.zero[c] == want.data[24 + c]);
    }
    check_fold(found, cat("repq_", bits));
    check_fold(found.clipped(1.5), cat("crl_", bits));
    check_fold(observed(x, bits, ChannelSearch::kByPowerOfTwo), cat("fq-vit_", bits));
  }
}

// Ranges of all sites and weight rows against an implementation in torch
// (tests/golden/make_guided.py).
TEST_CASE("the searches of ptq4vit and apq-vit choose what an independent implementation does") {
  FloatModel model = load_float_model(kModels + "vit.safetensors");
  const Weights before = model.weights;
  const ImageSource images = tensor_source(read_npy(kModels + "vit.input.npy"));
  const std::vector<Site> sites = activation_sites(model.graph);
  for (Method method : {Method::kPtq4Vit, Method::kApqVit})
    for (int bits : {4, 6}) {
      CAPTURE(method_name(method));
      CAPTURE(bits);
      std::vector<int> site_bits(sites.size(), bits);
      site_bits[0] = 8;
      std::map<int, UnitBits> linear_bits;
      for (const Site& s : sites)
        if (model.graph[s.consumer].kind == NodeKind::kLinear)
          linear_bits[s.consumer] = {bits, bits};
      const Operands got =
          search_guided(model, images, site_bits, linear_bits,
                        method == Method::kPtq4Vit ? Guidance::kProduct : Guidance::kBlock, 2);
      const Tensor want =
          read_npy(kGolden + cat("guided_", method_name(method), "_", bits, ".npy"));
      const float* row = want.data.data();
      for (size_t i = 0; i < sites.size(); i++, row += 4) {
        CAPTURE(sites[i].name);
        float levels = 0;
        for (LevelRun run : got.sites[i].levels) levels += run.level;
        CHECK(got.sites[i].range.scale == doctest::Approx(row[0]).epsilon(1e-5));
        CHECK(static_cast<float>(got.sites[i].range.zero) == row[1]);
        CHECK(static_cast<float>(got.sites[i].twin) == row[2]);
        CHECK(levels == row[3]);
      }
      for (const Node& n : model.graph.nodes) {
        if (n.kind != NodeKind::kLinear) continue;
        CAPTURE(n.name);
        for (const UniformRange& r : got.weights.at(n.name).ranges) {
          CHECK(r.scale == doctest::Approx(row[0]).epsilon(1e-5));
          CHECK(static_cast<float>(r.zero) == row[1]);
          row += 4;
        }
      }
      CHECK(row == want.data.data() + want.data.size());
      for (const auto& [name, w] : model.weights) CHECK(w.data == before.at(name).data);
    }
}

TEST_CASE("split outlier channels add up to what they were, within the bend of the GELU") {
  for (const char* name : {"vit", "swin_padded"}) {
    const std::string block = std::string(name) == "vit" ? "blocks.0" : "layers.0.blocks.0";
    CAPTURE(block);
    FloatModel model = load_float_model(kModels + name + ".safetensors");
    const Tensor images = read_npy(kModels + name + ".input.npy");
    const int gelu = model.graph.find(block + ".mlp.act");
    CHECK(split_outliers(model, tensor_source(images), 1) == 0);
    CHECK(!model.graph[gelu].has(Attribute::kLimit));
    add_outlier(model, block, 40);
    const FloatModel before = model;
    const int copies = split_outliers(model, tensor_source(images), 2);
    REQUIRE(copies > 3);
    check_weights(model.graph, model.weights, "split", model.info.arch);
    const auto size = [&](const Graph& graph, const char* linear) {
      return linear_size(graph, graph.find(block + linear));
    };
    CHECK(size(model.graph, ".mlp.fc1").n == size(before.graph, ".mlp.fc1").n + copies);
    CHECK(size(model.graph, ".mlp.fc2").k == size(before.graph, ".mlp.fc2").k + copies);
    for (const Node& n : model.graph.nodes)
      CHECK(n.has(Attribute::kLimit) == (n.name == block + ".mlp.act"));
    const float limit = model.graph[gelu].limit();
    Tensor h, y;
    Reference(before.graph, before.weights, 1).run(images, [&](int node, Tensor& value) {
      if (node == gelu - 1) h = value;
    });
    Reference(model.graph, model.weights, 1).run(images, [&](int node, Tensor& value) {
      if (node == gelu) y = value;
    });
    const auto hidden = static_cast<size_t>(h.dims[2]), all = static_cast<size_t>(y.dims[2]);
    REQUIRE(all == hidden + static_cast<size_t>(copies));
    const auto below = [](double x) { return std::erfc(x / std::sqrt(2.0)) / 2; };  // Phi(-x)
    for (size_t row = 0; row < h.data.size() / hidden; row++) {
      const double value = h.data[row * hidden + 3];
      double sum = y.data[row * all + 3], bend = std::fabs(value) * below(std::fabs(value));
      for (size_t i = hidden; i < all; i++) {
        const double at = value - static_cast<double>(limit) * static_cast<double>(i - hidden + 1);
        sum += y.data[row * all + i];
        bend += std::fabs(at) * below(std::fabs(at));
      }
      CHECK(std::fabs(sum - std::max(value, 0.0)) <= bend + 1e-4 * std::fabs(value) + 1e-6);
      for (size_t i = 0; i < all; i++) CHECK(y.data[row * all + i] <= limit);
    }
  }
}

TEST_CASE("pixels keep all of their 256 values as codes") {
  for (const char* name : {"vit", "swin"}) {  // means of 1/2 and of ImageNet
    FloatModel model = load_float_model(kModels + name + ".safetensors");
    const Tensor raw = read_npy(kModels + name + ".input.npy");
    const Tensor want = Reference(model.graph, model.weights, 1).run(raw);
    const PreprocessConfig& p = model.info.preprocess;
    Tensor images = raw;
    const size_t area = static_cast<size_t>(raw.dims[2] * raw.dims[3]);
    for (size_t i = 0; i < raw.data.size(); i++) {
      const size_t channel = i / area % 3;
      const float pixel = static_cast<float>(i * 7 % 256) / 255;
      images.data[i] = (pixel - p.mean[channel]) / p.std[channel];
    }
    QuantizeOptions options;
    options.levels = true;
    const Aligned file(quantize_model(model, tensor_source(images), options).file.serialize());
    const QuantModel quantized(QbinFile::from_memory(file.bytes(), name));
    const QuantizedOperand first = quantized.graph().operands()[0];
    CHECK(quantized.graph().graph[first.consumer].name == "patch_embed.proj");
    const CodeParams& params = quantized.graph().quantizer(first.quantize);
    CHECK(params.scale == 1.f / 255);
    CHECK(params.zero == 0);
    fold_normalization(model);
    check_weights(model.graph, model.weights, "folded", model.info.arch);
    const Site site = activation_sites(model.graph)[0];
    REQUIRE(model.graph.is(site.node, NodeKind::kWindow));
    Reference folded(model.graph, model.weights, 1);
    check_close(folded.run(raw).data, want.data, 1e-5);
    std::vector<bool> seen(256);
    folded.run(images, [&](int node, Tensor& value) {
      if (node != site.node) return;
      const Tensor exact = value;
      fake_quantize(site, params, value);
      for (size_t i = 0; i < value.data.size(); i++) {
        REQUIRE(std::fabs(value.data[i] - exact.data[i]) < 1e-6);
        seen[static_cast<size_t>(std::lround(value.data[i] * 255))] = true;
      }
    });
    CHECK(std::count(seen.begin(), seen.end(), true) == 256);
  }
}

// The values that a LayerNorm of the golden models feeds its Linear, before and after the fold.
TEST_CASE("a fold of LayerNorm leaves the logits unchanged") {
  for (const char* name : {"vit", "deit_distilled", "deit3", "swin", "swin_padded"})
    for (Method method : {Method::kRepq, Method::kCrl, Method::kFqVit}) {
      const std::string model_name = name;
      CAPTURE(model_name);
      const std::string path = std::string(VITRUN_TEST_DIR) + "/golden/models/" + name;
      FloatModel model = load_float_model(path + ".safetensors");
      const Tensor images = read_npy(path + ".input.npy"), want = read_npy(path + ".logits.npy");
      fold_layer_scale(model);
      FoldOptions options;
      options.method = method;
      for (size_t i = 0; i < model.graph.nodes.size(); i++)
        if (model.graph.nodes[i].kind == NodeKind::kLinear)
          options.bits[static_cast<int>(i)] = {4, 4};
      const auto folds = fold_norms(model, tensor_source(images), options);
      CHECK(folds.size() >= 4);
      Reference engine(model.graph, model.weights, 1);
      const Tensor got = engine.run(images);
      check_close(got.data, want.data, 1e-4);
    }
}

}  // namespace
}  // namespace vitrun
