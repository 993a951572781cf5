#include "quant/rewrite/fold.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/base/error.h"
#include "models/graph/rewrite.h"
#include "quant/weights/weight_codes.h"

namespace vitrun {
namespace {

constexpr int64_t kKeptRows = 2048;  // rows of a LayerNorm's output on which folds are compared

// Scales the rows of a Linear's weight [N, K] and its bias [N] by gamma [N].
void scale_rows(Tensor& weight, Tensor& bias, const std::vector<float>& gamma) {
  const size_t n = gamma.size(), k = weight.data.size() / n;
  for (size_t i = 0; i < n; i++) {
    bias.data[i] *= gamma[i];
    for (size_t j = 0; j < k; j++) weight.data[i * k + j] *= gamma[i];
  }
}

// Observes the output of one LayerNorm that a Linear reads: ranges of its channels, and some rows.
class NormObserver {
 public:
  NormObserver(const Shape& norm, int linear, int bits, int64_t images)
      : linear_(linear),
        step_(std::max<int64_t>(1, images * norm.rows / kKeptRows)),
        channels_(norm.cols, images * norm.rows, bits),
        kept_({0, norm.cols}) {}

  int linear() const { return linear_; }
  ChannelObserver& channels() { return channels_; }
  // Evenly drawn rows of the output, [m, channels].
  const Tensor& kept() const { return kept_; }

  void observe(const Tensor& value) {
    channels_.add(value.data);
    const auto cols = static_cast<size_t>(kept_.dims[1]);
    for (size_t i = 0; i < value.data.size(); i += cols, seen_++) {
      if (seen_ % step_ != 0) continue;
      const float* row = value.data.data() + i;
      kept_.data.insert(kept_.data.end(), row, row + cols);
      kept_.dims[0]++;
    }
  }
  void add_error(const Tensor& value) { channels_.add_error(value.data); }

 private:
  int linear_;
  int64_t step_, seen_ = 0;
  ChannelObserver channels_;
  Tensor kept_;
};

// Returns the LayerNorms that can be folded, each with the Linear that it feeds.
std::map<int, int> foldable_norms(const Graph& graph) {
  const std::vector<std::vector<int>> readers = graph.readers();
  const Shapes shapes = infer_shapes(graph);
  std::map<int, int> found;
  for (int i = 0; i < graph.size(); i++) {
    const std::vector<int>& by = at(readers, i);
    const bool layer = graph.is(i, NodeKind::kNorm) && graph[i].norm() == NormType::kLayer;
    const bool output =
        std::ranges::any_of(graph.outputs, [&](const Output& o) { return o.node == i; });
    if (layer && !output && by.size() == 1 && graph.is(by[0], NodeKind::kLinear) &&
        !shapes[by[0]].pad_row)
      found[i] = by[0];
  }
  return found;
}

// Copies of the parameters that a fold changes.
struct NormAndLinear {
  Tensor gamma, beta, weight, bias;
};

NormAndLinear parameters(const FloatModel& model, int norm, int linear) {
  const Node& a = model.graph[norm];
  const Node& b = model.graph[linear];
  return {model.weights.at(a.weight), model.weights.at(a.bias), model.weights.at(b.weight),
          model.weights.at(b.bias)};
}

// Folds the LayerNorm's original output [m, k] and rounds it to its codes' values, [1, m, k].
Tensor folded_codes(const Tensor& original, const ChannelStatistics& statistics) {
  const UniformRange range = statistics.mean();
  const size_t k = statistics.scale.size();
  Tensor x({1, original.dims[0], original.dims[1]});
  for (size_t i = 0; i < x.data.size(); i++) {
    const double s = statistics.scale[i % k], r2 = statistics.zero[i % k] - range.zero;
    const double folded = (original.data[i] + s * r2) * double{range.scale} / s;
    x.data[i] = dequantize(quantize(static_cast<float>(folded), range, statistics.bits), range);
  }
  return x;
}

// Returns the squared error of a Linear's output when the fold of `statistics` is quantized, over
// the kept rows of the LayerNorm's output (method.md section 3).
double fold_error(Reference& engine, const FloatModel& model, int norm, const NormObserver& search,
                  const ChannelStatistics& statistics, int weight_bits) {
  NormAndLinear p = parameters(model, norm, search.linear());
  Tensor original = search.kept();
  original.dims.insert(original.dims.begin(), 1);
  const Tensor want = engine.multiply(original, p.weight), bias = p.bias;
  fold_channels(statistics, p.gamma, p.beta, p.weight, p.bias);
  const Tensor got = engine.multiply(folded_codes(search.kept(), statistics),
                                     dequantize_weight(quantize_weight(p.weight, weight_bits)));
  double error = 0;
  for (size_t i = 0; i < got.data.size(); i++) {
    const size_t n = i % bias.data.size();
    error += std::pow(
        double{got.data[i]} + double{p.bias.data[n]} - double{want.data[i]} - double{bias.data[n]},
        2);
  }
  return error;
}

double choose_k(Reference& engine, const FloatModel& model, int norm, const NormObserver& search,
                const ChannelStatistics& statistics, int weight_bits) {
  double best = INFINITY, least = INFINITY;
  for (double k : {1.0, 1.5, 2.0, 2.5, 3.0, double{INFINITY}}) {
    const double error =
        fold_error(engine, model, norm, search, statistics.clipped(k), weight_bits);
    if (error < least) {
      least = error;
      best = k;
    }
  }
  return best;
}

}  // namespace

void ensure_bias(FloatModel& model, int linear) {
  Node& n = model.graph[linear];
  if (!n.bias.empty()) return;
  n.bias = n.name + ".bias";
  const int cols = linear_size(model.graph, linear).n;
  model.graph.params.push_back({n.bias, {cols}});
  model.weights[n.bias] = Tensor({cols});
}

void fold_layer_scale(FloatModel& model) {
  Graph& graph = model.graph;
  const std::vector<std::vector<int>> readers = graph.readers();
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.role != Role::kLayerScale) continue;
    const int linear = n.in[0];
    const std::string gamma = graph[n.in[1]].weight;
    if (!graph.is(linear, NodeKind::kLinear) || at(readers, linear).size() != 1)
      fail("LayerScale '", n.name, "' does not end a Linear");
    ensure_bias(model, linear);
    scale_rows(model.weights.at(graph[linear].weight), model.weights.at(graph[linear].bias),
               model.weights.at(gamma).data);
    model.weights.erase(gamma);
    bypass(graph, i);
  }
  prune(graph);
}

void fold_normalization(FloatModel& model) {
  Graph& graph = model.graph;
  const PreprocessConfig& p = model.info.preprocess;
  const int input = graph.find(NodeKind::kInput);
  const std::vector<std::vector<int>> readers = graph.readers();
  if (input < 0 || !graph[input].has(Attribute::kPlanar)) return;
  std::vector<int> linears;  // Linears that read neighbourhoods of the image, channel by channel
  for (int window : at(readers, input))
    for (int linear : at(readers, window)) {
      const bool by_channel = graph[window].whole(Attribute::kOrder) == 0 &&
                              graph[window].whole(Attribute::kPadding) == 0;
      if (!by_channel || !graph.is(linear, NodeKind::kLinear)) return;
      linears.push_back(linear);
    }
  for (int linear : linears) {
    ensure_bias(model, linear);
    Tensor& weight = model.weights.at(graph[linear].weight);
    Tensor& bias = model.weights.at(graph[linear].bias);
    const size_t depth = weight.data.size() / bias.data.size();
    for (size_t row = 0; row < bias.data.size(); row++) {
      double moved = 0;
      for (size_t k = 0; k < depth; k++) {
        float& w = weight.data[row * depth + k];
        const size_t channel = k / (depth / 3);
        w /= p.std[channel];
        moved += double{w} * double{p.mean[channel]};
      }
      bias.data[row] = static_cast<float>(bias.data[row] - moved);
    }
  }
  const auto add = [&](const char* name, const float* values) {
    Tensor t({3});
    std::copy_n(values, 3, t.data.begin());
    graph.params.push_back({name, t.dims});
    model.weights[name] = std::move(t);
    return name;
  };
  graph[input].weight = add("image.weight", p.std);
  graph[input].bias = add("image.bias", p.mean);
}

Method method_called(const std::string& name) {
  for (Method m : {Method::kLayerwise, Method::kRepq, Method::kCrl, Method::kFqVit,
                   Method::kPtq4Vit, Method::kApqVit})
    if (name == method_name(m)) return m;
  fail("method '", name, "': expected auto, layerwise, repq, crl, fq-vit, ptq4vit or apq-vit");
}

const char* method_name(Method method) {
  switch (method) {
    case Method::kLayerwise:
      return "layerwise";
    case Method::kRepq:
      return "repq";
    case Method::kCrl:
      return "crl";
    case Method::kFqVit:
      return "fq-vit";
    case Method::kPtq4Vit:
      return "ptq4vit";
    case Method::kApqVit:
      return "apq-vit";
  }
  return "";
}

void fold_channels(const ChannelStatistics& statistics, Tensor& gamma, Tensor& beta, Tensor& weight,
                   Tensor& bias) {
  const UniformRange mean = statistics.mean();
  const size_t k = statistics.scale.size();
  std::vector<double> r1(k), shift(k);  // s / s~ and s r2
  for (size_t c = 0; c < k; c++) {
    r1[c] = statistics.scale[c] / double{mean.scale};
    shift[c] = statistics.scale[c] * (statistics.zero[c] - mean.zero);
    gamma.data[c] = static_cast<float>(gamma.data[c] / r1[c]);
    beta.data[c] = static_cast<float>((beta.data[c] + shift[c]) / r1[c]);
  }
  for (size_t n = 0; n < bias.data.size(); n++) {
    float* row = weight.data.data() + n * k;
    double moved = 0;
    for (size_t c = 0; c < k; c++) {
      moved += row[c] * shift[c];
      row[c] = static_cast<float>(row[c] * r1[c]);
    }
    bias.data[n] = static_cast<float>(bias.data[n] - moved);
  }
}

std::map<int, NormFold> fold_norms(FloatModel& model, const ImageSource& images,
                                   const FoldOptions& options, const Progress& progress) {
  std::map<int, NormObserver> searches;
  const Shapes shapes = infer_shapes(model.graph);
  for (const auto& [norm, linear] : foldable_norms(model.graph))
    searches.emplace(
        norm, NormObserver(shapes[norm], linear, options.bits.at(linear).activation, images.count));
  Reference engine(model.graph, model.weights, options.threads);
  auto pass = [&](double done, void (NormObserver::*see)(const Tensor&)) {
    run_all(
        engine, images,
        [&](int node, Tensor& value) {
          if (auto s = searches.find(node); s != searches.end()) (s->second.*see)(value);
        },
        [&](double part) {
          if (progress) progress(done + 0.5 * part);
        });
  };
  const ChannelSearch kind = options.method == Method::kFqVit ? ChannelSearch::kByPowerOfTwo
                                                              : ChannelSearch::kByPercentile;
  pass(0, &NormObserver::observe);
  for (auto& [norm, search] : searches) search.channels().set_candidates(kind);
  pass(0.5, &NormObserver::add_error);

  std::map<int, NormFold> folds;
  for (auto& [norm, search] : searches) {
    ensure_bias(model, search.linear());
    ChannelStatistics statistics = search.channels().best();
    NormFold& fold = folds[norm];
    if (options.method == Method::kCrl) {
      fold.k = options.clip_k > 0 ? options.clip_k
                                  : choose_k(engine, model, norm, search, statistics,
                                             options.bits.at(search.linear()).weight);
      statistics = statistics.clipped(fold.k);
    }
    fold.range = statistics.mean();
    const Node& a = model.graph[norm];
    const Node& b = model.graph[search.linear()];
    fold_channels(statistics, model.weights.at(a.weight), model.weights.at(a.bias),
                  model.weights.at(b.weight), model.weights.at(b.bias));
  }
  return folds;
}

}  // namespace vitrun
