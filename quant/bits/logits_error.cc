#include "quant/bits/logits_error.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "kernels/pack.h"
#include "quant/weights/compensate.h"
#include "quant/weights/gradients.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kMostTest = 16;  // errors are predicted on at most so many images
constexpr int64_t kMostFit = 16;   // codes and ranges are chosen on at most so many images
constexpr int kMeasuredBits = 5;   // weights are rounded at up to so many bits
constexpr size_t kWidths = kMaxBits - kMinBits + 1;
constexpr double kRoundPart = 0.7, kRangePart = 0.1;  // shares of the progress

// A Linear's weight, rounded at several widths.
struct WeightCandidates {
  std::vector<WeightCodes> codes;  // of kMinBits .. kMeasuredBits bits, or on the Linear's own grid
  std::vector<float> mean;         // [K], the input's mean if the bias corrects its error, else 0
};

// A site's quantizer at several widths.
struct SiteCandidates {
  Site site;
  std::vector<CodeParams> params;  // of kMinBits .. kMaxBits bits
};

WeightCandidates round_weight(const std::string& linear, const Tensor& inputs,
                              const OutputGradients& gradients, const Tensor& weight,
                              const PredictOptions& options) {
  WeightCandidates out;
  std::vector<WeightGrid> grids;
  if (const auto own = options.grids.find(linear); own != options.grids.end())
    grids = {own->second};
  for (int bits = kMinBits; bits <= kMeasuredBits && options.grids.empty(); bits++)
    grids.push_back({bits});
  if (grids.empty()) return out;
  if (options.compensate) {
    out.codes = compensate_weight(linear, inputs, gradients, weight, grids, options.threads);
    out.mean = compensated_mean(inputs, gradients);
  } else {
    for (const WeightGrid& grid : grids) out.codes.push_back(quantize_weight(weight, grid));
    out.mean.resize(array_size(inputs.dims[2]));
  }
  return out;
}

std::map<int, WeightCandidates> round_weights(const FloatModel& model, const Tensor& images,
                                              const PredictOptions& options,
                                              const Progress& progress) {
  std::map<int, WeightCandidates> out;
  const Graph& graph = model.graph;
  const auto gradients = options.compensate ? output_gradients(model, images, options.threads)
                                            : std::map<int, OutputGradients>();
  const OutputGradients none;
  Reference engine(model.graph, model.weights, options.threads);
  engine.run(images, [&](int node, Tensor& value) {
    for (int i = 0; i < graph.size(); i++) {
      if (!graph.is(i, NodeKind::kLinear) || graph[i].in[0] != node) continue;
      const auto found = gradients.find(i);
      out[i] = round_weight(graph[i].name, value, found == gradients.end() ? none : found->second,
                            model.weights.at(graph[i].weight), options);
    }
    progress(ratio(node, graph.size()));
  });
  return out;
}

// Searches a range at each width for every site but pixels and softmax outputs.
std::vector<SiteCandidates> search_ranges(const FloatModel& model, const ImageSource& images,
                                          const PredictOptions& options, const Progress& progress) {
  std::vector<Site> sites;
  std::vector<int> bits;
  const Shapes shapes = infer_shapes(model.graph);
  for (const Site& s : activation_sites(model.graph)) {
    if (s.softmax || is_image(model.graph, shapes, s.node)) continue;
    for (int b = kMinBits; b <= kMaxBits; b++) {
      sites.push_back(s);
      bits.push_back(b);
    }
  }
  Reference engine(model.graph, model.weights, options.threads);
  const std::vector<SiteRange> ranges =
      calibrate(engine, sites, bits, images,
                {.objective = options.objective, .heads = options.heads}, progress);
  std::vector<SiteCandidates> out;
  for (size_t i = 0; i < ranges.size(); i++) {
    if (i % kWidths == 0) out.push_back({sites[i], {}});
    out.back().params.push_back(ranges[i].params());
  }
  return out;
}

// Predicts what each candidate does to the logits of one image (method.md section 17).
class ErrorPredictor {
 public:
  ErrorPredictor(const FloatModel& model, std::map<int, WeightCandidates> weights,
                 std::vector<SiteCandidates> sites)
      : model_(model), weights_(std::move(weights)), sites_(std::move(sites)), walk_(model) {
    for (const Site& s : activation_sites(model.graph)) {
      if (model.graph[s.consumer].kind == NodeKind::kLinear) {
        unit_of_[s.consumer] = s.unit;
        needed_.push_back(model.graph[s.consumer].in[0]);  // the site's node, or a Window of it
      }
      if (!s.softmax) needed_.push_back(s.node);
    }
  }

  // Errors of 0 for every unit and width.
  LogitsErrors zeros() const {
    LogitsErrors errors;
    for (const Site& s : activation_sites(model_.graph))
      if (!s.softmax && !s.unit.empty())
        errors[s.unit] = {std::vector<double>(kWidths), std::vector<double>(kWidths)};
    return errors;
  }

  // Adds the predicted squared changes of the logits to `squares`; returns the logits' sum of
  // squares.
  double run(Reference& forward, const Tensor& image, int64_t seed, LogitsErrors& squares) const {
    std::map<int, Tensor> values;  // inputs of Linears, and outputs of qkv
    const Tensor logits = forward.run(image, [&](int node, Tensor& value) {
      if (std::find(needed_.begin(), needed_.end(), node) != needed_.end()) values[node] = value;
    });
    walk_.visit(walk_.values(forward, image), {&seed, 1},
                [&](int linear, std::span<const float> gradient) {
                  if (unit_of_.at(linear).empty()) return;  // turns tokens back, always in 8 bits
                  add_weight_errors(linear, gradient, values, squares[unit_of_.at(linear)]);
                  for (const SiteCandidates& s : sites_) {
                    if (s.site.unit.empty()) continue;
                    if (s.site.consumer == linear)
                      add_input_errors(s, through_weight(linear, gradient),
                                       values.at(model_.graph[linear].in[0]), squares[s.site.unit]);
                    else if (s.site.node == linear)
                      add_input_errors(s, gradient, values.at(linear), squares[s.site.unit]);
                  }
                });
    double energy = 0;
    for (float y : logits.data) energy += double{y} * double{y};
    return energy;
  }

 private:
  const Tensor& weight_of(int linear) const {
    return model_.weights.at(model_.graph[linear].weight);
  }

  // Adds sum over rows n of <(W^ - W)_n, (G^T X)_n>^2. G is `gradient` [tokens, N], X the input
  // [tokens, K] less the mean that the bias makes up for.
  void add_weight_errors(int linear, std::span<const float> gradient,
                         const std::map<int, Tensor>& values, UnitErrors& squares) const {
    const WeightCandidates& candidates = weights_.at(linear);
    if (candidates.codes.empty()) return;
    const Node& n = model_.graph[linear];
    Tensor x = values.at(n.in[0]);
    const size_t k = static_cast<size_t>(x.dims[2]), cols = weight_of(linear).data.size() / k;
    for (size_t i = 0; i < x.data.size(); i++) x.data[i] -= candidates.mean[i % k];
    std::vector<float> product(cols * k);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, static_cast<int>(cols),
                static_cast<int>(k), static_cast<int>(x.dims[1]), 1, gradient.data(),
                static_cast<int>(cols), x.data.data(), static_cast<int>(k), 0, product.data(),
                static_cast<int>(k));
    const Tensor& weight = weight_of(linear);
    for (size_t b = 0; b < candidates.codes.size(); b++) {
      const WeightCodes& codes = candidates.codes[b];
      for (size_t row = 0; row < cols; row++) {
        double sum = 0;
        for (size_t i = row * k; i < (row + 1) * k; i++)
          sum += double{product[i]} *
                 double{dequantize(codes.codes[i], codes.ranges[row]) - weight.data[i]};
        squares.weight[b] += sum * sum;
      }
    }
  }

  // G W, [tokens, K].
  std::vector<float> through_weight(int linear, std::span<const float> gradient) const {
    const Tensor& weight = weight_of(linear);
    const int cols = static_cast<int>(weight.dims[0]),
              k = static_cast<int>(weight.data.size()) / cols,
              rows = static_cast<int>(gradient.size()) / cols;
    std::vector<float> out(array_size(rows, k));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, k, cols, 1, gradient.data(), cols,
                weight.data.data(), k, 0, out.data(), k);
    return out;
  }

  // Adds sum over tokens i of <gradient_i, x^_i - x_i>^2 over the columns of a site, or of its
  // Window, whose columns all belong to it. `gradient` has no row for padding.
  void add_input_errors(const SiteCandidates& s, std::span<const float> gradient,
                        const Tensor& value, UnitErrors& squares) const {
    const auto cols = static_cast<size_t>(value.dims[2]);
    Site site = s.site;
    if (model_.graph.is(site.consumer, NodeKind::kLinear) &&
        model_.graph[site.consumer].in[0] != site.node)
      site.begin = 0, site.end = static_cast<int>(cols);
    for (size_t b = 0; b < kWidths; b++) {
      Tensor rounded = value;
      fake_quantize(site, s.params[b], rounded);
      for (size_t row = 0; row < gradient.size(); row += cols) {
        double sum = 0;
        const float *g = &gradient[row], *x = &value.data[row], *x_hat = &rounded.data[row];
        for (int c = site.begin; c < site.end; c++) sum += double{g[c]} * double{x_hat[c] - x[c]};
        squares.activation[b] += sum * sum;
      }
    }
  }

  const FloatModel& model_;
  std::map<int, WeightCandidates> weights_;
  std::vector<SiteCandidates> sites_;
  GradientWalk walk_;
  std::map<int, std::string> unit_of_;  // Linear -> its unit
  std::vector<int> needed_;             // nodes whose values run() keeps
};

// Sums the images' errors and divides by the logits' sum of squares. Weights of more than
// kMeasuredBits bits get a quarter of the error for each further bit.
LogitsErrors relative_to(double energy, const std::vector<LogitsErrors>& images) {
  LogitsErrors errors = images[0];
  for (auto& [unit, e] : errors) {
    for (size_t b = 0; b < kWidths; b++) {
      for (size_t i = 1; i < images.size(); i++) {
        e.weight[b] += images[i].at(unit).weight[b];
        e.activation[b] += images[i].at(unit).activation[b];
      }
      e.weight[b] = b > kMeasuredBits - kMinBits ? e.weight[b - 1] / 4 : e.weight[b] / energy;
      e.activation[b] /= energy;
    }
  }
  return errors;
}

}  // namespace

LogitsErrors predict_errors(const FloatModel& model, const ImageSource& images,
                            const PredictOptions& options, const Progress& progress) {
  const int64_t test = std::max<int64_t>(std::min(kMostTest, images.count / 2), 1);
  // The input of a classifier head has one row for each image, and compensated rounding needs two.
  const int64_t fit = std::clamp(images.count - test, std::min<int64_t>(images.count, 2), kMostFit);
  const ImageSource first = tensor_source(images.load(0, fit));
  const auto part = [&](double from, double length) {
    return [&progress, from, length](double done) {
      if (progress) progress(from + length * done);
    };
  };
  const ErrorPredictor predictor(
      model, round_weights(model, first.load(0, fit), options, part(0, kRoundPart)),
      options.activations ? search_ranges(model, first, options, part(kRoundPart, kRangePart))
                          : std::vector<SiteCandidates>());
  const Tensor last = images.load(images.count - test, test);
  std::vector<LogitsErrors> squares(array_size(test), predictor.zeros());
  std::vector<double> energies(squares.size());
  std::atomic<int64_t> next{0};
  ThreadPool(options.threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t i; (i = next.fetch_add(1)) < test;)
      at(energies, i) = predictor.run(forward, slice(last, i, 1), i, at(squares, i));
  });
  const double energy = std::accumulate(energies.begin(), energies.end(), 1e-30);
  return relative_to(energy, squares);
}

}  // namespace vitrun
