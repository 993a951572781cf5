#include "lrp/walk/rules.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

using Span = std::span<const float>;  // of a tensor or of Values

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
double divide_by_positive(const RuleCall& c, const float* bias, int rows, float* z) {
  const size_t n = static_cast<size_t>(c.node.cols);
  const float *y = c.out.data.data(), *relevance = c.flow.relevance.data();
  double lost = 0;
  for (int row = 0; row < rows; row++, z += n, y += n, relevance += n) {
    float lost_here = 0;
    for (size_t j = 0; j < n; j++) {
      const float positive = 0.5f * (y[j] - (bias ? bias[j] : 0) + z[j]);
      // Below the rounding of its terms Z is 0.
      const bool none = positive <= 1e-6f * z[j];
      const float s = safe_divide(relevance[j], positive);
      lost_here += none ? relevance[j] : 0;
      z[j] = none ? 0 : s;
    }
    lost += static_cast<double>(lost_here);
  }
  return lost;
}

// The rows up to the last in which anything flows: behind the class token it is only the first.
int live_rows(const Flow& flow, int rows, size_t cols) {
  const auto quiet = [&](size_t row) {
    const auto zero = [](float v) { return v == 0; };
    const auto at = static_cast<std::ptrdiff_t>(row * cols),
               end = at + static_cast<std::ptrdiff_t>(cols);
    return std::all_of(flow.gradient.begin() + at, flow.gradient.begin() + end, zero) &&
           (!flow.relevant() ||
            std::all_of(flow.relevance.begin() + at, flow.relevance.begin() + end, zero));
  };
  while (rows > 1 && quiet(static_cast<size_t>(rows) - 1)) rows--;
  return rows;
}

// y = x W^T + b. With the positive and negative parts of x and W,
//   Z = x+ W+^T + x- W-^T = (y - b + |x| |W|^T) / 2,  S = safe(R, Z),
//   R_in = x+ (S W+) + x- (S W-) = (x (S W) + |x| (S |W|)) / 2:
// three products instead of four, since x W^T is known from the forward pass, and the gradient's
// with W in one with S W.
double linear(const RuleCall& c, Flow& to) {
  const Tensor& x = *c.in[0];
  const int n = c.node.cols, k = static_cast<int>(x.dims[2]);
  const int m = live_rows(c.flow, static_cast<int>(x.dims[1]), static_cast<size_t>(n));
  const size_t live = static_cast<size_t>(m) * static_cast<size_t>(k);
  const size_t live_out = static_cast<size_t>(m) * static_cast<size_t>(n);
  const float* w = c.weights.at(c.node.weight).data.data();
  to.gradient.resize(x.data.size());
  std::fill(to.gradient.begin() + static_cast<std::ptrdiff_t>(live), to.gradient.end(), 0.f);
  if (!c.flow.relevant()) {
    multiply(false, false, m, k, n, 1, c.flow.gradient.data(), w, 0, to.gradient.data());
    return 0;
  }
  const float* magnitude = c.magnitudes.at(c.node.weight).data.data();
  const float* bias = c.node.bias.empty() ? nullptr : c.weights.at(c.node.bias).data.data();

  Values absolute(live), both(2 * live_out), back(2 * live);  // S, then the gradient
  for (size_t i = 0; i < live; i++) absolute[i] = std::fabs(x.data[i]);
  multiply(false, true, m, n, k, 1, absolute.data(), magnitude, 0, both.data());
  const double lost = divide_by_positive(c, bias, m, both.data());
  std::copy_n(c.flow.gradient.data(), live_out, both.data() + live_out);
  multiply(false, false, 2 * m, k, n, 1, both.data(), w, 0, back.data());

  to.relevance.resize(x.data.size());
  std::fill(to.relevance.begin() + static_cast<std::ptrdiff_t>(live), to.relevance.end(), 0.f);
  multiply(false, false, m, k, n, 1, both.data(), magnitude, 0, to.relevance.data());
  for (size_t i = 0; i < live; i++)
    to.relevance[i] = 0.5f * (x.data[i] * back[i] + absolute[i] * to.relevance[i]);
  std::copy_n(back.data() + live, live, to.gradient.data());
  return lost;
}

// y = (x - mean) / deviation * gamma + beta; relevance passes.
void layer_norm(const RuleCall& c, Flow& to) {
  const size_t n = static_cast<size_t>(c.node.cols);
  const float* gamma = c.weights.at(c.node.weight).data.data();
  to.relevance = std::move(c.flow.relevance);
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
  const std::vector<float>& gamma = c.weights.at(c.node.weight).data;
  to = std::move(c.flow);
  for (size_t i = 0; i < to.gradient.size(); i++) to.gradient[i] *= gamma[i % gamma.size()];
}

// y = x Phi(x): y' = Phi(x) + x phi(x), with Phi = y / x from the forward pass; 0 at the limit.
void gelu(const RuleCall& c, Flow& to) {
  const Span x = c.in[0]->data, y = c.out.data;
  to = std::move(c.flow);
  Values density(x.size());
  for (size_t i = 0; i < x.size(); i++) density[i] = -0.5f * x[i] * x[i];
  choose_kernels().exp(density.data(), static_cast<int64_t>(x.size()), density.data());
  for (size_t i = 0; i < x.size(); i++) {
    constexpr float kPeak = 0.3989422804f;  // phi(0)
    const float cdf = std::fabs(x[i]) > 1e-3f ? y[i] / x[i] : 0.5f + kPeak * x[i];
    to.gradient[i] *= y[i] < c.node.limit ? cdf + x[i] * kPeak * density[i] : 0;
  }
}

// p = softmax(x): dx = p (g - sum p g); relevance passes.
void softmax(const RuleCall& c, Flow& to) {
  const size_t n = static_cast<size_t>(c.node.cols);
  to = std::move(c.flow);
  for (size_t row = 0; row < to.gradient.size(); row += n) {
    const float* p = c.out.data.data() + row;
    float* g = to.gradient.data() + row;
    const float mean = static_cast<float>(sum_of(n, [&](size_t i) { return p[i] * g[i]; }));
    for (size_t i = 0; i < n; i++) g[i] = p[i] * (g[i] - mean);
  }
}

// The heads of the windows of a qkv value, gathered and scattered as the reference engine does.
class Heads {
 public:
  explicit Heads(const AttentionGeometry& g, size_t qkv_cols) : g_(g), cols_(qkv_cols) {}

  int count() const { return g_.windows * g_.heads; }
  size_t size() const { return static_cast<size_t>(g_.tokens) * static_cast<size_t>(g_.head_dim); }

  // q, k or v (`part` 0, 1, 2) of head `i`, [tokens, head_dim], of a value like qkv.
  Values gather(Span qkv, int i, int part) const {
    Values out(size());
    for (int t = 0; t < g_.tokens; t++)
      std::copy_n(qkv.data() + at(i, t, part), g_.head_dim, out.data() + t * g_.head_dim);
    return out;
  }
  // The same of a kMix value [rows, heads * head_dim]; rows of padding are 0.
  Values gather_mix(Span mix, int i) const {
    Values out(size(), 0);
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

// C = A B of one head; A is [m, k], B [k, n] or, transposed, [n, k].
struct Product {
  const Values &a, &b;
  bool transpose_b;
  int m, n, k;

  // flow [m, n] to A and to B (in B's own shape), scaled by alpha.
  void back(const float* flow, float alpha, Values& to_a, Values& to_b) const {
    to_a.resize(a.size());
    to_b.resize(b.size());
    multiply(false, !transpose_b, m, k, n, alpha, flow, b.data(), 0, to_a.data());
    if (transpose_b)
      multiply(true, false, n, k, m, alpha, flow, a.data(), 0, to_b.data());
    else
      multiply(true, false, k, n, m, alpha, a.data(), flow, 0, to_b.data());
  }
};

// B [k, n] as [n, k].
Values transposed(const Values& b, int k, int n) {
  Values out(b.size());
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++)
      out[static_cast<size_t>(j * k + i)] = b[static_cast<size_t>(i * n + j)];
  return out;
}

Values row_norms(const Values& v, size_t depth) {
  Values norms(v.size() / depth);
  for (size_t r = 0; r < norms.size(); r++) {
    const float* row = v.data() + r * depth;
    norms[r] =
        std::sqrt(static_cast<float>(sum_of(depth, [&](size_t i) { return row[i] * row[i]; })));
  }
  return norms;
}

// S = safe(R, C), C the forward pass's product in float. Where it is small beside its terms, what
// is left of them is rounding: a depth k errs by about sqrt(k) 2^-24 |a| |b|, so below
// 1/256 of |a| |b| it is summed again in double, and S errs by less than 2e-4 everywhere.
Values quotient(const Product& p, const float* relevance, const Values& product) {
  const size_t depth = static_cast<size_t>(p.k), n = static_cast<size_t>(p.n);
  const Values swapped = p.transpose_b ? Values() : transposed(p.b, p.k, p.n);
  const Values& b = p.transpose_b ? p.b : swapped;
  const Values a_norms = row_norms(p.a, depth), b_norms = row_norms(b, depth);
  Values s(product.size());
  for (size_t i = 0; i < s.size(); i++) s[i] = safe_divide(relevance[i], product[i]);
  for (size_t i = 0; i < a_norms.size(); i++)
    for (size_t j = 0; j < n; j++) {
      const size_t at = i * n + j;
      if (std::fabs(product[at]) * 256 >= a_norms[i] * b_norms[j]) continue;
      const float *x = p.a.data() + i * depth, *y = b.data() + j * depth;
      const double c = sum_of(
          depth, [&](size_t l) { return static_cast<double>(x[l]) * static_cast<double>(y[l]); });
      s[at] = c == 0 ? 0 : static_cast<float>(static_cast<double>(relevance[at]) / (c + 1e-9));
    }
  return s;
}

// R_A = A (S B^T) / 2, R_B = B (A^T S) / 2.
void product_relevance(const Product& p, const float* relevance, const Values& product,
                       Values& to_a, Values& to_b) {
  p.back(quotient(p, relevance, product).data(), 0.5f, to_a, to_b);
  for (size_t i = 0; i < to_a.size(); i++) to_a[i] *= p.a[i];
  for (size_t i = 0; i < to_b.size(); i++) to_b[i] *= p.b[i];
}

Values part_of(Span v, size_t at, size_t size) {
  const Span part = v.subspan(at, size);
  return {part.begin(), part.end()};
}

// scale * Q K^T of every head, to the qkv value. The rule takes the product without the scale.
void scores(const RuleCall& c, Flow& to) {
  const AttentionGeometry& g = c.geometry();
  const Tensor& qkv = *c.in[0];
  const Heads heads(g, static_cast<size_t>(qkv.dims[2]));
  const size_t area = static_cast<size_t>(g.tokens) * static_cast<size_t>(g.tokens);
  if (c.flow.relevant()) to.relevance.assign(qkv.data.size(), 0);
  to.gradient.assign(qkv.data.size(), 0);
  Values to_q, to_k;
  for (int i = 0; i < heads.count(); i++) {
    const size_t at = static_cast<size_t>(i) * area;
    const Values q = heads.gather(qkv.data, i, 0), k = heads.gather(qkv.data, i, 1);
    const Product product{q, k, true, g.tokens, g.tokens, g.head_dim};
    if (c.flow.relevant()) {
      Values unscaled = part_of(c.out.data, at, area);
      for (float& x : unscaled) x /= g.scale;
      product_relevance(product, c.flow.relevance.data() + at, unscaled, to_q, to_k);
      heads.scatter(to_q, i, 0, to.relevance);
      heads.scatter(to_k, i, 1, to.relevance);
    }
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
  if (c.flow.relevant()) {
    to_qkv.relevance.assign(qkv.data.size(), 0);
    to_attention.relevance.resize(attention.data.size());
  }
  to_qkv.gradient.assign(qkv.data.size(), 0);
  to_attention.gradient.resize(attention.data.size());
  Values to_a, to_v;
  for (int i = 0; i < heads.count(); i++) {
    const auto at = static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * area);
    const Values a = part_of(attention.data, static_cast<size_t>(at), area);
    const Values v = heads.gather(qkv.data, i, 2);
    const Product product{a, v, false, g.tokens, g.head_dim, g.tokens};
    if (c.flow.relevant()) {
      product_relevance(product, heads.gather_mix(c.flow.relevance, i).data(),
                        heads.gather_mix(c.out.data, i), to_a, to_v);
      std::copy(to_a.begin(), to_a.end(), to_attention.relevance.begin() + at);
      heads.scatter(to_v, i, 2, to_qkv.relevance);
    }
    product.back(heads.gather_mix(c.flow.gradient, i).data(), 1, to_a, to_v);
    std::copy(to_a.begin(), to_a.end(), to_attention.gradient.begin() + at);
    heads.scatter(to_v, i, 2, to_qkv.gradient);
  }
}

// S = safe(R, a + b), ra = a S, rb = b S, then scaled so that they carry all of R in the proportion
// |sum ra| : |sum rb|.
void add(const RuleCall& c, Flow& to_a, Flow& to_b) {
  const Span a = c.in[0]->data, b = c.in[1]->data;
  to_a.gradient = std::move(c.flow.gradient);
  for (float& g : to_a.gradient) g *= c.node.alpha;
  to_b.gradient = to_a.gradient;
  if (!c.flow.relevant()) return;
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
  undo(c.flow.gradient, to.gradient);
  if (!c.flow.relevant()) return 0;
  undo(c.flow.relevance, to.relevance);
  return sum(c.flow.relevance) - sum(to.relevance);
}

void select(const RuleCall& c, Flow& to) {
  const auto at = static_cast<std::ptrdiff_t>(c.node.select) * c.node.cols;
  to.gradient.assign(c.in[0]->data.size(), 0);
  std::copy(c.flow.gradient.begin(), c.flow.gradient.end(), to.gradient.begin() + at);
  if (!c.flow.relevant()) return;
  to.relevance.assign(c.in[0]->data.size(), 0);
  std::copy(c.flow.relevance.begin(), c.flow.relevance.end(), to.relevance.begin() + at);
}

// R_i = x_i safe(R, mean) / n.
void mean(const RuleCall& c, Flow& to) {
  const Span x = c.in[0]->data;
  const size_t cols = static_cast<size_t>(c.node.cols);
  const float n = static_cast<float>(x.size() / cols);
  to.gradient.resize(x.size());
  for (size_t i = 0; i < x.size(); i++) to.gradient[i] = c.flow.gradient[i % cols] / n;
  if (!c.flow.relevant()) return;
  const Values s = divided(c.flow.relevance, c.out.data.data());
  to.relevance.resize(x.size());
  for (size_t i = 0; i < x.size(); i++) to.relevance[i] = x[i] * s[i % cols] / n;
}

}  // namespace

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
  for (size_t i = 0; i < into.gradient.size(); i++) into.gradient[i] += from.gradient[i];
  for (size_t i = 0; i < into.relevance.size(); i++) {
    const float x = value.data[i];
    into.relevance[i] =
        parts ? into.relevance[i] + from.relevance[i]
              : x * (safe_divide(into.relevance[i], x) + safe_divide(from.relevance[i], x));
  }
}

}  // namespace vitrun
