// Attention: scale Q K^T, softmax, attn V, by head and window.
#include <algorithm>
#include <cmath>

#include "runtime/float/blas.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

using Span = std::span<const float>;  // of a tensor or of Values

// Finds the columns of q, k or v in a value [rows, cols], and the rows of a window.
struct Operand {
  const AttentionGeometry& g;
  int64_t cols;
  int begin;     // column where the first head starts
  bool queries;  // rows of q instead of those of k and v

  int count() const { return queries ? g.queries : g.tokens; }
  size_t size() const { return static_cast<size_t>(count()) * static_cast<size_t>(g.head_dim); }
  int64_t offset(int window, int head, int t) const {
    const int64_t row =
        queries ? g.query_row(window, t) : at(g.index, int64_t{window} * g.tokens + t);
    return row * cols + begin + head * g.head_dim;
  }

  // The head of a window, [count, head_dim], of an image's value.
  void gather(const float* x, int window, int head, float* out) const {
    for (int t = 0; t < count(); t++)
      out = std::copy_n(x + offset(window, head, t), g.head_dim, out);
  }
  Values gather(Span x, int i) const {
    Values out(size());
    gather(x.data(), i / g.heads, i % g.heads, out.data());
    return out;
  }
  void scatter(const Values& head, int i, Values& to) const {  // adds: padding is shared
    for (int t = 0; t < count(); t++) {
      float* row = to.data() + offset(i / g.heads, i % g.heads, t);
      const float* from = head.data() + static_cast<std::ptrdiff_t>(t) * g.head_dim;
      for (int d = 0; d < g.head_dim; d++) row[d] += from[d];
    }
  }
  // The same of the result [rows, heads * head_dim], whose rows leave padding out: 0 there.
  Values gather_rows(Span x, int i) const {
    Values out(size(), 0);
    for (int t = 0; t < count(); t++)
      if (const auto from = static_cast<size_t>(offset(i / g.heads, i % g.heads, t));
          from < x.size())
        std::copy_n(x.data() + from, g.head_dim,
                    out.data() + static_cast<std::ptrdiff_t>(t) * g.head_dim);
    return out;
  }
};

Operand query_of(const AttentionGeometry& g, const Shape& q) {
  return {g, q.cols, g.query_begin, true};
}
Operand key_of(const AttentionGeometry& g, const Shape& k) {
  return {g, k.cols, g.key_begin, false};
}
Operand value_of(const AttentionGeometry& g, const Shape& v, const Node& mix) {
  return {g, v.cols, mix.whole(Attribute::kValueBegin), false};
}
Operand result_of(const AttentionGeometry& g) {
  return {g, int64_t{g.heads} * g.head_dim, 0, true};
}

// Calls body(image, group, window, head, scratch) for every head of every window, `floats` of
// scratch each thread.
template <class Body>
void for_each_head(const ForwardCall& c, int64_t floats, const Body& body) {
  const AttentionGeometry& g = c.geometry();
  const int64_t groups = int64_t{g.windows} * g.heads;
  parallel(c.pool, c.batch() * groups, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(floats));
    for (int64_t i = begin; i < end; i++) {
      const int window = static_cast<int>(i % groups / g.heads),
                head = static_cast<int>(i % g.heads);
      body(i / groups, i, window, head, scratch.data());
    }
  });
}

// A bias is added to the scores of a head of a window before the softmax.
struct ScoreBias {
  const AttentionGeometry& g;
  const float* table = nullptr;  // [relative positions, heads]
  const float* value = nullptr;  // [groups or 1, queries, tokens]
  bool by_group = false;

  float at_pair(int64_t group, int head, int a, int b) const {
    const int64_t pair = int64_t{a} * g.tokens + b;
    if (table) return table[at(g.bias_index, pair) * g.heads + head];
    return value[(by_group ? group * g.queries * g.tokens : 0) + pair];
  }
  bool any() const { return table || value; }
};

// Bias and mask of row `a`, then softmax, of one head of one window.
void softmax_row(const Kernels& kernels, const ScoreBias& bias, int64_t group, int window, int head,
                 int a, const float* x, float* y) {
  const AttentionGeometry& g = bias.g;
  const int t = g.tokens, visible = g.causal ? a + 1 : t;
  const uint8_t* region = g.region.empty() ? nullptr : g.region.data() + int64_t{window} * t;
  float top = -INFINITY;
  for (int b = 0; b < visible; b++) {
    y[b] = x[b];
    if (bias.any()) y[b] += bias.at_pair(group, head, a, b);
    if (region && region[a] != region[b]) y[b] -= 100;
    top = std::max(top, y[b]);
  }
  double sum = 0;
  for (int b = 0; b < visible; b++) y[b] -= top;
  kernels.exp(y, visible, y);
  for (int b = 0; b < visible; b++) sum += y[b];
  const float scale = static_cast<float>(1 / sum);
  for (int b = 0; b < visible; b++) y[b] *= scale;
  std::fill(y + visible, y + t, 0.f);
}

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
// 1/256 of |a| |b| it is summed again in double, and S errs by less than 2e-4 everywhere. With an
// epsilon it is damped instead, the size of the terms being |a| |b| / sqrt(k).
Values quotient(const Product& p, const float* relevance, const Values& product, float epsilon) {
  const size_t depth = static_cast<size_t>(p.k), n = static_cast<size_t>(p.n);
  const Values swapped = p.transpose_b ? Values() : transposed(p.b, p.k, p.n);
  const Values& b = p.transpose_b ? p.b : swapped;
  const Values a_norms = row_norms(p.a, depth), b_norms = row_norms(b, depth);
  Values s(product.size());
  if (epsilon > 0) {
    const float part = epsilon / std::sqrt(static_cast<float>(p.k));
    for (size_t i = 0, at = 0; i < a_norms.size(); i++)
      for (size_t j = 0; j < n; j++, at++)
        s[at] = damped_divide(relevance[at], product[at], part * a_norms[i] * b_norms[j]);
    return s;
  }
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

// R_A = A (S B^T) / 2, R_B = B (A^T S) / 2. Returns the relevance that reaches neither: that of
// products that are 0, as those with padding's cosines, and with an epsilon a part of all.
double product_relevance(const Product& p, const float* relevance, const Values& product,
                         float epsilon, Values& to_a, Values& to_b) {
  const Values s = quotient(p, relevance, product, epsilon);
  double lost = 0;
  for (size_t i = 0; i < s.size(); i++)
    if (epsilon > 0 || s[i] == 0) lost += double{relevance[i]} - double{s[i]} * double{product[i]};
  p.back(s.data(), 0.5f, to_a, to_b);
  for (size_t i = 0; i < to_a.size(); i++) to_a[i] *= p.a[i];
  for (size_t i = 0; i < to_b.size(); i++) to_b[i] *= p.b[i];
  return lost;
}

Values part_of(Span v, size_t at, size_t size) {
  const Span part = v.subspan(at, size);
  return {part.begin(), part.end()};
}

size_t area_of(const AttentionGeometry& g) {
  return static_cast<size_t>(g.queries) * static_cast<size_t>(g.tokens);
}

void clear(Flow& flow, size_t size, bool relevant) {
  if (relevant) flow.relevance.assign(size, 0);
  flow.gradient.assign(size, 0);
}

}  // namespace

void forward_scores(const ForwardCall& c) {
  const AttentionGeometry& g = c.geometry();
  const Operand query = query_of(g, c.shape_of(0)), key = key_of(g, c.shape_of(1));
  const int64_t q_size = c.shape_of(0).size(), k_size = c.shape_of(1).size();
  const int d = g.head_dim;
  for_each_head(c, (int64_t{g.queries} + g.tokens) * d,
                [&](int64_t image, int64_t group, int window, int head, float* q) {
                  float* k = q + int64_t{g.queries} * d;
                  query.gather(c.in[0]->data.data() + image * q_size, window, head, q);
                  key.gather(c.in[1]->data.data() + image * k_size, window, head, k);
                  blas().sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, g.queries, g.tokens, d,
                               g.scale, q, d, k, d, 0.f,
                               c.y.data.data() + group * g.queries * g.tokens, g.tokens);
                });
}

// scale * Q K^T of every head, to q and k. The rule takes the product without the scale.
double backward_scores(const BackwardCall& c, Flows& to) {
  const AttentionGeometry& g = c.geometry();
  const Operand query = query_of(g, c.shape_of(0)), key = key_of(g, c.shape_of(1));
  const bool one_value = c.node().in[0] == c.node().in[1], relevant = c.flow.relevant();
  Flow &to_query = to[0], &to_key = one_value ? to[0] : to[1];
  clear(to_query, c.in[0]->data.size(), relevant);
  if (!one_value) clear(to_key, c.in[1]->data.size(), relevant);
  Values to_q, to_k;
  double lost = 0;
  for (int i = 0; i < g.windows * g.heads; i++) {
    const size_t at = static_cast<size_t>(i) * area_of(g);
    const Values q = query.gather(c.in[0]->data, i), k = key.gather(c.in[1]->data, i);
    const Product product{q, k, true, g.queries, g.tokens, g.head_dim};
    if (relevant) {
      Values unscaled = part_of(c.out.data, at, area_of(g));
      for (float& x : unscaled) x /= g.scale;
      lost +=
          product_relevance(product, c.flow.relevance.data() + at, unscaled, c.epsilon, to_q, to_k);
      query.scatter(to_q, i, to_query.relevance);
      key.scatter(to_k, i, to_key.relevance);
    }
    product.back(c.flow.gradient.data() + at, g.scale, to_q, to_k);
    query.scatter(to_q, i, to_query.gradient);
    key.scatter(to_k, i, to_key.gradient);
  }
  return lost;
}

void forward_softmax(const ForwardCall& c) {
  const AttentionGeometry& g = c.geometry();
  ScoreBias bias{g, c.param(c.node().weight)};
  if (c.in.size() == 2) {
    bias.value = c.in[1]->data.data();
    bias.by_group = c.shape_of(1).groups > 1;
  }
  const int64_t groups = int64_t{g.windows} * g.heads;
  for_each_head(c, 0, [&](int64_t, int64_t group, int window, int head, float*) {
    for (int a = 0; a < g.queries; a++) {
      const int64_t at = (group * g.queries + a) * g.tokens;
      softmax_row(c.kernels, bias, group % groups, window, head, a, c.in[0]->data.data() + at,
                  c.y.data.data() + at);
    }
  });
}

// p = softmax(x): dx = p (g - sum p g); relevance passes.
double backward_softmax(const BackwardCall& c, Flows& to) {
  const size_t n = static_cast<size_t>(c.shape().cols);
  to[0] = std::move(c.flow);
  for (size_t row = 0; row < to[0].gradient.size(); row += n) {
    const float* p = c.out.data.data() + row;
    float* g = to[0].gradient.data() + row;
    const float mean = static_cast<float>(sum_of(n, [&](size_t i) { return p[i] * g[i]; }));
    for (size_t i = 0; i < n; i++) g[i] = p[i] * (g[i] - mean);
  }
  return 0;
}

void forward_mix(const ForwardCall& c) {
  const AttentionGeometry& g = c.geometry();
  const Operand value = value_of(g, c.shape_of(1), c.node()), result = result_of(g);
  const int64_t v_size = c.shape_of(1).size(), y_size = c.shape().size();
  const int d = g.head_dim;
  for_each_head(c, (int64_t{g.queries} + g.tokens) * d,
                [&](int64_t image, int64_t group, int window, int head, float* v) {
                  float* out = v + int64_t{g.tokens} * d;
                  value.gather(c.in[1]->data.data() + image * v_size, window, head, v);
                  blas().sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, g.queries, d, g.tokens,
                               1.f, c.in[0]->data.data() + group * g.queries * g.tokens, g.tokens,
                               v, d, 0.f, out, d);
                  for (int a = 0; a < g.queries; a++)
                    if (const int64_t to = result.offset(window, head, a);
                        to < y_size)  // not padding
                      std::copy_n(out + int64_t{a} * d, d, c.y.data.data() + image * y_size + to);
                });
}

// attn V of every head: to the softmax output, and to v.
double backward_mix(const BackwardCall& c, Flows& to) {
  const AttentionGeometry& g = c.geometry();
  const Tensor &attention = *c.in[0], &v_value = *c.in[1];
  const Operand value = value_of(g, c.shape_of(1), c.node()), result = result_of(g);
  const bool relevant = c.flow.relevant();
  Flow &to_attention = to[0], &to_value = to[1];
  clear(to_value, v_value.data.size(), relevant);
  if (relevant) to_attention.relevance.resize(attention.data.size());
  to_attention.gradient.resize(attention.data.size());
  Values to_a, to_v;
  double lost = 0;
  for (int i = 0; i < g.windows * g.heads; i++) {
    const auto at = static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * area_of(g));
    const Values a = part_of(attention.data, static_cast<size_t>(at), area_of(g));
    const Values v = value.gather(v_value.data, i);
    const Product product{a, v, false, g.queries, g.head_dim, g.tokens};
    if (relevant) {
      lost += product_relevance(product, result.gather_rows(c.flow.relevance, i).data(),
                                result.gather_rows(c.out.data, i), c.epsilon, to_a, to_v);
      std::copy(to_a.begin(), to_a.end(), to_attention.relevance.begin() + at);
      value.scatter(to_v, i, to_value.relevance);
    }
    product.back(result.gather_rows(c.flow.gradient, i).data(), 1, to_a, to_v);
    std::copy(to_a.begin(), to_a.end(), to_attention.gradient.begin() + at);
    value.scatter(to_v, i, to_value.gradient);
  }
  return lost;
}

}  // namespace vitrun
