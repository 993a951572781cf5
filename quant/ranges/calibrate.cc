#include "quant/ranges/calibrate.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "quant/ranges/code_levels.h"

namespace vitrun {
namespace {

constexpr int64_t kBatch = 8;
// That log codes finer than log sqrt 2 must reach down: squared errors do not see that many small
// probabilities gone are a large part of one.
constexpr float kLeastOctaves = 8;

// A log quantizer: s, codes an octave, and the values of its codes, the last standing for "below
// all codes".
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

// Adds the sum of (x - x̂)^2 for each candidate, sharing the logarithm between them.
void add_log_error(std::span<const float> values, const std::vector<LogCandidate>& candidates,
                   std::vector<double>& error) {
  std::vector<float> log_scale;
  for (const LogCandidate& c : candidates) log_scale.push_back(std::log2(c.scale));
  for (float x : values) {
    const float log_x = std::log2(x);  // -inf for 0, which falls to the code for 0
    for (size_t i = 0; i < candidates.size(); i++) {
      const LogCandidate& c = candidates[i];
      const float k = std::nearbyint(
          std::clamp(c.rate * (log_scale[i] - log_x), 0.f, static_cast<float>(c.table.size() - 1)));
      const float e = x - c.table[static_cast<size_t>(k)];
      error[i] += static_cast<double>(e * e);
    }
  }
}

// (v - mean) / standard deviation of a row; returns the variance.
double normalize(float* v, int64_t n) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) sum += v[i];
  const float mean = static_cast<float>(sum / static_cast<double>(n));
  for (int64_t i = 0; i < n; i++) squares += std::pow(static_cast<double>(v[i] -= mean), 2);
  const double variance = squares / static_cast<double>(n) + 1e-12;
  const float scale = static_cast<float>(1 / std::sqrt(variance));
  for (int64_t i = 0; i < n; i++) v[i] *= scale;
  return variance;
}

// Sum over n of W[n, k]^2: how much an error of column k of the input does to the output.
std::vector<float> column_energy(const Tensor& weight, size_t k) {
  std::vector<float> energy(k);
  for (size_t i = 0; i < weight.data.size(); i++) energy[i % k] += weight.data[i] * weight.data[i];
  return energy;
}

// The residual add that a Linear ends in; -1 if it does not.
int residual_add(const Graph& graph, int linear) {
  int found = -1;
  for (int i = 0; i < graph.size(); i++)
    for (int in : graph[i].in)
      if (in == linear) found = graph[i].role == Role::kResidual ? i : -1;
  return found;
}

// The search for one site's range. First observe() every image, then set_candidates(), then
// add_error() with every image again.
class Search {
 public:
  Search(Reference& engine, const Site& site, int bits, const CalibrateOptions& options,
         int64_t elements)
      : engine_(&engine), site_(&site), bits_(bits), rates_(options.log_rates), tails_(elements) {
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
    if (site_->softmax)
      set_log_candidates();
    else
      set_uniform_candidates();
    error_.resize(candidates_.size() + log_candidates_.size());
    if (!energy_.empty())
      for (UniformRange range : candidates_) histograms_.emplace_back(range);
  }

  // Sees the values of all nodes in order and takes those it needs.
  void add_error(int node, const Tensor& value) {
    if (node == add_) {
      energy_.empty() ? add_residual_error(value) : add_to_histograms(input_, &value);
      input_ = {};
    }
    if (node != site_->node) return;
    if (add_ >= 0)
      input_ = value;
    else
      add_own_error(value);
  }

  SiteRange best() const {
    if (!energy_.empty()) return best_levels();
    const auto least =
        static_cast<size_t>(std::min_element(error_.begin(), error_.end()) - error_.begin());
    if (!site_->softmax) return {bits_, candidates_[least]};
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

  // Rows count by what their error does to the residual stream once normalised, if that is given.
  void add_to_histograms(const Tensor& value, const Tensor* sum) {
    const auto cols = static_cast<size_t>(value.dims[2]);
    for (size_t row = 0; row < value.data.size() / cols; row++) {
      double weight = 1;
      if (sum) {
        const auto width = static_cast<size_t>(sum->dims[2]);
        std::vector<float> stream(
            sum->data.begin() + static_cast<std::ptrdiff_t>(row * width),
            sum->data.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
        weight = 1 / normalize(stream.data(), sum->dims[2]);
      }
      for (LevelHistogram& h : histograms_)
        h.add(std::span(value.data).subspan(row * cols, cols), energy_, weight);
    }
  }

  void set_log_candidates() {
    const float finest = std::max(2.f, static_cast<float>(1 << bits_) / kLeastOctaves);
    for (double p : kPercentiles)
      for (float rate : rates_)
        if (rate <= finest) log_candidates_.push_back(log_candidate(tails_.high(p), rate, bits_));
  }

  void set_uniform_candidates() {
    std::vector<double> percentiles(std::begin(kPercentiles), std::end(kPercentiles));
    if (add_ >= 0) percentiles.push_back(1);
    if (is_image(engine_->graph(), engine_->shapes(), site_->node))
      candidates_.push_back({1.f / 255, 0});  // pixels
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
      if (site_->softmax) return add_log_error(row, log_candidates_, error_);
      for (size_t c = 0; c < candidates_.size(); c++)
        error_[c] += squared_error(row, candidates_[c], bits_);
    });
  }

  // `sum` is the residual stream after the add; with a candidate it would be sum + (x̂ - x) W^T.
  void add_residual_error(const Tensor& sum) {
    const Node& linear = engine_->graph()[site_->consumer];
    const int64_t cols = engine_->shapes()[site_->consumer].cols;
    Tensor expected = sum;
    for (size_t row = 0; row < sum.data.size(); row += static_cast<size_t>(cols))
      normalize(expected.data.data() + row, cols);
    for (size_t c = 0; c < candidates_.size(); c++) {
      Tensor change = input_;
      for (float& x : change.data)
        x = dequantize(quantize(x, candidates_[c], bits_), candidates_[c]) - x;
      Tensor actual = engine_->multiply(change, engine_->weights().at(linear.weight));
      for (size_t i = 0; i < actual.data.size(); i++) actual.data[i] += sum.data[i];
      for (size_t row = 0; row < sum.data.size(); row += static_cast<size_t>(cols))
        normalize(actual.data.data() + row, cols);
      for (size_t i = 0; i < actual.data.size(); i++)
        error_[c] += std::pow(static_cast<double>(actual.data[i] - expected.data[i]), 2);
    }
  }

  Reference* engine_;
  const Site* site_;
  int bits_;
  std::vector<float> rates_;
  int add_ = -1;  // the residual add whose value is looked at; -1: the site's own value
  Tensor input_;  // the site's value of the current batch, until the add is reached
  TailObserver tails_;
  std::vector<UniformRange> candidates_;      // kUniform
  std::vector<LogCandidate> log_candidates_;  // kSoftmax
  std::vector<double> error_;
  bool split_ = false;         // the site has copies of outlier channels
  std::vector<float> energy_;  // column_energy() of the consumer, if levels are searched
  std::vector<LevelHistogram> histograms_;  // of the candidates
};

// q, k or v cut into its heads; other sites as they are.
std::vector<Site> heads_of(const Shapes& shapes, const Site& site) {
  if (at(shapes.attention_of, site.consumer) < 0 || site.softmax) return {site};
  const int count = shapes.geometry(site.consumer).heads;
  std::vector<Site> heads;
  for (int i = 0; i < count; i++) heads.push_back(head_of(site, i, count));
  return heads;
}

// One range a site from one for each of its parts.
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

ImageSource tensor_source(Tensor images) {
  const int64_t count = images.dims[0];
  auto all = std::make_shared<Tensor>(std::move(images));
  return {count, [all](int64_t first, int64_t n) { return slice(*all, first, n); }};
}

void run_all(Reference& engine, const ImageSource& images, const Reference::Observer& observe,
             const Progress& progress) {
  for (int64_t first = 0; first < images.count; first += kBatch) {
    const int64_t n = std::min(kBatch, images.count - first);
    engine.run(images.load(first, n), observe);
    if (progress) progress(static_cast<double>(first + n) / static_cast<double>(images.count));
  }
}

std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const CalibrateOptions& options, const Progress& progress) {
  const Shapes& shapes = engine.shapes();
  std::vector<std::vector<Site>> parts;  // of each site: its heads, or itself
  for (const Site& s : sites)
    parts.push_back(options.heads ? heads_of(shapes, s) : std::vector<Site>{s});
  std::vector<Search> searches;
  for (size_t i = 0; i < sites.size(); i++)
    for (const Site& part : parts[i])
      searches.emplace_back(engine, part, bits[i], options,
                            images.count * elements_per_image(shapes[part.node], part));

  auto pass = [&](double done, const std::function<void(Search&, int, const Tensor&)>& see) {
    run_all(
        engine, images,
        [&](int node, Tensor& value) {
          for (Search& s : searches) see(s, node, value);
        },
        [&](double part) {
          if (progress) progress(done + 0.5 * part);
        });
  };
  pass(0, [](Search& s, int node, const Tensor& value) {
    if (node == s.node()) s.observe(value);
  });
  for (Search& s : searches) s.set_candidates();
  pass(0.5, [](Search& s, int node, const Tensor& value) { s.add_error(node, value); });

  std::vector<SiteRange> found;
  for (const Search& s : searches) found.push_back(s.best());
  return join_heads(parts, found);
}

}  // namespace vitrun
