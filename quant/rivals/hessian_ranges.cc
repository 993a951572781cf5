#include "quant/rivals/hessian_ranges.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "lrp/walk/relevance.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kImages = 4;  // errors are those of the first so many images
constexpr int kRounds = 2;      // the operands of a product take turns so often
constexpr int kActivationFactors = 24, kWeightFactors = 12;

// The i-th factor by which a range's extremes are multiplied (method.md section 19).
double factor(int i) {
  return 1.2 * std::pow(0.85, i);
}

struct Extremes {
  float low = 0, high = 0;

  void add(std::span<const float> values) {
    for (float x : values) low = std::min(low, x), high = std::max(high, x);
  }
  UniformRange range(double shrunk, int bits) const {
    return uniform_range(double{low} * shrunk, double{high} * shrunk, bits);
  }
};

std::vector<Extremes> extremes_of(Reference& engine, const std::vector<Site>& sites,
                                  const ImageSource& images) {
  std::vector<Extremes> out(sites.size());
  run_all(engine, images, [&](int node, Tensor& value) {
    for (size_t i = 0; i < sites.size(); i++)
      if (sites[i].node == node)
        for_each_row(sites[i], value, [&](std::span<const float> row) { out[i].add(row); });
  });
  return out;
}

// Returns the last nodes of the stretches that are searched one after the other: each block with
// what precedes it, and what follows the last block.
std::vector<int> ends_of_stretches(const Graph& graph) {
  std::vector<int> ends;
  bool second = false;  // a block has two residual adds
  for (int i = 0; i < graph.size(); i++) {
    if (graph[i].role != Role::kResidual) continue;
    if (second) ends.push_back(i);
    second = !second;
  }
  ends.push_back(graph.outputs.at(0).node);
  return ends;
}

// Node -> (d logit / d O)^2 of every element O of its value.
using Sensitivity = std::map<int, std::vector<float>>;

// Sets the smaller half of the elements to 0.
void eliminate_bottom(std::vector<float>& squares) {
  std::vector<float> sorted = squares;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  for (float& s : squares)
    if (s < *middle) s = 0;
}

Sensitivity sensitivity_at(const std::vector<int>& nodes, RelevanceEngine& walk, Reference& engine,
                           const Tensor& images, bool bottom_eliminated) {
  Sensitivity out;
  for (int64_t i = 0; i < images.dims[0]; i++)
    walk.explain(engine, slice(images, i, 1), -1, false, [&](int node, const Flow& flow) {
      if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) return;
      for (float g : flow.gradient) out[node].push_back(g * g);
    });
  if (bottom_eliminated)
    for (auto& [node, squares] : out) eliminate_bottom(squares);
  return out;
}

// Evaluates the nodes [first, last] of a graph with some operands rounded.
class StretchEvaluator {
 public:
  StretchEvaluator(FloatModel& model, Reference& engine, const Tensor& images,
                   const Sensitivity& sensitivity, int first, int last)
      : model_(model),
        engine_(engine),
        images_(images),
        sensitivity_(sensitivity),
        values_(model.graph.nodes.size()) {
    engine.run(images, [&](int node, Tensor& value) {
      if (node >= first && node <= last) at(values_, node) = value;
    });
  }

  // The value that readers of a node see: the float one until operands in it are rounded.
  Tensor& replaced(int node) { return replaced_.try_emplace(node, value(node)).first->second; }
  const Tensor& value(int node) const { return at(values_, node); }
  void restore() { replaced_.clear(); }

  // out[c] = sum over column c of node `end` of (d logit / d O)^2 (O^ - O)^2, where O^ follows from
  // the replaced values and the model's weights.
  std::vector<double> column_errors(int end) {
    const Tensor y = engine_.run_between(images_, values_, replaced_, end);
    const Tensor& want = value(end);
    const std::vector<float>& weight = sensitivity_.at(end);
    const auto cols = static_cast<size_t>(y.dims[2]);
    std::vector<double> errors(cols);
    for (size_t i = 0; i < y.data.size(); i++) {
      const float e = y.data[i] - want.data[i];
      errors[i % cols] += double{weight[i] * e * e};
    }
    return errors;
  }

  FloatModel& model() { return model_; }

 private:
  FloatModel& model_;
  Reference& engine_;
  const Tensor& images_;
  const Sensitivity& sensitivity_;
  std::vector<Tensor> values_;      // by node, the float values of the stretch
  std::map<int, Tensor> replaced_;  // node -> its value with operands rounded
};

double total(const std::vector<double>& errors) {
  double sum = 0;
  for (double e : errors) sum += e;
  return sum;
}

// Returns the ranges that are tried for an activation (method.md section 19).
std::vector<SiteRange> site_candidates(const Graph& graph, const Site& site, const Extremes& seen,
                                       int bits, Guidance guidance) {
  std::vector<SiteRange> out;
  const auto even = [&](float step, int twin) {
    SiteRange r{bits, {step, 0}};
    r.twin = twin;
    return r;
  };
  const bool softmax = site.softmax;
  if (softmax && guidance == Guidance::kBlock) {
    const float step = std::max(seen.high, 1e-6f) / static_cast<float>((1 << bits) - 1);
    for (int i = 0; i < kActivationFactors; i++)
      out.push_back(even(step * static_cast<float>(factor(i)), 0));
    return out;
  }
  if (softmax) {
    for (int m = 1; m <= most_twin(bits); m++) out.push_back(even(std::ldexp(1.f, 1 - bits), m));
    return out;
  }
  const bool gelu = graph[site.node].kind == NodeKind::kAct;
  if (gelu && guidance == Guidance::kProduct && seen.low < 0) {
    // The coarse half ends between a fortieth and twice the largest value.
    for (int m = 0; m < 20; m++) {
      const float top = -seen.low * std::ldexp(1.f, m);
      if (top > seen.high / 40 && top < 2 * seen.high)
        out.push_back(twin_range(double{seen.low}, m, bits));
    }
    if (!out.empty()) return out;
  }
  for (int i = 0; i < kActivationFactors; i++) out.push_back({bits, seen.range(factor(i), bits)});
  return out;
}

// Tries the candidates of one operand and leaves the best in place.
class OperandSearch {
 public:
  OperandSearch(StretchEvaluator& stretch, Guidance guidance, int measured_at)
      : stretch_(stretch), guidance_(guidance), measured_at_(measured_at) {}

  // Returns the candidate of an activation that has the least error.
  size_t site(const Site& site, const std::vector<SiteRange>& candidates) {
    std::vector<double> errors;
    for (const SiteRange& c : candidates) {
      put(site, c);
      errors.push_back(total(stretch_.column_errors(measured_at_)));
    }
    const size_t least = index_of_least(errors);
    put(site, candidates[least]);
    return least;
  }

  // Returns the codes of a weight that have the least error. Where the error is measured at the
  // Linear's own output, each row has its own factor; where it is measured further on, all rows
  // share one.
  WeightCodes weight(const Node& linear, const Tensor& original, int bits) {
    const auto n = static_cast<size_t>(original.dims[0]), k = original.data.size() / n;
    std::vector<Extremes> rows(n);
    for (size_t row = 0; row < n; row++)
      rows[row].add(std::span(original.data).subspan(row * k, k));
    std::vector<double> least(n, INFINITY);
    std::vector<UniformRange> best(n);
    for (int i = 0; i < kWeightFactors; i++) {
      std::vector<UniformRange> ranges;
      for (const Extremes& row : rows) ranges.push_back(row.range(factor(i), bits));
      put(linear, quantize_weight(original, bits, ranges));
      std::vector<double> errors = stretch_.column_errors(measured_at_);
      if (guidance_ == Guidance::kBlock || errors.size() != n) errors.assign(n, total(errors));
      for (size_t row = 0; row < n; row++) {
        if (errors[row] >= least[row]) continue;
        least[row] = errors[row];
        best[row] = ranges[row];
      }
    }
    WeightCodes codes = quantize_weight(original, bits, best);
    put(linear, codes);
    return codes;
  }

 private:
  // Rounds the site's columns alone, since one value may hold q and k.
  void put(const Site& site, const SiteRange& range) {
    const Tensor& from = stretch_.value(site.node);
    Tensor& to = stretch_.replaced(site.node);
    const int64_t cols = from.dims[2];
    for (int64_t row = 0; row < from.dims[0] * from.dims[1]; row++)
      std::copy(from.data.begin() + row * cols + site.begin,
                from.data.begin() + row * cols + site.end,
                to.data.begin() + row * cols + site.begin);
    fake_quantize(site, range.params(), to);
  }
  void put(const Node& linear, const WeightCodes& codes) {
    stretch_.model().weights.at(linear.weight).data = dequantize_weight(codes).data;
  }

  StretchEvaluator& stretch_;
  Guidance guidance_;
  int measured_at_;
};

// Returns the node at which the error of a consumer's operands is measured.
int measured_at(int consumer, int end, bool last_stretch, Guidance guidance, int embedding) {
  if (guidance == Guidance::kBlock && !last_stretch) return end;
  return std::max(consumer, embedding);  // gradients are known from the embedding on
}

}  // namespace

SiteRange twin_range(double low, int m, int bits) {
  const int half = 1 << (bits - 1);
  const double fine = -low / half, coarse = std::ldexp(fine, m);
  // A coarse step is 2^j grid steps. j is the largest that keeps the levels within 8-bit codes, at
  // most m, where a grid step is a fine step.
  int j = m, zero = 0;
  double grid;
  for (;; j--) {
    grid = std::ldexp(coarse, -j);
    zero = static_cast<int>(std::nearbyint(-low / grid));
    if (zero + ((half - 1) << j) <= 255) break;
  }
  std::vector<int> levels;
  for (int i = half; i > 0; i--)
    levels.push_back(zero - static_cast<int>(std::nearbyint(i * fine / grid)));
  for (int i = 0; i < half; i++) levels.push_back(zero + (i << j));
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  SiteRange out{bits, {static_cast<float>(grid), zero}};
  for (size_t i = 0; i < levels.size(); i++) {
    const int first = i ? (levels[i - 1] + levels[i] + 1) / 2 : 0;
    out.levels.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(levels[i])});
  }
  return out;
}

Operands search_guided(FloatModel& model, const ImageSource& images,
                       const std::vector<int>& site_bits,
                       const std::map<int, UnitBits>& linear_bits, Guidance guidance, int threads,
                       const Progress& progress) {
  const Graph& graph = model.graph;
  const std::vector<Site> sites = activation_sites(graph);
  Reference engine(graph, model.weights, threads);
  const std::vector<Extremes> seen = extremes_of(engine, sites, images);
  const Tensor sample = images.load(0, std::min(kImages, images.count));
  RelevanceEngine walk(graph, model.weights, 1);

  const std::vector<int> ends = ends_of_stretches(graph);
  std::vector<int> stretch_of, measured;  // by site
  for (const Site& s : sites) {
    const auto end = std::lower_bound(ends.begin(), ends.end(), s.consumer);
    stretch_of.push_back(static_cast<int>(end - ends.begin()));
    measured.push_back(
        measured_at(s.consumer, *end, end + 1 == ends.end(), guidance, walk.embedding()));
  }
  const Sensitivity sensitivity =
      sensitivity_at(measured, walk, engine, sample, guidance == Guidance::kBlock);

  Operands out;
  out.sites.resize(sites.size());
  for (size_t i = 0; i < sites.size();) {
    const int current = stretch_of[i];
    StretchEvaluator stretch(model, engine, sample, sensitivity,
                             current ? at(ends, current - 1) : 0, at(ends, current));
    while (i < sites.size() && stretch_of[i] == current) {
      if (progress) progress(ratio(i, sites.size()));
      const Node& consumer = graph[sites[i].consumer];
      const size_t operands = consumer.kind == NodeKind::kLinear ? 1 : 2;
      OperandSearch search(stretch, guidance, measured[i]);
      std::optional<Tensor> original;
      if (operands == 1) original = model.weights.at(consumer.weight);
      for (int round = 0; round < kRounds; round++) {
        for (size_t s = i; s < i + operands; s++) {
          const auto candidates = site_candidates(graph, sites[s], seen[s], site_bits[s], guidance);
          out.sites[s] = candidates[search.site(sites[s], candidates)];
        }
        if (original)
          out.weights[consumer.name] =
              search.weight(consumer, *original, linear_bits.at(sites[i].consumer).weight);
      }
      stretch.restore();
      if (original) model.weights.at(consumer.weight) = std::move(*original);
      i += operands;
    }
  }
  return out;
}

}  // namespace vitrun
