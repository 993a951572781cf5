#include "quant/rivals/hessian_ranges.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "lrp/walk/relevance.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kImages = 4;
constexpr int kRounds = 2;  // in which the operands of a product take turns
constexpr int kActivationFactors = 24, kWeightFactors = 12;

// What a range is shrunk by: from 1.2, the papers' beta, down to a fortieth (activations, which
// have outliers) or a fifth (rows of weights).
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

// The last nodes of the parts that a graph is searched in: every block with what precedes it, and
// what follows the last block.
std::vector<int> ends_of_parts(const Graph& graph) {
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

// The squared gradients at some nodes, in the shape of the nodes' values.
using Sensitivity = std::map<int, std::vector<float>>;

// Of the smaller half of the elements none is left.
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

// The search in one part of the graph.
class Part {
 public:
  Part(FloatModel& model, Reference& engine, const Tensor& images, const Sensitivity& sensitivity,
       int first, int last)
      : model_(model),
        engine_(engine),
        images_(images),
        sensitivity_(sensitivity),
        values_(model.graph.nodes.size()) {
    engine.run(images, [&](int node, Tensor& value) {
      if (node >= first && node <= last) values_[static_cast<size_t>(node)] = value;
    });
  }

  // The value of a node in which operands are rounded, as it was or as already rounded.
  Tensor& replaced(int node) {
    return replaced_.try_emplace(node, values_[static_cast<size_t>(node)]).first->second;
  }
  const Tensor& value(int node) const { return values_[static_cast<size_t>(node)]; }
  void restore() { replaced_.clear(); }

  // The weighed error of every column of node `at`, as replaced values and weights are now.
  std::vector<double> column_errors(int at) {
    const Tensor y = engine_.run_between(images_, values_, replaced_, at);
    const Tensor& want = value(at);
    const std::vector<float>& weight = sensitivity_.at(at);
    const auto cols = static_cast<size_t>(y.dims[2]);
    std::vector<double> errors(cols);
    for (size_t i = 0; i < y.data.size(); i++) {
      const float e = y.data[i] - want.data[i];
      errors[i % cols] += static_cast<double>(weight[i] * e * e);
    }
    return errors;
  }

  FloatModel& model() { return model_; }

 private:
  FloatModel& model_;
  Reference& engine_;
  const Tensor& images_;
  const Sensitivity& sensitivity_;
  std::vector<Tensor> values_;      // of the part's nodes, in float
  std::map<int, Tensor> replaced_;  // by what the operands are rounded to
};

double total(const std::vector<double>& errors) {
  double sum = 0;
  for (double e : errors) sum += e;
  return sum;
}

// The candidates of an activation site.
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

class Search {
 public:
  Search(Part& part, Guidance guidance, int measured_at)
      : part_(part), guidance_(guidance), at_(measured_at) {}

  // The candidate of an activation with the least error, which is left in place.
  size_t site(const Site& site, const std::vector<SiteRange>& candidates) {
    std::vector<double> errors;
    for (const SiteRange& c : candidates) {
      put(site, c);
      errors.push_back(total(part_.column_errors(at_)));
    }
    const auto least =
        static_cast<size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin());
    put(site, candidates[least]);
    return least;
  }

  // The codes of a weight with the least error, by row where errors of its output are seen as they
  // are, by one factor for all where only their sum further on is; left in place.
  WeightCodes weight(const Node& linear, const Tensor& original, int bits) {
    const size_t n = static_cast<size_t>(original.dims[0]), k = original.data.size() / n;
    std::vector<Extremes> rows(n);
    for (size_t row = 0; row < n; row++)
      rows[row].add(std::span(original.data).subspan(row * k, k));
    std::vector<double> least(n, INFINITY);
    std::vector<UniformRange> best(n);
    for (int i = 0; i < kWeightFactors; i++) {
      std::vector<UniformRange> ranges;
      for (const Extremes& row : rows) ranges.push_back(row.range(factor(i), bits));
      put(linear, quantize_weight(original, bits, ranges));
      std::vector<double> errors = part_.column_errors(at_);
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
  // Only the site's columns change: q and k stand in one value.
  void put(const Site& site, const SiteRange& range) {
    const Tensor& from = part_.value(site.node);
    Tensor& to = part_.replaced(site.node);
    const auto cols = static_cast<size_t>(from.dims[2]), begin = static_cast<size_t>(site.begin),
               end = static_cast<size_t>(site.end);
    for (size_t at = 0; at < from.data.size(); at += cols)
      std::copy(from.data.begin() + static_cast<std::ptrdiff_t>(at + begin),
                from.data.begin() + static_cast<std::ptrdiff_t>(at + end),
                to.data.begin() + static_cast<std::ptrdiff_t>(at + begin));
    fake_quantize(site, range.params(), to);
  }
  void put(const Node& linear, const WeightCodes& codes) {
    part_.model().weights.at(linear.weight).data = dequantize_weight(codes).data;
  }

  Part& part_;
  Guidance guidance_;
  int at_;
};

// Which nodes a consumer's operands may be judged at, and where this one's are.
int measured_at(int consumer, int end_of_part, bool last_part, Guidance guidance, int embedding) {
  if (guidance == Guidance::kBlock && !last_part) return end_of_part;
  return std::max(consumer, embedding);  // gradients are known from the embedding on
}

}  // namespace

SiteRange twin_range(double low, int m, int bits) {
  const int half = 1 << (bits - 1);
  const double fine = -low / half, coarse = std::ldexp(fine, m);
  // A coarse step of 2^j grid steps, at most as many as make the grid step the fine one.
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

  const std::vector<int> ends = ends_of_parts(graph);
  std::vector<int> part_of, measured;  // of the sites
  for (const Site& s : sites) {
    const auto end = std::lower_bound(ends.begin(), ends.end(), s.consumer);
    part_of.push_back(static_cast<int>(end - ends.begin()));
    measured.push_back(
        measured_at(s.consumer, *end, end + 1 == ends.end(), guidance, walk.embedding()));
  }
  const Sensitivity sensitivity =
      sensitivity_at(measured, walk, engine, sample, guidance == Guidance::kBlock);

  Operands out;
  out.sites.resize(sites.size());
  for (size_t i = 0; i < sites.size();) {
    const int begin = part_of[i] ? ends[static_cast<size_t>(part_of[i]) - 1] : 0;
    Part part(model, engine, sample, sensitivity, begin, ends[static_cast<size_t>(part_of[i])]);
    for (const int current = part_of[i]; i < sites.size() && part_of[i] == current;) {
      if (progress) progress(static_cast<double>(i) / static_cast<double>(sites.size()));
      const Node& consumer = graph[sites[i].consumer];
      const size_t operands = consumer.kind == NodeKind::kLinear ? 1 : 2;
      Search search(part, guidance, measured[i]);
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
      part.restore();
      if (original) model.weights.at(consumer.weight) = std::move(*original);
      i += operands;
    }
  }
  return out;
}

}  // namespace vitrun
