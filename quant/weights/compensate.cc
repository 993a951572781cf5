#include "quant/weights/compensate.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "models/base/error.h"
#include "quant/quantized_graph.h"
#include "quant/rewrite/fold.h"
#include "quant/weights/rounding.h"

namespace vitrun {
namespace {

// lambda_H and lambda_C of method.md section 16: damping adds them times the mean of the diagonal.
struct Damping {
  double columns, rows;
};

// Damping so large that errors of different rows are treated as independent.
constexpr double kIndependentRows = 1e6;
constexpr double kColumnDampings[] = {0.01, 0.1, 0.3, 1, 3};
constexpr double kRowDampings[] = {0.03, 0.1, 0.3, 1, 3, kIndependentRows};
constexpr double kFirstRowDamping = 1;                     // damping of C while that of H is chosen
constexpr Damping kDefaultDamping{0.1, kIndependentRows};  // for too few images to compare dampings
// A token's weight is 95 % its gradient's norm, 5 % the same for all, so that none is ignored.
constexpr double kUniformShare = 0.05;
// A channel whose variance is a smaller part of its second moment than this is constant: what
// remains of it is the rounding of float sums.
constexpr double kRounding = 1e-6;
constexpr int kMostDampings = 12;  // times that a factor is sought, each time damped ten times more

// Second moments of one Linear over some images (method.md section 15): H [K, K] of its input, C
// [N, N] of the logits' gradient at its output.
struct LinearMoments {
  Doubles h, c;
};

// Accumulates the upper triangle of X^T X over rows (w x, w) of a Linear's input x, each multiplied
// by its weight w. The last column, w alone, yields the weighted sums of x and the sum of w^2.
struct InputMoments {
  int k;  // columns of the input, and one for the weight
  Doubles xx;

  explicit InputMoments(int columns) : k(columns), xx(array_size(k, k)) {}

  // Adds rows first .. end of inputs [.., K], weighted by weights[row].
  void add(const Tensor& inputs, const std::vector<float>& weights, int64_t first, int64_t end,
           ThreadPool& pool);
  void add(const InputMoments& other);
  // Returns H of the centred input, [k - 1, k - 1]. The mean's error is left out because the bias
  // absorbs it; a constant channel has a row and column of zeros.
  Doubles centred() const;
};

// Rows (w x, w), of inputs [.., K] from row `first` on.
std::vector<float> weighted(const Tensor& inputs, const std::vector<float>& weights, int64_t first,
                            int64_t count) {
  const size_t k = static_cast<size_t>(inputs.dims[2]);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(count) * (k + 1));
  for (size_t row = static_cast<size_t>(first); row < static_cast<size_t>(first + count); row++) {
    for (size_t i = row * k; i < (row + 1) * k; i++) out.push_back(weights[row] * inputs.data[i]);
    out.push_back(weights[row]);
  }
  return out;
}

// Threads share bands of the matrix, which are the same for any number of them.
void InputMoments::add(const Tensor& inputs, const std::vector<float>& weights, int64_t first,
                       int64_t end, ThreadPool& pool) {
  constexpr int64_t kRows = 1024;  // so many rows are summed in float, and these sums in double
  constexpr int kBand = 256;
  const int bands = (k + kBand - 1) / kBand;
  for (int64_t row = first; row < end; row += kRows) {
    const int m = static_cast<int>(std::min(kRows, end - row));
    const std::vector<float> x = weighted(inputs, weights, row, m);
    std::atomic<int> next{0};
    pool.run([&](int) {
      std::vector<float> square(array_size(kBand, k));
      for (int b; (b = next.fetch_add(1)) < bands;) {
        const int from = b * kBand, rows = std::min(kBand, k - from), cols = k - from;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, cols, m, 1, &x[array_size(from)],
                    k, &x[array_size(from)], k, 0, square.data(), cols);
        for (int i = 0; i < rows; i++)
          for (int j = i; j < cols; j++)
            xx[array_size(from + i, k) + array_size(from + j)] +=
                double{square[array_size(i, cols) + array_size(j)]};
      }
    });
  }
}

void InputMoments::add(const InputMoments& other) {
  for (size_t i = 0; i < xx.size(); i++) xx[i] += other.xx[i];
}

Doubles InputMoments::centred() const {
  const auto all = static_cast<size_t>(k), inputs = all - 1;
  Doubles h(inputs * inputs), sums(all);
  for (size_t i = 0; i < all; i++) sums[i] = xx[i * all + inputs];
  if (!(sums[inputs] > 0)) return h;  // of no rows
  const auto element = [&](size_t i, size_t j) {
    return xx[i * all + j] - sums[i] * sums[j] / sums[inputs];
  };
  std::vector<bool> constant(inputs);
  for (size_t i = 0; i < inputs; i++) constant[i] = element(i, i) <= kRounding * xx[i * all + i];
  for (size_t i = 0; i < inputs; i++)
    for (size_t j = i; j < inputs; j++)
      if (!constant[i] && !constant[j]) h[i * inputs + j] = h[j * inputs + i] = element(i, j);
  return h;
}

// w_i = sqrt(m (u + (1 - u) |G_i| / mean |G|) / (|x_i|^2 + m)) of every token, with m = mean |x|^2
// and u = kUniformShare (method.md section 15). `inputs` is [images, tokens, K], `gradients` has
// |G_i| of every token.
std::vector<float> row_weights(const Tensor& inputs, const std::vector<float>& gradients) {
  const size_t k = static_cast<size_t>(inputs.dims[2]), rows = inputs.data.size() / k;
  Doubles squares(rows);
  for (size_t i = 0; i < inputs.data.size(); i++)
    squares[i / k] += std::pow(double{inputs.data[i]}, 2);
  const double mean =
      std::accumulate(squares.begin(), squares.end(), 1e-30) / static_cast<double>(rows);
  std::vector<float> weights(rows);
  const double mean_gradient =
      std::accumulate(gradients.begin(), gradients.end(), 0.0) / static_cast<double>(rows);
  for (size_t i = 0; i < rows; i++) {
    const double g = mean_gradient > 0 ? double{gradients[i]} / mean_gradient : 1;
    weights[i] = static_cast<float>(
        std::sqrt((kUniformShare + (1 - kUniformShare) * g) * mean / (squares[i] + mean)));
  }
  return weights;
}

// Returns the damping whose factor of M has the least error. Threads share the candidates.
double best_damping(std::span<const double> dampings, const Doubles& m, ThreadPool& pool,
                    const std::function<double(const Factor&)>& error) {
  std::vector<double> errors(dampings.size());
  pool.run([&](int thread) {
    for (int i = thread; i < count_of(errors); i += pool.size())
      at(errors, i) = error(factor(m, dampings[static_cast<size_t>(i)]));
  });
  return *(dampings.begin() + (std::ranges::min_element(errors) - errors.begin()));
}

// Chooses the damping of the columns first, then that of the rows, by the error on images that the
// rounding has not seen.
Damping choose_damping(const LinearMoments& fitted, const LinearMoments& unseen,
                       const Tensor& weight, const WeightGrid& grid, ThreadPool& pool) {
  const auto error = [&](const Factor& columns, const Factor& rows) {
    if (columns.empty() || rows.empty()) return double{INFINITY};
    return output_error(unseen.h, unseen.c, weight,
                        round_with_feedback(weight, columns, rows, grid));
  };
  const Factor first_rows = factor(fitted.c, kFirstRowDamping);
  const double of_columns =
      best_damping(kColumnDampings, fitted.h, pool,
                   [&](const Factor& columns) { return error(columns, first_rows); });
  const Factor columns = factor(fitted.h, of_columns);
  return {of_columns, best_damping(kRowDampings, fitted.c, pool,
                                   [&](const Factor& rows) { return error(columns, rows); })};
}

double trace(const Doubles& m) {
  const auto n = static_cast<size_t>(std::sqrt(static_cast<double>(m.size())));
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += m[i * n + i];
  return sum;
}

bool is_finite(const Doubles& m) {
  return std::ranges::all_of(m, [](double v) { return std::isfinite(v); });
}

// factor(m, part). Rounding of sums may leave a matrix of low rank slightly negative, which takes
// a damping above that rounding; `part` becomes the damping that was enough.
Factor factor_surely(const Doubles& m, double& part) {
  Factor f = factor(m, part);
  for (int i = 1; f.empty() && i < kMostDampings; i++) f = factor(m, part *= 10);
  return f;
}

Doubles identity(size_t n) {
  Doubles m(n * n);
  for (size_t i = 0; i < n; i++) m[i * n + i] = 1;
  return m;
}

// H and C of a Linear over all images, their dampings and factors.
struct RoundingMetric {
  LinearMoments moments;
  Damping damping = kDefaultDamping;
  Factor columns, rows;
};

// Computes the metric from inputs [images, tokens, K] with their token weights, and chooses the
// dampings for `grid`. Where no logit depends on the Linear, C is the identity: all outputs count
// alike. Where the input is the same for all tokens, H is, and all channels count alike.
RoundingMetric metric_of(const std::string& linear, const Tensor& inputs,
                         const std::vector<float>& token_weights, const OutputGradients& gradients,
                         const Tensor& weight, const WeightGrid& grid, ThreadPool& pool) {
  const int64_t images = inputs.dims[0], rows = inputs.dims[1], held = images / 4;
  const int k = static_cast<int>(inputs.dims[2]);
  InputMoments moments(k + 1), rest(k + 1);
  moments.add(inputs, token_weights, 0, (images - held) * rows, pool);
  rest.add(inputs, token_weights, (images - held) * rows, images * rows, pool);
  Doubles c = gradients.fitted.matrix();
  RoundingMetric out;
  if (held > 0 && trace(c) > 0) {
    const Doubles others = gradients.unseen.matrix();
    out.damping =
        choose_damping({moments.centred(), c}, {rest.centred(), others}, weight, grid, pool);
    moments.add(rest);
    for (size_t i = 0; i < c.size(); i++) c[i] += others[i];
  } else {
    moments.add(rest);
  }
  out.moments = {moments.centred(), std::move(c)};
  if (!is_finite(out.moments.h))
    fail(linear, ": its input has values too large to be squared in float32");
  if (!is_finite(out.moments.c)) fail(linear, ": gradients at its output overflow in float32");
  if (!(trace(out.moments.h) > 0)) out.moments.h = identity(static_cast<size_t>(k));
  if (!(trace(out.moments.c) > 0)) out.moments.c = identity(static_cast<size_t>(weight.dims[0]));
  out.columns = factor_surely(out.moments.h, out.damping.columns);
  out.rows = factor_surely(out.moments.c, out.damping.rows);
  if (out.columns.empty() || out.rows.empty())
    fail(linear,
         ": the moments of its input or its gradients have no Cholesky factor, however damped");
  return out;
}

WeightCodes round_in(const RoundingMetric& m, const Tensor& weight, const WeightGrid& grid,
                     ThreadPool& pool) {
  WeightCodes codes = round_with_feedback(weight, m.columns, m.rows, grid);
  descend({m.moments.h, m.damping.columns}, {m.moments.c, m.damping.rows}, m.rows.order, weight,
          codes, pool);
  return codes;
}

// The mean of the tokens of inputs [.., K], each weighing the square of its weight.
std::vector<float> mean_of(const Tensor& inputs, const std::vector<float>& weights) {
  const auto k = static_cast<size_t>(inputs.dims[2]);
  Doubles sums(k);
  double total = 0;
  for (size_t row = 0; row < weights.size(); row++) {
    const double w = std::pow(double{weights[row]}, 2);
    total += w;
    for (size_t i = 0; i < k; i++) sums[i] += w * double{inputs.data[row * k + i]};
  }
  std::vector<float> mean;
  for (double sum : sums) mean.push_back(static_cast<float>(sum / total));
  return mean;
}

// b += (W - W^) x with the mean x of the input (method.md section 16, step 5).
void correct_bias(const Tensor& weight, const Tensor& rounded, const std::vector<float>& mean,
                  Tensor& bias) {
  const size_t k = mean.size();
  for (size_t i = 0; i < bias.data.size(); i++) {
    const float *w = &weight.data[i * k], *w_hat = &rounded.data[i * k];
    bias.data[i] += static_cast<float>(
        sum_of(k, [&](size_t c) { return (double{w[c]} - double{w_hat[c]}) * double{mean[c]}; }));
  }
}

// value = product + bias, with value [images, rows, n], product [images, tokens, n] and bias [n].
// Rows beyond the tokens are padding, whose product is 0.
void set_output(const Tensor& product, const Tensor& bias, Tensor& value) {
  const int64_t tokens = product.dims[1], rows = value.dims[1], n = value.dims[2];
  for (int64_t i = 0; i < value.dims[0] * rows; i++) {
    float* out = value.data.data() + i * n;
    std::copy(bias.data.begin(), bias.data.end(), out);
    if (i % rows >= tokens) continue;
    const float* in = product.data.data() + (i / rows * tokens + i % rows) * n;
    for (int64_t c = 0; c < n; c++) out[c] += in[c];
  }
}

}  // namespace

std::vector<WeightCodes> compensate_weight(const std::string& linear, const Tensor& inputs,
                                           const OutputGradients& gradients, const Tensor& weight,
                                           const std::vector<WeightGrid>& grids, int threads) {
  ThreadPool pool(threads);
  const RoundingMetric metric = metric_of(linear, inputs, row_weights(inputs, gradients.norms),
                                          gradients, weight, grids[grids.size() / 2], pool);
  std::vector<WeightCodes> codes(grids.size());
  pool.run([&](int thread) {
    ThreadPool alone(1);
    for (int i = thread; i < count_of(grids); i += pool.size())
      at(codes, i) = round_in(metric, weight, at(grids, i), alone);
  });
  return codes;
}

std::vector<float> compensated_mean(const Tensor& inputs, const OutputGradients& gradients) {
  return mean_of(inputs, row_weights(inputs, gradients.norms));
}

std::map<std::string, WeightCodes> compensate_weights(FloatModel& model,
                                                      const std::vector<SiteRange>& ranges,
                                                      const std::map<int, UnitBits>& bits,
                                                      const ImageSource& images, int threads,
                                                      const std::vector<std::string>& outputs,
                                                      StepPlan* steps, const Progress& progress) {
  for (const auto& [linear, b] : bits) ensure_bias(model, linear);
  std::vector<CodeParams> params;
  for (const SiteRange& r : ranges) params.push_back(r.params());
  // Linears of this graph read codes. Its parameters are the model's and those of the quantizers.
  const QuantizedGraph quantized =
      insert_quantizers(model.graph, activation_sites(model.graph), params);
  const Graph& graph = quantized.graph;
  std::map<std::string, WeightCodes> codes;
  // node -> its value, which the engine keeps until its last reader has been evaluated and
  // observed.
  std::vector<const Tensor*> values(graph.nodes.size());
  const Tensor x = images.load(0, images.count);
  auto gradients = output_gradients(model, x, threads, outputs);
  model.weights.insert(quantized.quantizers.begin(), quantized.quantizers.end());
  Reference engine(graph, model.weights, threads);
  ThreadPool pool(threads);
  const auto replace_linear = [&](const Node& n, int node, Tensor& value) {
    const Tensor &input = *at(values, n.in[0]), &weight = model.weights.at(n.weight);
    Tensor& bias = model.weights.at(n.bias);
    WeightCodes& rounded = codes[n.name];
    const int original = at(quantized.original, node);
    // Each Linear is rounded once, and its moments are freed with it.
    const OutputGradients gradient = std::move(gradients.at(original));
    gradients.erase(original);
    const std::vector<float> token_weights = row_weights(input, gradient.norms);
    std::optional<RoundingMetric> metric;  // its dampings are those of the first grid
    rounded = round_planned(steps, n.name, bits.at(original).weight, [&](const WeightGrid& grid) {
      if (!metric) metric = metric_of(n.name, input, token_weights, gradient, weight, grid, pool);
      return round_in(*metric, weight, grid, pool);
    });
    const Tensor codes_weight = dequantize_weight(rounded);
    // The row for padding is the bias itself, which then has to stay: cosines of a row of zeros are
    // 0, those of a small correction are not.
    if (engine.shapes()[node].pad_row) {
      set_output(engine.multiply(input, codes_weight), bias, value);
    } else {
      correct_bias(weight, codes_weight, mean_of(input, token_weights), bias);
      value = {};  // its memory goes before the new value comes
      value = engine.multiply(input, codes_weight);
      for (size_t i = 0; i < value.data.size(); i++)
        value.data[i] += bias.data[i % bias.data.size()];
    }
    if (progress) progress(ratio(codes.size(), bits.size()));
  };
  // Each Linear's value is replaced as it is rounded, so that every value is the quantized model's.
  engine.run_outputs(x, {}, [&](int node, Tensor& value) {
    if (graph.is(node, NodeKind::kLinear)) replace_linear(graph[node], node, value);
    at(values, node) = &value;
  });
  for (const auto& [name, tensor] : quantized.quantizers) model.weights.erase(name);
  return codes;
}

}  // namespace vitrun
