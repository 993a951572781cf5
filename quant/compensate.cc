#include "quant/compensate.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/pack.h"
#include "models/status.h"
#include "quant/gradients.h"
#include "quant/reparam.h"
#include "runtime/fake_quant.h"

// LAPACK, which OpenBLAS holds: the Cholesky factor, column-major.
extern "C" void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);

namespace vitrun {
namespace {

constexpr double kDampings[] = {0.01, 0.1, 0.3, 1, 3};  // of the mean of H's diagonal
constexpr double kDampingAlone = 0.1;                   // where there are too few images to compare
constexpr double kEvenly = 0.05;  // part of a token's weight that its gradient does not decide
constexpr int kDescents = 2, kPasses = 2;  // fits of the scales, and passes over the codes before
constexpr size_t kBlock = 64;              // columns rounded between matrix products

using Doubles = std::vector<double>;

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

double mean_diagonal(const Doubles& h, size_t k) {
  double trace = 0;
  for (size_t i = 0; i < k; i++) trace += h[i * (k + 1)];
  return trace / static_cast<double>(k);
}

// What is added to H's diagonal, from a part of its mean.
double damping_of(const Doubles& h, size_t k, double part) {
  return std::max(part * mean_diagonal(h, k), 1e-12);
}

// H = X^T X + damping in the order in which columns are rounded, last first, as L L^T. Empty where
// it has no such factor, inputs of infinities for example.
struct Factor {
  std::vector<int> columns;
  std::vector<float> lower;  // [k, k], row-major, zeros above
};

Factor factor(const Doubles& hessian, size_t k, double part) {
  const double damping = damping_of(hessian, k, part);
  Factor f{std::vector<int>(k), {}};
  std::iota(f.columns.begin(), f.columns.end(), 0);
  const auto diagonal = [&](int c) { return hessian[static_cast<size_t>(c) * (k + 1)]; };
  std::stable_sort(f.columns.begin(), f.columns.end(),
                   [&](int a, int b) { return diagonal(a) < diagonal(b); });
  Doubles h(k * k);
  for (size_t i = 0; i < k; i++)
    for (size_t j = 0; j < k; j++)
      h[i * k + j] =
          hessian[static_cast<size_t>(f.columns[i]) * k + static_cast<size_t>(f.columns[j])] +
          (i == j ? damping : 0);
  const int size = static_cast<int>(k);
  int info = 0;
  dpotrf_("U", &size, h.data(), &size, &info);  // its upper is our lower: row-major
  if (info != 0) return {};
  for (size_t i = 0; i < k; i++)
    std::fill(h.begin() + static_cast<int64_t>(i * k + i + 1),
              h.begin() + static_cast<int64_t>((i + 1) * k), 0.0);
  f.lower.assign(h.begin(), h.end());
  return f;
}

// e = w^ - w.
Tensor rounding_error(const Tensor& weight, const WeightCodes& codes) {
  Tensor e = dequantize_weight(codes);
  for (size_t i = 0; i < e.data.size(); i++) e.data[i] -= weight.data[i];
  return e;
}

// rows H; H is [k, k], rows [n, k].
std::vector<float> times(const std::vector<float>& rows, const std::vector<float>& h, int k) {
  std::vector<float> product(rows.size());
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows.size()) / k, k, k, 1,
              rows.data(), k, h.data(), k, 0, product.data(), k);
  return product;
}

// The sum of e H e^T over the rows of e = w^ - w.
double squared_error(const Doubles& hessian, const Tensor& weight, const WeightCodes& codes) {
  const Tensor e = rounding_error(weight, codes);
  const auto product = times(e.data, {hessian.begin(), hessian.end()}, codes.k);
  double error = 0;
  for (size_t i = 0; i < product.size(); i++) error += double{product[i]} * double{e.data[i]};
  return error;
}

// The scale of each row that makes (s v - w) H (s v - w)^T least, v the codes less the zero point.
void refit_scales(const Doubles& hessian, const Tensor& weight, WeightCodes& codes) {
  const size_t n = static_cast<size_t>(codes.n), k = static_cast<size_t>(codes.k);
  std::vector<float> v(n * k);
  for (size_t i = 0; i < n * k; i++)
    v[i] = static_cast<float>(codes.codes[i] - codes.ranges[i / k].zero);
  const auto vh = times(v, {hessian.begin(), hessian.end()}, codes.k);
  for (size_t i = 0; i < n; i++) {
    double wanted = 0, squares = 0;
    for (size_t j = i * k; j < (i + 1) * k; j++) {
      wanted += double{weight.data[j]} * double{vh[j]};
      squares += double{v[j]} * double{vh[j]};
    }
    if (wanted > 0 && squares > 0) codes.ranges[i].scale = static_cast<float>(wanted / squares);
  }
}

// Coordinate descent on (w^ - w) (H + damping) (w^ - w)^T: each code in turn the best as the others
// are. The rows are parted among the threads.
void descend(const Doubles& hessian, double part, const Tensor& weight, WeightCodes& codes,
             ThreadPool& pool) {
  const size_t n = static_cast<size_t>(codes.n), k = static_cast<size_t>(codes.k);
  std::vector<float> h(hessian.begin(), hessian.end());
  const auto damping = static_cast<float>(damping_of(hessian, k, part));
  for (size_t i = 0; i < k; i++) h[i * (k + 1)] += damping;
  Tensor e = rounding_error(weight, codes);
  std::vector<float> slope = times(e.data, h, codes.k);  // e (H + damping)
  const auto visit = [&](size_t at) {
    const size_t row = at / k, column = at % k;
    const float* of_column = h.data() + column * k;
    const float wanted = weight.data[at] + e.data[at] - slope[at] / of_column[column];
    const int code = quantize(wanted, codes.ranges[row], codes.bits);
    if (code == codes.codes[at]) return;
    codes.codes[at] = static_cast<uint8_t>(code);
    const float now = dequantize(code, codes.ranges[row]) - weight.data[at],
                step = now - e.data[at];
    e.data[at] = now;
    for (size_t i = 0; i < k; i++) slope[row * k + i] += step * of_column[i];
  };
  pool.run([&](int thread) {
    for (size_t row = static_cast<size_t>(thread); row < n; row += static_cast<size_t>(pool.size()))
      for (size_t i = 0; i < kPasses * k; i++) visit(row * k + i % k);
  });
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

// The damping with the least error on rows that the rounding has not seen, one a thread.
double choose_damping(const Doubles& fitted, const Doubles& unseen, const Tensor& weight, int bits,
                      ThreadPool& pool) {
  const auto k = static_cast<size_t>(std::lround(std::sqrt(fitted.size())));
  double errors[std::size(kDampings)];
  pool.run([&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < std::size(kDampings);
         i += static_cast<size_t>(pool.size())) {
      const Factor f = factor(fitted, k, kDampings[i]);
      errors[i] = f.lower.empty()
                      ? INFINITY
                      : squared_error(unseen, weight,
                                      round_with_feedback(weight, f.lower, f.columns, bits));
    }
  });
  return kDampings[std::min_element(std::begin(errors), std::end(errors)) - errors];
}

// What the walk does at one Linear, whose input is [images, rows, k].
WeightCodes compensate(const Tensor& inputs, const std::vector<float>& weights,
                       const Tensor& weight, int bits, ThreadPool& pool) {
  const int64_t images = inputs.dims[0], rows = inputs.dims[1], held = images / 4;
  const int k = static_cast<int>(inputs.dims[2]);
  const std::vector<float> x = weighted(inputs, weights);
  Moments moments(k + 1), rest(k + 1);
  moments.add(x.data(), (images - held) * rows);
  rest.add(x.data() + (images - held) * rows * (k + 1), held * rows);
  double best = kDampingAlone;
  if (held > 0) {
    best = choose_damping(moments.centred(), rest.centred(), weight, bits, pool);
    moments.add(rest);
  }
  const Doubles h = moments.centred();
  const Factor f = factor(h, static_cast<size_t>(k), best);
  if (f.lower.empty()) fail("compensated rounding: the inputs of a Linear are not finite");
  WeightCodes codes = round_with_feedback(weight, f.lower, f.columns, bits);
  for (int i = 0; i < kDescents; i++) {
    refit_scales(h, weight, codes);
    descend(h, best, weight, codes, pool);
  }
  refit_scales(h, weight, codes);
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

// The range of a row with the least sum of importance (w^ - w)^2, between its extremes and half.
UniformRange search_weighted(std::span<const float> row, std::span<const float> importance,
                             int bits) {
  const auto [low, high] = std::minmax_element(row.begin(), row.end());
  UniformRange best;
  double least = INFINITY;
  for (int step = 0; step <= 20; step++) {
    const double part = 1 - 0.025 * step;
    const UniformRange range = uniform_range(part * *low, part * *high, bits);
    double error = 0;
    for (size_t i = 0; i < row.size(); i++) {
      const float e = row[i] - dequantize(quantize(row[i], range, bits), range);
      error += static_cast<double>(importance[i] * e * e);
    }
    if (error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

}  // namespace

WeightCodes round_with_feedback(const Tensor& weight, const std::vector<float>& factor,
                                const std::vector<int>& columns, int bits) {
  const auto n = static_cast<size_t>(weight.dims[0]), k = columns.size();
  WeightCodes out{static_cast<int>(n), static_cast<int>(k), bits, std::vector<uint8_t>(n * k), {}};
  std::vector<float> importance(k);  // the diagonal of H
  for (size_t j = 0; j < k; j++)
    for (size_t i = 0; i <= j; i++)
      importance[static_cast<size_t>(columns[j])] += factor[j * k + i] * factor[j * k + i];
  for (size_t row = 0; row < n; row++)
    out.ranges.push_back(
        search_weighted(std::span(weight.data).subspan(row * k, k), importance, bits));
  // (e L)_j = e_j L_jj + what the columns after j have done, which rounding w_j plus its share of
  // that makes small (Babai's nearest plane).
  std::vector<float> done(n * k), error(n * kBlock);
  for (size_t end = k; end > 0; end -= std::min(end, kBlock)) {
    const size_t begin = end - std::min(end, kBlock);
    for (size_t row = 0; row < n; row++)
      for (size_t j = end; j-- > begin;) {
        const size_t column = static_cast<size_t>(columns[j]);
        const float w = weight.data[row * k + column];
        const int code = quantize(w + done[row * k + j] / factor[j * k + j], out.ranges[row], bits);
        out.codes[row * k + column] = static_cast<uint8_t>(code);
        const float e = w - dequantize(code, out.ranges[row]);
        error[row * kBlock + j - begin] = e;
        for (size_t i = begin; i < j; i++) done[row * k + i] += e * factor[j * k + i];
      }
    if (begin == 0) break;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(n),
                static_cast<int>(begin), static_cast<int>(end - begin), 1, error.data(),
                static_cast<int>(kBlock), factor.data() + begin * k, static_cast<int>(k), 1,
                done.data(), static_cast<int>(k));
  }
  return out;
}

WeightCodes compensate_weight(const Tensor& inputs, const std::vector<float>& tokens,
                              const Tensor& weight, int bits, int threads) {
  ThreadPool pool(threads);
  return compensate(inputs, row_weights(inputs, tokens), weight, bits, pool);
}

std::vector<float> compensated_mean(const Tensor& inputs, const std::vector<float>& tokens) {
  const auto k = static_cast<size_t>(inputs.dims[2]);
  const std::vector<float> weights = row_weights(inputs, tokens);
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
  std::map<int, int> last_reader;  // the last Linear that reads a node
  for (const auto& [linear, b] : bits) {
    ensure_bias(model, linear);
    last_reader[model.graph.nodes[static_cast<size_t>(linear)].in[0]] = linear;
  }
  const std::vector<Site> sites = activation_sites(model.graph);
  std::map<std::string, WeightCodes> codes;
  std::map<int, Tensor> inputs;  // by node, of the Linears to come
  const Tensor x = images.load(0, images.count);
  const auto gradients = token_gradients(model, x, threads);
  Reference engine(model.graph, model.weights, threads);
  ThreadPool pool(threads);
  const auto replace_linear = [&](const Node& n, int node, Tensor& value) {
    const Tensor &input = inputs.at(n.in[0]), &weight = model.weights.at(n.weight);
    Tensor& bias = model.weights.at(n.bias);
    WeightCodes& rounded = codes[n.name];
    const std::vector<float> weights = row_weights(input, gradients.at(node));
    rounded = compensate(input, weights, weight, bits.at(node).weight, pool);
    const Tensor product = engine.multiply(input, dequantize_weight(rounded));
    correct_bias(engine.multiply(input, weight), product, weights, bias);
    set_output(product, bias, value);
    if (last_reader.at(n.in[0]) == node) inputs.erase(n.in[0]);
    if (progress) progress(static_cast<double>(codes.size()) / static_cast<double>(bits.size()));
  };
  // From here on every value is the quantized model's.
  engine.run(x, [&](int node, Tensor& value) {
    const Node& n = model.graph.nodes[static_cast<size_t>(node)];
    if (n.kind == NodeKind::kLinear) replace_linear(n, node, value);
    for (size_t i = 0; i < sites.size(); i++) {
      if (sites[i].node != node) continue;
      fake_quantize(sites[i], ranges[i].params(), value);
    }
    if (last_reader.contains(node)) inputs[node] = value;
  });
  return codes;
}

}  // namespace vitrun
