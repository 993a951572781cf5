#include "quant/ranges/calibrate.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "quant/ranges/code_levels.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kBatch = 8;
// Log codes finer than log sqrt 2 must reach down so many octaves (method.md section 10): squared
// errors do not see that many small probabilities together are a large part of a row.
constexpr float kLeastOctaves = 8;

// A log quantizer: s, rho (codes per octave), and the values of its codes. A last value, 0, stands
// for all that lies below the codes.
struct LogCandidate {
  float scale, rate;
  std::vector<float> table;
};

LogCandidate log_candidate(double scale, float rate, int bits) {
  LogCandidate c{static_cast<float>(std::max(scale, 1e-6)), rate, {}};
  for (int k = 0; k < 1 << bits; k++)
    c.table.push_back(c.scale * static_cast<float>(log_code_value(k, rate)) / 65535);
  c.table.push_back(0);
  return c;
}

// Adds sum (x - x^)^2 of each candidate to `error`. The candidates share the logarithm.
void add_log_error(std::span<const float> values, const std::vector<LogCandidate>& candidates,
                   std::vector<double>& error) {
  std::vector<float> log_scale;
  for (const LogCandidate& c : candidates) log_scale.push_back(std::log2(c.scale));
  for (float x : values) {
    const float log_x = std::log2(x);  // -inf for x = 0, which clamps to the last value, 0
    for (size_t i = 0; i < candidates.size(); i++) {
      const LogCandidate& c = candidates[i];
      const float k = std::nearbyint(
          std::clamp(c.rate * (log_scale[i] - log_x), 0.f, static_cast<float>(c.table.size() - 1)));
      const float e = x - c.table[static_cast<size_t>(k)];
      error[i] += double{e * e};
    }
  }
}

// The values of codes by sum of a rate, of which the last is 0.
struct SumCandidate {
  float rate;
  std::vector<float> table;
};

// Adds sum (x - x^)^2 of a row, of each candidate, to `error`. The candidates share the logarithm.
void add_sum_error(std::span<const float> row, const std::vector<SumCandidate>& candidates,
                   double* error) {
  std::vector<float> octaves(row.size()), values(row.size());
  const float top = *std::ranges::max_element(row);
  for (size_t i = 0; i < row.size(); i++) octaves[i] = std::log2(top / row[i]);
  for (size_t c = 0; c < candidates.size(); c++) {
    const std::vector<float>& table = candidates[c].table;
    const auto last = static_cast<float>(table.size() - 1);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < row.size(); i++) {
      const float k = std::nearbyint(std::clamp(candidates[c].rate * octaves[i], 0.f, last));
      sum += double{values[i] = table[static_cast<size_t>(k)]};
    }
    for (size_t i = 0; i < row.size(); i++)
      squares += std::pow(double{row[i]} - double{values[i]} / sum, 2);
    error[c] += squares;
  }
}

// v = (v - mean) / standard deviation, in place; returns the variance.
double normalize(float* v, int64_t n) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) sum += v[i];
  const auto mean = static_cast<float>(sum / static_cast<double>(n));
  for (int64_t i = 0; i < n; i++) squares += std::pow(double{v[i] -= mean}, 2);
  const double variance = squares / static_cast<double>(n) + 1e-12;
  const float scale = static_cast<float>(1 / std::sqrt(variance));
  for (int64_t i = 0; i < n; i++) v[i] *= scale;
  return variance;
}

void normalize_rows(std::vector<float>& rows, int64_t cols) {
  for (float* v = rows.data(); v < rows.data() + rows.size(); v += cols) normalize(v, cols);
}

// out[k] = sum over n of W[n, k]^2: what an error in column k of the input does to the output.
std::vector<float> column_energy(const Tensor& weight, size_t k) {
  std::vector<float> energy(k);
  for (size_t i = 0; i < weight.data.size(); i++) energy[i % k] += weight.data[i] * weight.data[i];
  return energy;
}

// Whether a node is a norm of unit length, whose products are cosines.
bool gives_cosines(const Graph& graph, int node) {
  return graph.is(node, NodeKind::kNorm) && graph[node].norm() == NormType::kL2;
}

// Returns the residual add that a Linear ends in, -1 if it ends in none.
int residual_add(const Graph& graph, int linear) {
  int found = -1;
  for (int i = 0; i < graph.size(); i++)
    for (int in : graph[i].in)
      if (in == linear) found = graph[i].role == Role::kResidual ? i : -1;
  return found;
}

// The search for one site's range. First observe() every image, then set_candidates(), then
// add_error() with every image again.
class RangeSearch {
 public:
  RangeSearch(Reference& engine, const Site& site, int bits, const CalibrateOptions& options,
              int64_t elements)
      : engine_(&engine),
        site_(&site),
        bits_(bits),
        rates_(options.log_rates),
        sums_(options.softmax_sums),
        carried_(options.softmax_sums && bits == 8 && site.softmax),
        tails_(elements) {
    const Node& consumer = engine.graph()[site.consumer];
    if (options.objective == Objective::kResidual && consumer.kind == NodeKind::kLinear)
      add_ = residual_add(engine.graph(), site.consumer);
    if (!options.levels || bits == 8 || consumer.kind != NodeKind::kLinear) return;
    split_ = engine.graph()[site.node].limit() < INFINITY;
    const int cols = engine.shapes()[site.node].cols;
    energy_ = column_energy(engine.weights().at(consumer.weight), static_cast<size_t>(cols));
  }

  int node() const { return site_->node; }

  void observe(const Tensor& value) {
    for_each_row(*site_, value, [&](std::span<const float> row) { tails_.add(row); });
  }

  void set_candidates() {
    if (carried_) return;  // nothing to choose
    if (site_->softmax)
      set_log_candidates();
    else
      set_uniform_candidates();
    error_.resize(candidates_.size() + log_candidates_.size() + sum_candidates_.size());
    if (!energy_.empty())
      for (UniformRange range : candidates_) histograms_.emplace_back(range);
  }

  // Must be called with the values of all nodes in order; takes those that it needs.
  void add_error(int node, const Tensor& value) {
    if (node == add_) {
      energy_.empty() ? add_residual_error(value) : add_to_histograms(input_, &value);
      input_ = {};
    }
    if (node != site_->node || carried_) return;
    if (add_ >= 0)
      input_ = value;
    else
      add_own_error(value);
  }

  SiteRange best() const {
    if (!energy_.empty()) return best_levels();
    if (carried_) return {.bits = bits_, .range = {}, .twin = CodeParams::kCarriedCodes};
    const size_t least = index_of_least(error_);
    if (!site_->softmax) return {bits_, candidates_[least]};
    if (const size_t others = log_candidates_.size(); least >= others)
      return {bits_, {}, sum_candidates_[least - others].rate, CodeParams::kSumCodes};
    return {bits_, {log_candidates_[least].scale, 0}, log_candidates_[least].rate};
  }

 private:
  int code_bits() const { return energy_.empty() ? bits_ : 8; }

  SiteRange best_levels() const {
    SiteRange best;
    double least = INFINITY;
    for (const LevelHistogram& h : histograms_) {
      LevelHistogram::Levels levels = h.best(bits_, split_);
      if (levels.error >= least) continue;
      least = levels.error;
      best = {bits_, h.range()};
      best.levels = std::move(levels.runs);
    }
    return best;
  }

  // Adds the rows of `value` to the histogram of each candidate. Where the residual stream `sum` is
  // given, a row weighs 1 / variance of its token there, by which the next LayerNorm divides
  // (method.md section 9).
  void add_to_histograms(const Tensor& value, const Tensor* sum) {
    const int64_t cols = value.dims[2];
    for (int64_t row = 0; row < value.dims[0] * value.dims[1]; row++) {
      double weight = 1;
      if (sum) {
        const int64_t width = sum->dims[2];
        std::vector<float> token(sum->data.begin() + row * width,
                                 sum->data.begin() + (row + 1) * width);
        weight = 1 / normalize(token.data(), width);
      }
      const float* values = value.data.data() + row * cols;
      for (LevelHistogram& h : histograms_) h.add({values, values + cols}, energy_, weight);
    }
  }

  void set_log_candidates() {
    const float finest = std::max(2.f, static_cast<float>(1 << bits_) / kLeastOctaves);
    for (double p : kPercentiles)
      for (float rate : rates_)
        if (rate <= finest) log_candidates_.push_back(log_candidate(tails_.high(p), rate, bits_));
    for (float rate : rates_)
      if (sums_ && rate <= finest)
        sum_candidates_.push_back({rate, log_candidate(1, rate, bits_).table});
  }

  void add_softmax_error(std::span<const float> row) {
    add_log_error(row, log_candidates_, error_);
    add_sum_error(row, sum_candidates_, error_.data() + log_candidates_.size());
  }

  void set_uniform_candidates() {
    std::vector<double> percentiles(std::begin(kPercentiles), std::end(kPercentiles));
    if (add_ >= 0) percentiles.push_back(1);
    if (is_image(engine_->graph(), engine_->shapes(), site_->node))
      candidates_.push_back({1.f / 255, 0});  // every value of a pixel is a code
    double last_low = 0, last_high = 0;
    for (double p : percentiles) {
      const double low = tails_.low(p), high = tails_.high(p);
      if (add_ >= 0 && p != percentiles[0])
        candidates_.push_back(uniform_range(-std::sqrt(std::max(low * last_low, 0.0)),
                                            std::sqrt(std::max(high * last_high, 0.0)),
                                            code_bits()));
      candidates_.push_back(uniform_range(low, high, code_bits()));
      last_low = low;
      last_high = high;
    }
  }

  void add_own_error(const Tensor& value) {
    if (!energy_.empty()) return add_to_histograms(value, nullptr);
    for_each_row(*site_, value, [&](std::span<const float> row) {
      if (site_->softmax) return add_softmax_error(row);
      for (size_t c = 0; c < candidates_.size(); c++)
        error_[c] += squared_error(row, candidates_[c], bits_);
    });
  }

  // Adds |n(sum + (x^ - x) W^T) - n(sum)|^2 of each candidate (method.md section 8). `sum` is the
  // float residual stream after the add.
  void add_residual_error(const Tensor& sum) {
    const Node& linear = engine_->graph()[site_->consumer];
    const int64_t cols = engine_->shapes()[site_->consumer].cols;
    Tensor expected = sum;
    normalize_rows(expected.data, cols);
    for (size_t c = 0; c < candidates_.size(); c++) {
      Tensor change = input_;
      for (float& x : change.data)
        x = dequantize(quantize(x, candidates_[c], bits_), candidates_[c]) - x;
      Tensor actual = engine_->multiply(change, engine_->weights().at(linear.weight));
      for (size_t i = 0; i < actual.data.size(); i++) actual.data[i] += sum.data[i];
      normalize_rows(actual.data, cols);
      for (size_t i = 0; i < actual.data.size(); i++)
        error_[c] += std::pow(double{actual.data[i] - expected.data[i]}, 2);
    }
  }

  Reference* engine_;
  const Site* site_;
  int bits_;
  std::vector<float> rates_;
  bool sums_;     // log codes by sum are tried after softmax too
  bool carried_;  // carried codes are taken, without a search
  int add_ = -1;  // the residual add at which errors are measured; -1: at the site itself
  Tensor input_;  // the site's value in the current batch, kept until the add is reached
  TailObserver tails_;
  std::vector<UniformRange> candidates_;      // empty for a softmax output
  std::vector<LogCandidate> log_candidates_;  // empty for all others
  std::vector<SumCandidate> sum_candidates_;  // codes by sum, beside them
  std::vector<double> error_;                 // by candidate
  bool split_ = false;                        // the site has copies of outlier channels
  std::vector<float> energy_;  // column_energy() of the consumer, if levels are searched
  std::vector<LevelHistogram> histograms_;  // by candidate, if levels are searched
};

// Cuts a site whose heads have ranges of their own into them; others stay whole.
std::vector<Site> heads_of(const Graph& graph, const Shapes& shapes, const Site& site, bool all) {
  if (!has_head_ranges(graph, shapes, site, all)) return {site};
  const int count = shapes.geometry(site.consumer).heads;
  std::vector<Site> heads;
  for (int i = 0; i < count; i++) heads.push_back(head_of(site, i, count));
  return heads;
}

// Returns one range for each site, made of the ranges found for its parts.
std::vector<SiteRange> join_heads(const std::vector<std::vector<Site>>& parts,
                                  const std::vector<SiteRange>& found) {
  std::vector<SiteRange> ranges;
  size_t next = 0;
  for (const std::vector<Site>& heads : parts) {
    SiteRange range = found[next];
    for (size_t h = next; heads.size() > 1 && h < next + heads.size(); h++)
      range.heads.push_back(found[h].range);
    next += heads.size();
    ranges.push_back(std::move(range));
  }
  return ranges;
}

int64_t elements_per_image(const Shape& shape, const Site& site) {
  return shape.size() / shape.cols * (site.end - site.begin);
}

}  // namespace

bool has_head_ranges(const Graph& graph, const Shapes& shapes, const Site& site, bool all) {
  if (at(shapes.attention_of, site.consumer) < 0 || site.softmax) return false;
  return all || gives_cosines(graph, site.node);
}

SiteRange in_head_groups(SiteRange range, int bits, const AttentionGeometry& g) {
  if (range.heads.empty()) range.heads.assign(static_cast<size_t>(g.heads), range.range);
  const int margin = group_margin(bits), steps = 255 - 2 * margin;
  for (UniformRange& head : range.heads) {
    const double low = std::min(0.0, -double{head.scale} * head.zero),
                 high = std::max(0.0, double{head.scale} * (255 - head.zero));
    head.scale = static_cast<float>((high - low) / steps);
    head.zero = margin + static_cast<int>(std::lround(-low / double{head.scale}));
  }
  range.range = {};
  range.bits = bits;
  range.group = g.head_dim;
  return range;
}

ImageSource tensor_source(Tensor images) {
  const int64_t count = images.dims[0];
  auto all = std::make_shared<Tensor>(std::move(images));
  return {count, [all](int64_t first, int64_t n) { return slice(*all, first, n); }};
}

void run_all(Reference& engine, const ImageSource& images, const Reference::Observer& observe,
             const Progress& progress) {
  for (int64_t first = 0; first < images.count; first += kBatch) {
    const int64_t n = std::min(kBatch, images.count - first);
    engine.run_outputs(images.load(first, n), {}, observe);
    if (progress) progress(ratio(first + n, images.count));
  }
}

std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const CalibrateOptions& options, const Progress& progress) {
  const Shapes& shapes = engine.shapes();
  std::vector<std::vector<Site>> parts;  // by site: its heads, or the site itself
  for (const Site& s : sites) parts.push_back(heads_of(engine.graph(), shapes, s, options.heads));
  std::vector<RangeSearch> searches;
  for (size_t i = 0; i < sites.size(); i++)
    for (const Site& part : parts[i])
      searches.emplace_back(engine, part, bits[i], options,
                            images.count * elements_per_image(shapes[part.node], part));

  auto pass = [&](double done, const std::function<void(RangeSearch&, int, const Tensor&)>& see) {
    run_all(
        engine, images,
        [&](int node, Tensor& value) {
          for (RangeSearch& s : searches) see(s, node, value);
        },
        [&](double part) {
          if (progress) progress(done + 0.5 * part);
        });
  };
  pass(0, [](RangeSearch& s, int node, const Tensor& value) {
    if (node == s.node()) s.observe(value);
  });
  for (RangeSearch& s : searches) s.set_candidates();
  pass(0.5, [](RangeSearch& s, int node, const Tensor& value) { s.add_error(node, value); });

  std::vector<SiteRange> found;
  for (const RangeSearch& s : searches) found.push_back(s.best());
  return join_heads(parts, found);
}

}  // namespace vitrun
