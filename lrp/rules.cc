#include "lrp/rules.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "models/status.h"
#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

using Values = std::vector<float>;

double sum(const Values& v) {
  double total = 0;
  for (float x : v) total += static_cast<double>(x);
  return total;
}

Values divided(const Values& relevance, const float* value) {
  Values s(relevance.size());
  for (size_t i = 0; i < s.size(); i++) s[i] = safe_divide(relevance[i], value[i]);
  return s;
}

// c = alpha a b + beta c; a is [m, k] or, transposed, [k, m]; b likewise.
void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float* a,
              const float* b, float beta, float* c) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, transpose_a ? m : k, b,
              transpose_b ? k : n, beta, c, n);
}

// z, on entry |x| |W|^T, becomes S = safe(R, Z). Returns the relevance of outputs whose Z is 0.
double divide_by_positive(const RuleCall& c, const float* bias, Values& z) {
  const size_t n = static_cast<size_t>(c.node.cols);
  double lost = 0;
  for (size_t row = 0; row < z.size(); row += n)
    for (size_t j = 0; j < n; j++) {
      const size_t i = row + j;
      const float product = c.out.data[i] - (bias ? bias[j] : 0);
      const float positive = 0.5f * (product + z[i]);
      // Below the rounding of its terms Z is 0.
      const bool none = positive <= 1e-6f * z[i];
      if (none) lost += static_cast<double>(c.flow.relevance[i]);
      z[i] = none ? 0 : safe_divide(c.flow.relevance[i], positive);
    }
  return lost;
}

// y = x W^T + b. With the positive and negative parts of x and W,
//   Z = x+ W+^T + x- W-^T = (y - b + |x| |W|^T) / 2,  S = safe(R, Z),
//   R_in = x+ (S W+) + x- (S W-) = (x (S W) + |x| (S |W|)) / 2:
// three products instead of four, since x W^T is known from the forward pass.
double linear(const RuleCall& c, Flow& to) {
  const Tensor& x = *c.in[0];
  const int n = c.node.cols, k = static_cast<int>(x.dims[2]), m = static_cast<int>(x.dims[1]);
  const float* w = c.weights.at(c.node.weight).data.data();
  const float* magnitude = c.magnitudes.at(c.node.weight).data.data();
  const float* bias = c.node.bias.empty() ? nullptr : c.weights.at(c.node.bias).data.data();
  to.gradient.resize(x.data.size());
  multiply(false, false, m, k, n, 1, c.flow.gradient.data(), w, 0, to.gradient.data());

  Values absolute(x.data.size()), z(static_cast<size_t>(m) * static_cast<size_t>(n));
  std::transform(x.data.begin(), x.data.end(), absolute.begin(),
                 [](float v) { return std::fabs(v); });
  multiply(false, true, m, n, k, 1, absolute.data(), magnitude, 0, z.data());
  const double lost = divide_by_positive(c, bias, z);
  Values by_magnitude(x.data.size());
  to.relevance.resize(x.data.size());
  multiply(false, false, m, k, n, 0.5f, z.data(), w, 0, to.relevance.data());
  multiply(false, false, m, k, n, 0.5f, z.data(), magnitude, 0, by_magnitude.data());
  for (size_t i = 0; i < to.relevance.size(); i++)
    to.relevance[i] = x.data[i] * to.relevance[i] + absolute[i] * by_magnitude[i];
  return lost;
}

// y = (x - mean) / deviation * gamma + beta; relevance passes.
void layer_norm(const RuleCall& c, Flow& to) {
  const size_t n = static_cast<size_t>(c.node.cols);
  const float* gamma = c.weights.at(c.node.weight).data.data();
  to.relevance = c.flow.relevance;
  to.gradient.resize(c.flow.gradient.size());
  for (size_t row = 0; row < to.gradient.size(); row += n) {
    const float *x = c.in[0]->data.data() + row, *g = c.flow.gradient.data() + row;
    double mean = 0, squares = 0, along = 0, across = 0;
    for (size_t i = 0; i < n; i++) mean += x[i];
    mean /= static_cast<double>(n);
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) +
                                       static_cast<double>(c.graph.config.norm_eps));
    for (size_t i = 0; i < n; i++) {
      const double d = static_cast<double>(g[i]) * static_cast<double>(gamma[i]);
      across += d;
      along += d * (x[i] - mean) * scale;
    }
    across /= static_cast<double>(n);
    along /= static_cast<double>(n);
    for (size_t i = 0; i < n; i++)
      to.gradient[row + i] = static_cast<float>(
          scale * (static_cast<double>(g[i] * gamma[i]) - across - (x[i] - mean) * scale * along));
  }
}

void layer_scale(const RuleCall& c, Flow& to) {
  const Values& gamma = c.weights.at(c.node.weight).data;
  to = c.flow;
  for (size_t i = 0; i < to.gradient.size(); i++) to.gradient[i] *= gamma[i % gamma.size()];
}

// y = x Phi(x): y' = Phi(x) + x phi(x), with Phi = y / x from the forward pass.
void gelu(const RuleCall& c, Flow& to) {
  const Values& x = c.in[0]->data;
  const Values& y = c.out.data;
  to = c.flow;
  Values density(x.size());
  for (size_t i = 0; i < x.size(); i++) density[i] = -0.5f * x[i] * x[i];
  choose_kernels().exp(density.data(), static_cast<int64_t>(x.size()), density.data());
  for (size_t i = 0; i < x.size(); i++) {
    constexpr float kPeak = 0.3989422804f;  // phi(0)
    const float cdf = std::fabs(x[i]) > 1e-3f ? y[i] / x[i] : 0.5f + kPeak * x[i];
    to.gradient[i] *= cdf + x[i] * kPeak * density[i];
  }
}

// p = softmax(x): dx = p (g - sum p g); relevance passes.
void softmax(const RuleCall& c, Flow& to) {
  const size_t n = static_cast<size_t>(c.node.cols);
  to.relevance = c.flow.relevance;
  to.gradient.resize(c.flow.gradient.size());
  for (size_t row = 0; row < to.gradient.size(); row += n) {
    const float *p = c.out.data.data() + row, *g = c.flow.gradient.data() + row;
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += static_cast<double>(p[i]) * static_cast<double>(g[i]);
    for (size_t i = 0; i < n; i++) to.gradient[row + i] = p[i] * (g[i] - static_cast<float>(mean));
  }
}

// The heads of the windows of a qkv value, gathered and scattered as the reference engine does.
class Heads {
 public:
  explicit Heads(const AttentionGeometry& g, size_t qkv_cols) : g_(g), cols_(qkv_cols) {}

  int count() const { return g_.windows * g_.heads; }
  size_t size() const { return static_cast<size_t>(g_.tokens) * static_cast<size_t>(g_.head_dim); }

  // q, k or v (`part` 0, 1, 2) of head `i`, [tokens, head_dim], of a value like qkv.
  Values gather(const Values& qkv, int i, int part) const {
    Values out(size());
    for (int t = 0; t < g_.tokens; t++)
      std::copy_n(qkv.data() + at(i, t, part), g_.head_dim, out.data() + t * g_.head_dim);
    return out;
  }
  // The same of a kMix value [rows, heads * head_dim]; rows of padding are 0.
  Values gather_mix(const Values& mix, int i) const {
    Values out(size());
    for (int t = 0; t < g_.tokens; t++)
      if (const size_t from = mix_at(i, t); from < mix.size())
        std::copy_n(mix.data() + from, g_.head_dim, out.data() + t * g_.head_dim);
    return out;
  }
  void scatter(const Values& head, int i, int part, Values& qkv) const {  // adds: padding is shared
    for (int t = 0; t < g_.tokens; t++) {
      float* to = qkv.data() + at(i, t, part);
      const float* from = head.data() + t * g_.head_dim;
      for (int d = 0; d < g_.head_dim; d++) to[d] += from[d];
    }
  }

 private:
  size_t row(int i, int t) const {
    return static_cast<size_t>(g_.index[static_cast<size_t>(i / g_.heads * g_.tokens + t)]);
  }
  size_t at(int i, int t, int part) const {
    const auto column = static_cast<size_t>((part * g_.heads + i % g_.heads) * g_.head_dim);
    return row(i, t) * cols_ + column;
  }
  size_t mix_at(int i, int t) const {
    return row(i, t) * (cols_ / 3) + static_cast<size_t>(i % g_.heads * g_.head_dim);
  }

  const AttentionGeometry& g_;
  size_t cols_;
};

void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, double alpha,
              const double* a, const double* b, double beta, double* c) {
  cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, transpose_a ? m : k, b,
              transpose_b ? k : n, beta, c, n);
}

// C = A B; A is [m, k], B [k, n] or, transposed, [n, k].
template <class T>
struct Product {
  const std::vector<T>&a, &b;
  bool transpose_b;
  int m, n, k;

  void forward(std::vector<T>& c) const {
    c.resize(static_cast<size_t>(m) * static_cast<size_t>(n));
    multiply(false, transpose_b, m, n, k, T{1}, a.data(), b.data(), T{0}, c.data());
  }
  // flow [m, n] to A and to B (in B's own shape), scaled by alpha.
  void back(const T* flow, T alpha, std::vector<T>& to_a, std::vector<T>& to_b) const {
    to_a.resize(a.size());
    to_b.resize(b.size());
    multiply(false, !transpose_b, m, k, n, alpha, flow, b.data(), T{0}, to_a.data());
    if (transpose_b)
      multiply(true, false, n, k, m, alpha, flow, a.data(), T{0}, to_b.data());
    else
      multiply(true, false, k, n, m, alpha, a.data(), flow, T{0}, to_b.data());
  }
};

// S = safe(R, C), R_A = A (S B^T) / 2, R_B = B (A^T S) / 2. In double: an element of C may be the
// small difference of large terms, and dividing by it then multiplying by the terms again must give
// back what was divided.
void product_relevance(const Values& a, const Values& b, bool transpose_b, int m, int n, int k,
                       const float* relevance, Values& to_a, Values& to_b) {
  const std::vector<double> wide_a(a.begin(), a.end()), wide_b(b.begin(), b.end());
  const Product<double> product{wide_a, wide_b, transpose_b, m, n, k};
  std::vector<double> s, back_a, back_b;
  product.forward(s);
  for (size_t i = 0; i < s.size(); i++) s[i] = s[i] == 0 ? 0 : relevance[i] / (s[i] + 1e-9);
  product.back(s.data(), 0.5, back_a, back_b);
  to_a.resize(a.size());
  to_b.resize(b.size());
  for (size_t i = 0; i < a.size(); i++) to_a[i] = static_cast<float>(wide_a[i] * back_a[i]);
  for (size_t i = 0; i < b.size(); i++) to_b[i] = static_cast<float>(wide_b[i] * back_b[i]);
}

Values part_of(const Values& v, size_t at, size_t size) {
  const auto begin = v.begin() + static_cast<std::ptrdiff_t>(at);
  return {begin, begin + static_cast<std::ptrdiff_t>(size)};
}

// scale * Q K^T of every head, to the qkv value. The rule takes the product without the scale.
void scores(const RuleCall& c, Flow& to) {
  const AttentionGeometry& g = c.geometry();
  const Tensor& qkv = *c.in[0];
  const Heads heads(g, static_cast<size_t>(qkv.dims[2]));
  const size_t area = static_cast<size_t>(g.tokens) * static_cast<size_t>(g.tokens);
  to.relevance.assign(qkv.data.size(), 0);
  to.gradient.assign(qkv.data.size(), 0);
  Values to_q, to_k;
  for (int i = 0; i < heads.count(); i++) {
    const size_t at = static_cast<size_t>(i) * area;
    const Values q = heads.gather(qkv.data, i, 0), k = heads.gather(qkv.data, i, 1);
    product_relevance(q, k, true, g.tokens, g.tokens, g.head_dim, c.flow.relevance.data() + at,
                      to_q, to_k);
    heads.scatter(to_q, i, 0, to.relevance);
    heads.scatter(to_k, i, 1, to.relevance);
    const Product<float> product{q, k, true, g.tokens, g.tokens, g.head_dim};
    product.back(c.flow.gradient.data() + at, g.scale, to_q, to_k);
    heads.scatter(to_q, i, 0, to.gradient);
    heads.scatter(to_k, i, 1, to.gradient);
  }
}

// attn V of every head: to the softmax output, and to v of the qkv value.
void mix(const RuleCall& c, Flow& to_attention, Flow& to_qkv) {
  const AttentionGeometry& g = c.geometry();
  const Tensor &attention = *c.in[0], &qkv = *c.in[1];
  const Heads heads(g, static_cast<size_t>(qkv.dims[2]));
  const size_t area = static_cast<size_t>(g.tokens) * static_cast<size_t>(g.tokens);
  to_qkv.relevance.assign(qkv.data.size(), 0);
  to_qkv.gradient.assign(qkv.data.size(), 0);
  to_attention.relevance.resize(attention.data.size());
  to_attention.gradient.resize(attention.data.size());
  Values to_a, to_v;
  for (int i = 0; i < heads.count(); i++) {
    const auto at = static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * area);
    const Values a = part_of(attention.data, static_cast<size_t>(at), area);
    const Values v = heads.gather(qkv.data, i, 2);
    product_relevance(a, v, false, g.tokens, g.head_dim, g.tokens,
                      heads.gather_mix(c.flow.relevance, i).data(), to_a, to_v);
    std::copy(to_a.begin(), to_a.end(), to_attention.relevance.begin() + at);
    heads.scatter(to_v, i, 2, to_qkv.relevance);
    const Product<float> product{a, v, false, g.tokens, g.head_dim, g.tokens};
    product.back(heads.gather_mix(c.flow.gradient, i).data(), 1, to_a, to_v);
    std::copy(to_a.begin(), to_a.end(), to_attention.gradient.begin() + at);
    heads.scatter(to_v, i, 2, to_qkv.gradient);
  }
}

// S = safe(R, a + b), ra = a S, rb = b S, then scaled so that they carry all of R in the proportion
// |sum ra| : |sum rb|.
void add(const RuleCall& c, Flow& to_a, Flow& to_b) {
  const Values &a = c.in[0]->data, &b = c.in[1]->data;
  to_a.gradient = c.flow.gradient;
  for (float& g : to_a.gradient) g *= c.node.alpha;
  to_b.gradient = to_a.gradient;
  to_a.relevance.resize(a.size());
  to_b.relevance.resize(b.size());
  for (size_t i = 0; i < a.size(); i++) {
    const float s = safe_divide(c.flow.relevance[i], a[i] + b[i]);
    to_a.relevance[i] = a[i] * s;
    to_b.relevance[i] = b[i] * s;
  }
  const double sum_a = sum(to_a.relevance), sum_b = sum(to_b.relevance);
  const double both = std::fabs(sum_a) + std::fabs(sum_b), whole = sum(c.flow.relevance);
  auto scale = [&](Values& r, double part) {
    const float by =
        both > 0 && part != 0 ? static_cast<float>(std::fabs(part) / both * whole / part) : 0;
    for (float& x : r) x *= by;
  };
  scale(to_a.relevance, sum_a);
  scale(to_b.relevance, sum_b);
}

// Side by side 2x2 neighbours back to the map; what a map's padding received is dropped.
double merge(const RuleCall& c, Flow& to) {
  const int height = c.node.map_height, width = c.node.map_width;
  const size_t dim = static_cast<size_t>(c.in[0]->dims[2]);
  auto undo = [&](const Values& from, Values& map) {
    map.assign(c.in[0]->data.size(), 0);
    const float* at = from.data();
    for (int y = 0; y < height; y += 2)
      for (int x = 0; x < width; x += 2)
        for (int i = 0; i < 4; i++, at += dim) {
          const int row = y + i % 2, col = x + i / 2;
          if (row < height && col < width)
            std::copy_n(at, dim, map.data() + static_cast<size_t>(row * width + col) * dim);
        }
  };
  undo(c.flow.relevance, to.relevance);
  undo(c.flow.gradient, to.gradient);
  return sum(c.flow.relevance) - sum(to.relevance);
}

void select(const RuleCall& c, Flow& to) {
  const auto at = static_cast<std::ptrdiff_t>(c.node.select) * c.node.cols;
  to.relevance.assign(c.in[0]->data.size(), 0);
  to.gradient.assign(c.in[0]->data.size(), 0);
  std::copy(c.flow.relevance.begin(), c.flow.relevance.end(), to.relevance.begin() + at);
  std::copy(c.flow.gradient.begin(), c.flow.gradient.end(), to.gradient.begin() + at);
}

// R_i = x_i safe(R, mean) / n.
void mean(const RuleCall& c, Flow& to) {
  const Values& x = c.in[0]->data;
  const size_t cols = static_cast<size_t>(c.node.cols);
  const float n = static_cast<float>(x.size() / cols);
  const Values s = divided(c.flow.relevance, c.out.data.data());
  to.relevance.resize(x.size());
  to.gradient.resize(x.size());
  for (size_t i = 0; i < x.size(); i++) {
    to.relevance[i] = x[i] * s[i % cols] / n;
    to.gradient[i] = c.flow.gradient[i % cols] / n;
  }
}

}  // namespace

float safe_divide(float a, float b) {
  constexpr float kTiny = 1e-9f;
  if (b == 0) return 0;
  const float denominator = b + kTiny;
  return a / (denominator == 0 ? kTiny : denominator);
}

double propagate(const RuleCall& c, Flow (&to)[2]) {
  switch (c.node.kind) {
    case NodeKind::kLinear:
      return linear(c, to[0]);
    case NodeKind::kLayerNorm:
      layer_norm(c, to[0]);
      return 0;
    case NodeKind::kLayerScale:
      layer_scale(c, to[0]);
      return 0;
    case NodeKind::kScores:
      scores(c, to[0]);
      return 0;
    case NodeKind::kSoftmax:
      softmax(c, to[0]);
      return 0;
    case NodeKind::kMix:
      mix(c, to[0], to[1]);
      return 0;
    case NodeKind::kGelu:
      gelu(c, to[0]);
      return 0;
    case NodeKind::kAdd:
      add(c, to[0], to[1]);
      return 0;
    case NodeKind::kMerge:
      return merge(c, to[0]);
    case NodeKind::kSelect:
      select(c, to[0]);
      return 0;
    case NodeKind::kMean:
      mean(c, to[0]);
      return 0;
    case NodeKind::kPatches:
    case NodeKind::kTokens:
      break;
  }
  fail("node '", c.node.name, "' has no rule: the walk ends there");
}

void join(const Tensor& value, bool parts, Flow&& from, Flow& into) {
  if (into.empty()) {
    into = std::move(from);
    return;
  }
  for (size_t i = 0; i < value.data.size(); i++) {
    const float x = value.data[i];
    into.relevance[i] =
        parts ? into.relevance[i] + from.relevance[i]
              : x * (safe_divide(into.relevance[i], x) + safe_divide(from.relevance[i], x));
    into.gradient[i] += from.gradient[i];
  }
}

}  // namespace vitrun
