#include "quant/weights/tune.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numbers>
#include <random>
#include <set>

#include "lrp/walk/relevance.h"
#include "models/base/index.h"
#include "quant/quantized_graph.h"
#include "quant/weights/gradients.h"

namespace vitrun {
namespace {

constexpr int kRampSteps = 10;         // the rate rises during these
constexpr int64_t kWeightImages = 16;  // so many decide how much tokens count

// A vector that is tuned by Adam's rule (Kingma and Ba, 1412.6980).
class Parameter {
 public:
  // A step at rate 1 changes an element by `unit` at most.
  Parameter(std::vector<float> values, double unit)
      : values_(std::move(values)), unit_(unit), mean_(values_.size()), square_(values_.size()) {}

  const std::vector<float>& values() const { return values_; }

  // Takes the step of this number, 1 for the first, against the gradient.
  void move(const std::vector<double>& gradient, int step, double rate) {
    constexpr double kMeanDecay = 0.9, kSquareDecay = 0.99, kTiny = 1e-12;
    const double mean_share = 1 - std::pow(kMeanDecay, step),
                 square_share = 1 - std::pow(kSquareDecay, step);
    for (size_t i = 0; i < values_.size(); i++) {
      mean_[i] += (1 - kMeanDecay) * (gradient[i] - mean_[i]);
      square_[i] += (1 - kSquareDecay) * (gradient[i] * gradient[i] - square_[i]);
      values_[i] -= static_cast<float>(rate * unit_ * mean_[i] / mean_share /
                                       (std::sqrt(square_[i] / square_share) + kTiny));
    }
  }

 private:
  std::vector<float> values_;
  double unit_;
  std::vector<double> mean_, square_;
};

double mean_size(const std::vector<float>& v) {
  return sum_of(v.size(), [&](size_t i) { return std::fabs(double{v[i]}); }) /
         static_cast<double>(std::max<size_t>(v.size(), 1));
}

// A value that shall be as the reference has it.
struct Target {
  int reference, quantized;  // its node in either graph
  double weight;
  std::vector<float> rows;  // how much each row of a norm counts, 1 in the mean
};

using Gradients = std::map<std::string, std::vector<double>>;  // by the parameter's name

class Tuner {
 public:
  // `twin` is the quantized model in float, with what the codes stand for as weights; `original`
  // names the reference's nodes in its graph. Weights of `scaled` have scales of their rows.
  Tuner(FloatModel twin, const std::vector<int>& original, const FloatModel& reference,
        const std::set<std::string>& scaled, int threads, const std::vector<std::string>& outputs);

  // Tokens count as the outputs change with a change of theirs, in the mean of some images: by the
  // norm of the gradient of the outputs' sum with random signs.
  void weigh_tokens(const ImageSource& images);
  void take_step(const ImageSource& images, const TuneOptions& options, int step);

  // Biases and norms' factors by their names.
  const std::map<std::string, Parameter>& vectors() const { return vectors_; }
  // Factors of the rows of weights, by the weight's name.
  const std::map<std::string, Parameter>& factors() const { return factors_; }

 private:
  bool is_norm(int node) const { return twin_.graph.is(node, NodeKind::kNorm); }
  void choose_targets(const std::vector<int>& original, const std::vector<std::string>& outputs);
  void choose_parameters(const std::set<std::string>& scaled);
  std::vector<Tensor> values_of(const Tensor& image, int thread) const;
  std::map<int, std::vector<float>> token_gradients(const Tensor& image, int thread,
                                                    int64_t seed) const;
  std::map<int, Values> starts(const Tensor& image, const std::vector<Tensor>& values,
                               int thread) const;
  Gradients gradients(const Tensor& image, int thread) const;
  void add_gradient(int node, const Tensor& value, const Flow& flow, Gradients& sums) const;
  void move(const Gradients& gradients, int step, double rate);

  const FloatModel& reference_;
  FloatModel twin_;
  RelevanceEngine walk_;  // through twin_
  ThreadPool pool_;
  std::vector<int> ends_;        // the outputs' nodes
  std::vector<Target> targets_;  // in the order of twin_'s nodes
  std::map<std::string, Parameter> vectors_, factors_;
  std::vector<std::unique_ptr<Reference>> reference_forward_, forward_;  // by thread
};

Tuner::Tuner(FloatModel twin, const std::vector<int>& original, const FloatModel& reference,
             const std::set<std::string>& scaled, int threads,
             const std::vector<std::string>& outputs)
    : reference_(reference),
      twin_(std::move(twin)),
      walk_(twin_.graph, twin_.weights, 1),
      pool_(threads) {
  choose_targets(original, outputs);
  choose_parameters(scaled);
  for (int i = 0; i < threads; i++) {
    reference_forward_.push_back(
        std::make_unique<Reference>(reference_.graph, reference_.weights, 1));
    forward_.push_back(std::make_unique<Reference>(twin_.graph, twin_.weights, 1));
  }
}

// The norms together count as much as an output.
void Tuner::choose_targets(const std::vector<int>& original,
                           const std::vector<std::string>& outputs) {
  for (const std::string& name : outputs) ends_.push_back(twin_.graph.output(name));
  if (outputs.empty()) ends_.push_back(walk_.logits());
  int norms = 0;
  for (int i = walk_.embedding() + 1; i <= std::ranges::max(ends_); i++) {
    if (!is_norm(i) && std::ranges::find(ends_, i) == ends_.end()) continue;
    targets_.push_back({at(original, i), i, 1, {}});
    norms += is_norm(i);
  }
  for (Target& t : targets_)
    if (is_norm(t.quantized)) t.weight = ratio(1, norms);
}

void Tuner::choose_parameters(const std::set<std::string>& scaled) {
  const auto vector = [&](const std::string& name) { return twin_.weights.at(name).data; };
  for (int i = walk_.embedding() + 1; i < twin_.graph.size(); i++) {
    const Node& n = twin_.graph[i];
    if (is_norm(i) && !n.weight.empty()) vectors_.try_emplace(n.weight, vector(n.weight), 1);
    if (n.kind != NodeKind::kLinear) continue;
    // A padding's row is the bias itself, which then has to stay.
    if (!n.bias.empty() && !walk_.shapes()[i].pad_row)
      vectors_.try_emplace(n.bias, vector(n.bias), mean_size(vector(n.bias)));
    if (scaled.contains(n.weight))
      factors_.try_emplace(n.weight, std::vector<float>(array_size(walk_.shapes()[i].cols), 1), 1);
  }
}

std::vector<Tensor> Tuner::values_of(const Tensor& image, int thread) const {
  return at(forward_, thread)->run_keeping(image, walk_.embedding(), targets_.back().quantized);
}

// |G_i| of each row of the norms.
std::map<int, std::vector<float>> Tuner::token_gradients(const Tensor& image, int thread,
                                                         int64_t seed) const {
  const std::vector<Tensor> values = values_of(image, thread);
  const std::map<int, Values> start = random_starts(seed, ends_, values);
  std::map<int, std::vector<float>> sizes;
  walk_.gradients(values, std::span(&start, 1), [&](int node, const Flow& flow) {
    if (!is_norm(node)) return;
    const auto cols = static_cast<size_t>(walk_.shapes()[node].cols);
    const float* row = flow.gradient.data();
    for (size_t i = 0; i < flow.gradient.size() / cols; i++, row += cols)
      sizes[node].push_back(static_cast<float>(
          std::sqrt(sum_of(cols, [&](size_t c) { return double{row[c]} * double{row[c]}; }))));
  });
  return sizes;
}

void Tuner::weigh_tokens(const ImageSource& images) {
  const int64_t count = std::min(images.count, kWeightImages);
  const Tensor all = images.load(0, count);
  std::vector<std::map<int, std::vector<float>>> sizes(array_size(count));
  std::atomic<int64_t> next{0};
  pool_.run([&](int thread) {
    for (int64_t i; (i = next.fetch_add(1)) < count;)
      at(sizes, i) = token_gradients(slice(all, i, 1), thread, i);
  });
  for (Target& t : targets_) {
    for (const auto& of_image : sizes) {
      const auto found = of_image.find(t.quantized);
      if (found == of_image.end()) continue;
      t.rows.resize(found->second.size());
      for (size_t i = 0; i < t.rows.size(); i++) t.rows[i] += found->second[i];
    }
    const double mean = mean_size(t.rows);
    for (float& x : t.rows) x = mean > 0 ? static_cast<float>(x / mean) : 0;
  }
}

// Returns the gradient of the error at each target: of sum_i w_i |y_i - t_i|^2 / sum |t_i|^2.
std::map<int, Values> Tuner::starts(const Tensor& image, const std::vector<Tensor>& values,
                                    int thread) const {
  std::map<int, Values> out;
  const auto differ = [&](const Target& target, const std::vector<float>& wanted) {
    const std::vector<float>& y = at(values, target.quantized).data;
    const double energy =
        sum_of(y.size(), [&](size_t i) { return double{wanted[i]} * double{wanted[i]}; });
    const double scale = energy > 0 ? 2 * target.weight / energy : 0;
    const auto cols = static_cast<size_t>(walk_.shapes()[target.quantized].cols);
    Values& start = out[target.quantized];
    for (size_t i = 0; i < y.size(); i++) {
      const double of_row = target.rows.empty() ? 1 : double{target.rows[i / cols]};
      start.push_back(static_cast<float>(scale * of_row * (double{y[i]} - double{wanted[i]})));
    }
  };
  at(reference_forward_, thread)->run_outputs(image, {}, [&](int node, Tensor& value) {
    for (const Target& t : targets_)
      if (t.reference == node) differ(t, value.data);
  });
  return out;
}

// y = f (W x) + b and y = gamma x^ + beta, with G at y: dL/db = sum G, dL/df = sum G (y - b) / f,
// and of gamma likewise.
void Tuner::add_gradient(int node, const Tensor& value, const Flow& flow, Gradients& sums) const {
  const Node& n = twin_.graph[node];
  if (n.kind != NodeKind::kLinear && !is_norm(node)) return;
  const Shape& shape = walk_.shapes()[node];
  const auto cols = static_cast<size_t>(shape.cols),
             rows = flow.gradient.size() / cols - (shape.pad_row ? 1 : 0);
  std::vector<double> sum(cols), product(cols);
  for (size_t i = 0; i < rows; i++) {
    const float *g = &flow.gradient[i * cols], *y = &value.data[i * cols];
    for (size_t c = 0; c < cols; c++) {
      const double gradient = double{g[c]}, output = double{y[c]};
      sum[c] += gradient;
      product[c] += gradient * output;
    }
  }
  const auto& factors = is_norm(node) ? vectors_ : factors_;
  if (const auto factor = factors.find(n.weight); factor != factors.end()) {
    const float* bias = n.bias.empty() ? nullptr : twin_.weights.at(n.bias).data.data();
    std::vector<double>& total = sums[n.weight];
    total.resize(cols);
    for (size_t c = 0; c < cols; c++) {
      const double f = double{factor->second.values()[c]}, b = bias ? double{bias[c]} : 0;
      if (f != 0) total[c] += (product[c] - b * sum[c]) / f;
    }
  }
  if (is_norm(node) || !vectors_.contains(n.bias)) return;
  std::vector<double>& total = sums[n.bias];
  total.resize(cols);
  for (size_t c = 0; c < cols; c++) total[c] += sum[c];
}

Gradients Tuner::gradients(const Tensor& image, int thread) const {
  const std::vector<Tensor> values = values_of(image, thread);
  const std::map<int, Values> start = starts(image, values, thread);
  Gradients sums;
  walk_.gradients(values, std::span(&start, 1), [&](int node, const Flow& flow) {
    add_gradient(node, at(values, node), flow, sums);
  });
  return sums;
}

void Tuner::move(const Gradients& gradients, int step, double rate) {
  for (auto& [name, vector] : vectors_) {
    const auto gradient = gradients.find(name);
    if (gradient == gradients.end()) continue;  // no output depends on it
    vector.move(gradient->second, step, rate);
    twin_.weights.at(name).data = vector.values();
  }
  for (auto& [name, factor] : factors_) {
    const auto gradient = gradients.find(name);
    if (gradient == gradients.end()) continue;
    const std::vector<float> before = factor.values();
    factor.move(gradient->second, step, rate);
    std::vector<float>& w = twin_.weights.at(name).data;
    const size_t depth = w.size() / before.size();
    for (size_t row = 0; row < before.size(); row++)
      for (size_t k = 0; k < depth; k++) w[row * depth + k] *= factor.values()[row] / before[row];
  }
}

void Tuner::take_step(const ImageSource& images, const TuneOptions& options, int step) {
  const int64_t count = std::min<int64_t>(options.images, images.count);
  std::mt19937 random(static_cast<uint32_t>(step));
  std::vector<Tensor> chosen;
  for (int64_t i = 0; i < count; i++) {
    const auto drawn = static_cast<int64_t>(random() % static_cast<uint64_t>(images.count));
    chosen.push_back(images.load(count < images.count ? drawn : i, 1));
  }
  std::vector<Gradients> of_image(chosen.size());
  std::atomic<int64_t> next{0};
  pool_.run([&](int thread) {
    for (int64_t i; (i = next.fetch_add(1)) < count;)
      at(of_image, i) = gradients(at(chosen, i), thread);
  });
  Gradients sum = std::move(of_image[0]);
  for (size_t i = 1; i < of_image.size(); i++)
    for (const auto& [name, gradient] : of_image[i])
      for (size_t c = 0; c < gradient.size(); c++) at(sum.at(name), c) += gradient[c];
  const double fall = 0.5 + 0.5 * std::cos(std::numbers::pi * ratio(step - 1, options.steps));
  move(sum, step, options.rate * std::min(1.0, ratio(step, kRampSteps)) * fall);
}

}  // namespace

void tune(FloatModel& model, std::map<std::string, WeightCodes>& weights,
          const std::vector<SiteRange>& ranges, const FloatModel& reference,
          const ImageSource& images, int threads, const std::vector<std::string>& outputs,
          const TuneOptions& options, const Progress& progress) {
  std::vector<CodeParams> params;
  for (const SiteRange& r : ranges) params.push_back(r.params());
  QuantizedGraph quantized = insert_quantizers(model.graph, activation_sites(model.graph), params);
  FloatModel twin = model;
  twin.weights.merge(quantized.quantizers);
  std::set<std::string> scaled;
  for (const Node& n : model.graph.nodes) {
    if (n.kind != NodeKind::kLinear) continue;
    const WeightCodes& codes = weights.at(n.name);
    twin.weights.at(n.weight).data = dequantize_weight(codes).data;
    if (!codes.coded) scaled.insert(n.weight);
  }
  twin.graph = std::move(quantized.graph);
  Tuner tuner(std::move(twin), quantized.original, reference, scaled, threads, outputs);
  tuner.weigh_tokens(images);
  for (int step = 1; step <= options.steps; step++) {
    tuner.take_step(images, options, step);
    if (progress) progress(ratio(step, options.steps));
  }
  for (const auto& [name, vector] : tuner.vectors()) model.weights.at(name).data = vector.values();
  for (const Node& n : model.graph.nodes) {
    const auto factor = tuner.factors().find(n.weight);
    if (n.kind != NodeKind::kLinear || factor == tuner.factors().end()) continue;
    std::vector<UniformRange>& rows = weights.at(n.name).ranges;
    for (size_t i = 0; i < rows.size(); i++) rows[i].scale *= factor->second.values()[i];
  }
}

}  // namespace vitrun
