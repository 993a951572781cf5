#include "quant/weights/compensate.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "models/base/error.h"
#include "quant/quantized_graph.h"
#include "quant/rewrite/fold.h"
#include "quant/weights/rounding.h"

namespace vitrun {
namespace {

// Parts of the mean of H's and of C's diagonal that are added to them.
struct Damping {
  double columns, rows;
};

constexpr double kApart = 1e6;  // rows each for itself
constexpr double kDampings[] = {0.01, 0.1, 0.3, 1, 3};
constexpr double kRowDampings[] = {0.03, 0.1, 0.3, 1, 3, kApart};
constexpr double kFirstRows = 1;        // of rows while that of columns is chosen
constexpr Damping kAlone{0.1, kApart};  // where there are too few images to compare
constexpr double kEvenly = 0.05;  // part of a token's weight that its gradient does not decide

// What some images say of a Linear: H of its input, C of its output (rounding.h).
struct Images {
  Doubles h, c;
};

// X^T X of rows of a Linear's input, each times its weight, which is the last column; additive.
struct Moments {
  int k;  // columns with the weight's
  Doubles xx;

  explicit Moments(int columns) : k(columns), xx(static_cast<size_t>(k) * static_cast<size_t>(k)) {}

  void add(const float* xs, int64_t count);
  void add(const Moments& other);
  // Of the input alone, about its weighted means: a bias makes up for those.
  Doubles centred() const;
};

void Moments::add(const float* xs, int64_t count) {
  constexpr int64_t kRows = 1024;  // summed in float, the chunks in double
  std::vector<float> square(xx.size());
  for (int64_t first = 0; first < count; first += kRows) {
    const int m = static_cast<int>(std::min(kRows, count - first));
    const float* x = xs + first * k;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, k, m, 1, x, k, x, k, 0, square.data(),
                k);
    for (size_t i = 0; i < xx.size(); i++) xx[i] += double{square[i]};
  }
}

void Moments::add(const Moments& other) {
  for (size_t i = 0; i < xx.size(); i++) xx[i] += other.xx[i];
}

Doubles Moments::centred() const {
  const size_t all = static_cast<size_t>(k), inputs = all - 1;
  const double* sums = xx.data() + inputs * all;
  Doubles h(inputs * inputs);
  for (size_t i = 0; i < inputs; i++)
    for (size_t j = 0; j < inputs; j++)
      h[i * inputs + j] = xx[i * all + j] - sums[i] * sums[j] / sums[inputs];
  return h;
}

// sqrt(g / (|x|^2 + mean |x|^2)) of every row, so that a few tokens with massive activations, which
// the next LayerNorm makes as small as the others, do not decide alone; g = kEvenly + (1 - kEvenly)
// |G| / mean |G| of quant/gradients.h.
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
    weights[i] =
        static_cast<float>(std::sqrt((kEvenly + (1 - kEvenly) * g) * mean / (squares[i] + mean)));
  }
  return weights;
}

// The weighted rows with their weights as last column.
std::vector<float> weighted(const Tensor& inputs, const std::vector<float>& weights) {
  const size_t k = static_cast<size_t>(inputs.dims[2]);
  std::vector<float> out;
  out.reserve(weights.size() * (k + 1));
  for (size_t row = 0; row < weights.size(); row++) {
    for (size_t i = row * k; i < (row + 1) * k; i++) out.push_back(weights[row] * inputs.data[i]);
    out.push_back(weights[row]);
  }
  return out;
}

// The part of M's mean diagonal whose factor has the least error, one try a thread.
double best_part(std::span<const double> parts, const Doubles& m, ThreadPool& pool,
                 const std::function<double(const Factor&)>& error) {
  std::vector<double> errors(parts.size());
  pool.run([&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < parts.size();
         i += static_cast<size_t>(pool.size()))
      errors[i] = error(factor(m, parts[i]));
  });
  return parts[static_cast<size_t>(std::min_element(errors.begin(), errors.end()) -
                                   errors.begin())];
}

// By the error on images that the rounding has not seen: that of the columns first, then that of
// the rows.
Damping choose_damping(const Images& fitted, const Images& unseen, const Tensor& weight, int bits,
                       ThreadPool& pool) {
  const auto error = [&](const Factor& columns, const Factor& rows) {
    if (columns.empty() || rows.empty()) return double{INFINITY};
    return output_error(unseen.h, unseen.c, weight,
                        round_with_feedback(weight, columns, rows, bits));
  };
  const Factor first_rows = factor(fitted.c, kFirstRows);
  const double in_columns = best_part(
      kDampings, fitted.h, pool, [&](const Factor& columns) { return error(columns, first_rows); });
  const Factor columns = factor(fitted.h, in_columns);
  return {in_columns, best_part(kRowDampings, fitted.c, pool,
                                [&](const Factor& rows) { return error(columns, rows); })};
}

double trace(const Doubles& m) {
  const auto n = static_cast<size_t>(std::sqrt(static_cast<double>(m.size())));
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += m[i * n + i];
  return sum;
}

Doubles identity(size_t n) {
  Doubles m(n * n);
  for (size_t i = 0; i < n; i++) m[i * n + i] = 1;
  return m;
}

// H and C of a Linear, their dampings and factors. Where no logit depends on the Linear, all of its
// outputs count alike.
struct Study {
  Images all;
  Damping damping = kAlone;
  Factor columns, rows;
};

// `inputs` [images, rows, k]; the dampings are chosen for `bits`.
Study study(const Tensor& inputs, const std::vector<float>& weights,
            const OutputGradients& gradients, const Tensor& weight, int bits, ThreadPool& pool) {
  const int64_t images = inputs.dims[0], rows = inputs.dims[1], held = images / 4;
  const int k = static_cast<int>(inputs.dims[2]);
  const std::vector<float> x = weighted(inputs, weights);
  Moments moments(k + 1), rest(k + 1);
  moments.add(x.data(), (images - held) * rows);
  rest.add(x.data() + (images - held) * rows * (k + 1), held * rows);
  Doubles c(gradients.fitted.begin(), gradients.fitted.end());
  Study out;
  if (held > 0 && trace(c) > 0) {
    const Doubles others(gradients.unseen.begin(), gradients.unseen.end());
    out.damping =
        choose_damping({moments.centred(), c}, {rest.centred(), others}, weight, bits, pool);
    moments.add(rest);
    for (size_t i = 0; i < c.size(); i++) c[i] += others[i];
  } else {
    moments.add(rest);
  }
  out.all = {moments.centred(), std::move(c)};
  if (!(trace(out.all.c) > 0)) out.all.c = identity(static_cast<size_t>(weight.dims[0]));
  out.columns = factor(out.all.h, out.damping.columns);
  out.rows = factor(out.all.c, out.damping.rows);
  if (out.columns.empty() || out.rows.empty())
    fail("compensated rounding: the inputs or gradients of a Linear are not finite");
  return out;
}

WeightCodes round_as(const Study& s, const Tensor& weight, int bits) {
  WeightCodes codes = round_with_feedback(weight, s.columns, s.rows, bits);
  descend({s.all.h, s.damping.columns}, {s.all.c, s.damping.rows}, s.rows.order, weight, codes);
  return codes;
}

// Adds what rounding took from the weighted mean of the outputs to the bias [n].
void correct_bias(const Tensor& exact, const Tensor& rounded, const std::vector<float>& weights,
                  Tensor& bias) {
  const size_t n = bias.data.size();
  Doubles sums(n);
  double total = 0;
  for (size_t row = 0; row < weights.size(); row++) {
    const double w = std::pow(double{weights[row]}, 2);
    total += w;
    for (size_t i = 0; i < n; i++)
      sums[i] += w * (double{exact.data[row * n + i]} - double{rounded.data[row * n + i]});
  }
  for (size_t i = 0; i < n; i++) bias.data[i] += static_cast<float>(sums[i] / total);
}

// Sets a Linear's value [images, rows, n] to product [images, tokens, n] + bias; rows beyond the
// tokens are padding, whose product is 0.
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

std::vector<WeightCodes> compensate_weight(const Tensor& inputs, const OutputGradients& gradients,
                                           const Tensor& weight, const std::vector<int>& bits,
                                           int threads) {
  ThreadPool pool(threads);
  const Study s = study(inputs, row_weights(inputs, gradients.norms), gradients, weight,
                        bits[bits.size() / 2], pool);
  std::vector<WeightCodes> codes(bits.size());
  pool.run([&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < bits.size();
         i += static_cast<size_t>(pool.size()))
      codes[i] = round_as(s, weight, bits[i]);
  });
  return codes;
}

std::vector<float> compensated_mean(const Tensor& inputs, const OutputGradients& gradients) {
  const auto k = static_cast<size_t>(inputs.dims[2]);
  const std::vector<float> weights = row_weights(inputs, gradients.norms);
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

std::map<std::string, WeightCodes> compensate_weights(FloatModel& model,
                                                      const std::vector<SiteRange>& ranges,
                                                      const std::map<int, UnitBits>& bits,
                                                      const ImageSource& images, int threads,
                                                      const Progress& progress) {
  for (const auto& [linear, b] : bits) ensure_bias(model, linear);
  std::vector<CodeParams> params;
  for (const SiteRange& r : ranges) params.push_back(r.params());
  // The graph whose Linears read codes; its weights are the model's and those of the codes.
  const QuantizedGraph quantized =
      insert_quantizers(model.graph, activation_sites(model.graph), params);
  const Graph& graph = quantized.graph;
  std::map<int, int> last_reader;  // the last Linear that reads a node
  for (int i = 0; i < graph.size(); i++)
    if (graph.is(i, NodeKind::kLinear)) last_reader[graph[i].in[0]] = i;
  std::map<std::string, WeightCodes> codes;
  std::map<int, Tensor> inputs;  // by node, of the Linears to come
  const Tensor x = images.load(0, images.count);
  const auto gradients = output_gradients(model, x, threads);
  model.weights.insert(quantized.quantizers.begin(), quantized.quantizers.end());
  Reference engine(graph, model.weights, threads);
  ThreadPool pool(threads);
  const auto replace_linear = [&](const Node& n, int node, Tensor& value) {
    const Tensor &input = inputs.at(n.in[0]), &weight = model.weights.at(n.weight);
    Tensor& bias = model.weights.at(n.bias);
    WeightCodes& rounded = codes[n.name];
    const int original = at(quantized.original, node);
    const OutputGradients& of = gradients.at(original);
    const std::vector<float> weights = row_weights(input, of.norms);
    const int width = bits.at(original).weight;
    rounded = round_as(study(input, weights, of, weight, width, pool), weight, width);
    const Tensor product = engine.multiply(input, dequantize_weight(rounded));
    correct_bias(engine.multiply(input, weight), product, weights, bias);
    set_output(product, bias, value);
    if (last_reader.at(n.in[0]) == node) inputs.erase(n.in[0]);
    if (progress) progress(static_cast<double>(codes.size()) / static_cast<double>(bits.size()));
  };
  // From here on every value is the quantized model's.
  engine.run(x, [&](int node, Tensor& value) {
    if (graph.is(node, NodeKind::kLinear)) replace_linear(graph[node], node, value);
    if (last_reader.contains(node)) inputs[node] = value;
  });
  for (const auto& [name, tensor] : quantized.quantizers) model.weights.erase(name);
  return codes;
}

}  // namespace vitrun
