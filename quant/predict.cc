#include "quant/predict.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/pack.h"
#include "quant/compensate.h"
#include "quant/gradients.h"
#include "runtime/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kProbes = 8;        // images that errors are predicted on
constexpr int64_t kMostRounded = 16;  // images that candidates are rounded for
constexpr int kSigns = 2;             // walks an image
constexpr int kMeasuredBits = 5;      // of weights
constexpr size_t kWidths = kMaxBits - kMinBits + 1;
constexpr double kRoundPart = 0.6, kRangePart = 0.2;  // of the progress

// What a Linear's weight may become.
struct WeightCandidates {
  std::vector<WeightCodes> codes;  // kMinBits .. kMeasuredBits
  std::vector<float> mean;         // of the input, whose error the bias makes up for; or zeros
};

// What a site may become.
struct SiteCandidates {
  Site site;
  std::vector<UniformRounding> roundings;  // kMinBits .. kMaxBits
};

const Node& node_at(const Graph& graph, int node) {
  return graph.nodes[static_cast<size_t>(node)];
}

std::vector<float> column_means(const Tensor& value) {
  const auto cols = static_cast<size_t>(value.dims[2]);
  std::vector<double> sums(cols);
  for (size_t i = 0; i < value.data.size(); i++) sums[i % cols] += value.data[i];
  std::vector<float> means;
  for (double s : sums)
    means.push_back(static_cast<float>(s / static_cast<double>(value.dims[0] * value.dims[1])));
  return means;
}

WeightCandidates round_weight(const Tensor& inputs, const Tensor& weight,
                              const PredictOptions& options) {
  WeightCandidates out;
  for (int bits = kMinBits; bits <= kMeasuredBits; bits++)
    out.codes.push_back(options.compensate
                            ? compensate_weight(inputs, weight, bits, options.threads)
                            : quantize_weight(weight, bits));
  if (options.compensate)
    out.mean = column_means(inputs);
  else
    out.mean.resize(static_cast<size_t>(inputs.dims[2]));
  return out;
}

std::map<int, WeightCandidates> round_weights(const FloatModel& model, const Tensor& images,
                                              const PredictOptions& options,
                                              const Progress& progress) {
  std::map<int, WeightCandidates> out;
  const auto& nodes = model.graph.nodes;
  Reference engine(model.graph, model.weights, options.threads);
  engine.run(images, [&](int node, Tensor& value) {
    for (size_t i = 0; i < nodes.size(); i++)
      if (nodes[i].kind == NodeKind::kLinear && nodes[i].in[0] == node)
        out[static_cast<int>(i)] = round_weight(value, model.weights.at(nodes[i].weight), options);
    progress(static_cast<double>(node) / static_cast<double>(nodes.size()));
  });
  return out;
}

// Of every site but pixels and softmax codes.
std::vector<SiteCandidates> search_ranges(const FloatModel& model, const ImageSource& images,
                                          const PredictOptions& options, const Progress& progress) {
  std::vector<Site> sites;
  std::vector<int> bits;
  for (const Site& s : activation_sites(model.graph)) {
    if (s.kind == CodeKind::kSoftmax || node_at(model.graph, s.node).kind == NodeKind::kPatches)
      continue;
    for (int b = kMinBits; b <= kMaxBits; b++) {
      sites.push_back(s);
      bits.push_back(b);
    }
  }
  Reference engine(model.graph, model.weights, options.threads);
  const std::vector<SiteRange> ranges =
      calibrate(engine, sites, bits, images, {.objective = options.objective}, progress);
  std::vector<SiteCandidates> out;
  for (size_t i = 0; i < ranges.size(); i++) {
    if (i % kWidths == 0) out.push_back({sites[i], {}});
    out.back().roundings.emplace_back(ranges[i].params());
  }
  return out;
}

// <G, E> of every candidate, in the order of UnitErrors.
struct Change {
  double weight[kMeasuredBits - kMinBits + 1] = {}, activation[kWidths] = {};
};
using Changes = std::map<std::string, Change>;  // by unit

// The candidates and what one walk over one image says of them.
class Probe {
 public:
  Probe(const FloatModel& model, std::map<int, WeightCandidates> weights,
        std::vector<SiteCandidates> sites)
      : model_(model), weights_(std::move(weights)), sites_(std::move(sites)), walk_(model) {
    for (const Site& s : activation_sites(model.graph)) {
      if (node_at(model.graph, s.consumer).kind == NodeKind::kLinear) unit_of_[s.consumer] = s.unit;
      if (s.kind != CodeKind::kSoftmax) seen_.push_back(s.node);
    }
  }

  // Returns the sum of squares of the logits.
  double run(Reference& forward, const Tensor& image, int64_t seed, Changes& changes) const {
    std::map<int, Tensor> values;  // of Linears' inputs and of qkv
    const Tensor logits = forward.run(image, [&](int node, Tensor& value) {
      if (std::find(seen_.begin(), seen_.end(), node) != seen_.end()) values[node] = value;
    });
    walk_.visit(forward, image, seed, [&](int linear, std::span<const float> gradient) {
      see_weight(linear, gradient, values, changes[unit_of_.at(linear)]);
      for (const SiteCandidates& s : sites_) {
        const Tensor& value = values.at(s.site.node);
        if (s.site.consumer == linear)
          see_input(s, through_weight(linear, gradient), value, changes[s.site.unit]);
        else if (s.site.node == linear)
          see_input(s, gradient, value, changes[s.site.unit]);
      }
    });
    double energy = 0;
    for (float y : logits.data) energy += double{y} * double{y};
    return energy;
  }

 private:
  const Tensor& weight_of(int linear) const {
    return model_.weights.at(node_at(model_.graph, linear).weight);
  }

  // <W^ - W, G^T X>, X less the mean that the bias takes.
  void see_weight(int linear, std::span<const float> gradient, const std::map<int, Tensor>& values,
                  Change& change) const {
    const WeightCandidates& candidates = weights_.at(linear);
    const Node& n = node_at(model_.graph, linear);
    Tensor x = values.at(n.in[0]);
    const size_t k = static_cast<size_t>(x.dims[2]), cols = static_cast<size_t>(n.cols);
    for (size_t i = 0; i < x.data.size(); i++) x.data[i] -= candidates.mean[i % k];
    std::vector<float> product(cols * k);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n.cols, static_cast<int>(k),
                static_cast<int>(x.dims[1]), 1, gradient.data(), n.cols, x.data.data(),
                static_cast<int>(k), 0, product.data(), static_cast<int>(k));
    const Tensor& weight = weight_of(linear);
    for (size_t b = 0; b < candidates.codes.size(); b++) {
      const WeightCodes& codes = candidates.codes[b];
      for (size_t i = 0; i < product.size(); i++)
        change.weight[b] +=
            double{product[i]} *
            double{dequantize(codes.codes[i], codes.ranges[i / k]) - weight.data[i]};
    }
  }

  // G W [rows, K].
  std::vector<float> through_weight(int linear, std::span<const float> gradient) const {
    const Tensor& weight = weight_of(linear);
    const int cols = node_at(model_.graph, linear).cols,
              k = static_cast<int>(weight.data.size()) / cols,
              rows = static_cast<int>(gradient.size()) / cols;
    std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(k));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, k, cols, 1, gradient.data(), cols,
                weight.data.data(), k, 0, out.data(), k);
    return out;
  }

  // <gradient, x^ - x> over the columns of a site; `gradient` has the rows that are no padding.
  static void see_input(const SiteCandidates& s, std::span<const float> gradient,
                        const Tensor& value, Change& change) {
    const auto cols = static_cast<size_t>(value.dims[2]);
    for (size_t row = 0; row < gradient.size(); row += cols)
      for (size_t i = row + static_cast<size_t>(s.site.begin);
           i < row + static_cast<size_t>(s.site.end); i++) {
        if (gradient[i] == 0) continue;
        for (size_t b = 0; b < kWidths; b++)
          change.activation[b] +=
              double{gradient[i]} * double{s.roundings[b](value.data[i]) - value.data[i]};
      }
  }

  const FloatModel& model_;
  std::map<int, WeightCandidates> weights_;
  std::vector<SiteCandidates> sites_;
  GradientWalk walk_;
  std::map<int, std::string> unit_of_;  // by Linear
  std::vector<int> seen_;               // nodes whose values are needed
};

LogitsErrors squares_of(const std::vector<Changes>& walks, double energy) {
  LogitsErrors errors;
  for (const Changes& changes : walks)
    for (const auto& [unit, change] : changes) {
      UnitErrors& e = errors[unit];
      e.weight.resize(kWidths);
      e.activation.resize(kWidths);
      for (size_t b = 0; b < std::size(change.weight); b++)
        e.weight[b] += change.weight[b] * change.weight[b];
      for (size_t b = 0; b < kWidths; b++)
        e.activation[b] += change.activation[b] * change.activation[b];
    }
  for (auto& [unit, e] : errors) {
    for (size_t b = 0; b < kWidths; b++) {
      e.weight[b] = b <= kMeasuredBits - kMinBits ? e.weight[b] / std::max(energy, 1e-30)
                                                  : e.weight[b - 1] / 4;
      e.activation[b] /= std::max(energy, 1e-30);
    }
  }
  return errors;
}

}  // namespace

LogitsErrors predict_errors(const FloatModel& model, const ImageSource& images,
                            const PredictOptions& options, const Progress& progress) {
  const int64_t probes = std::max<int64_t>(std::min(kProbes, images.count / 2), 1);
  const int64_t rounded = std::clamp<int64_t>(images.count - probes, 1, kMostRounded);
  const ImageSource first = tensor_source(images.load(0, rounded));
  const auto part = [&](double from, double length) {
    return [&progress, from, length](double done) {
      if (progress) progress(from + length * done);
    };
  };
  const Probe probe(
      model, round_weights(model, first.load(0, rounded), options, part(0, kRoundPart)),
      options.activations ? search_ranges(model, first, options, part(kRoundPart, kRangePart))
                          : std::vector<SiteCandidates>());
  const Tensor others = images.load(images.count - probes, probes);
  std::vector<Changes> walks(static_cast<size_t>(probes) * kSigns);
  std::vector<double> energies(walks.size());
  std::atomic<size_t> next{0};
  ThreadPool(options.threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (size_t i; (i = next.fetch_add(1)) < walks.size();)
      energies[i] = probe.run(forward, slice(others, static_cast<int64_t>(i) % probes, 1),
                              static_cast<int64_t>(i), walks[i]);
  });
  double energy = 0;
  for (double e : energies) energy += e;
  return squares_of(walks, energy);
}

}  // namespace vitrun
