#include "quant/rewrite/rotate.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "quant/rewrite/fold.h"

namespace vitrun {
namespace {

// [n, n], orthogonal.
struct Rotation {
  int n;
  std::vector<double> q;

  double* row(int i) { return &q[static_cast<size_t>(i) * static_cast<size_t>(n)]; }
};

// Gaussian rows, each made orthogonal to those before, twice for rounding's sake.
Rotation random_rotation(int n, std::mt19937_64& random) {
  std::normal_distribution<double> gauss;
  Rotation r{n, std::vector<double>(static_cast<size_t>(n) * static_cast<size_t>(n))};
  for (double& x : r.q) x = gauss(random);
  for (int i = 0; i < n; i++)
    for (int pass = 0; pass < 2; pass++) {
      for (int before = 0; before < i; before++)
        cblas_daxpy(n, -cblas_ddot(n, r.row(i), 1, r.row(before), 1), r.row(before), 1, r.row(i),
                    1);
      cblas_dscal(n, 1 / cblas_dnrm2(n, r.row(i), 1), r.row(i), 1);
    }
  return r;
}

// P diag(1, R) P with P = I - 2 u u^T / |u|^2 the reflection that exchanges e_0 and 1 / sqrt n.
Rotation mean_preserving_rotation(int n, std::mt19937_64& random) {
  Rotation r = random_rotation(n - 1, random);
  Rotation out{n, std::vector<double>(static_cast<size_t>(n) * static_cast<size_t>(n))};
  out.q[0] = 1;
  for (int i = 1; i < n; i++) std::copy_n(r.row(i - 1), n - 1, out.row(i) + 1);
  std::vector<double> u(static_cast<size_t>(n), -1 / std::sqrt(n)), product(u.size());
  u[0] += 1;
  const double factor = -2 / cblas_ddot(n, u.data(), 1, u.data(), 1);
  double* q = out.q.data();
  cblas_dgemv(CblasRowMajor, CblasNoTrans, n, n, 1, q, n, u.data(), 1, 0, product.data(), 1);
  cblas_dger(CblasRowMajor, n, n, factor, product.data(), 1, u.data(), 1, q, n);
  cblas_dgemv(CblasRowMajor, CblasTrans, n, n, 1, q, n, u.data(), 1, 0, product.data(), 1);
  cblas_dger(CblasRowMajor, n, n, factor, u.data(), 1, product.data(), 1, q, n);
  return out;
}

// Every row of x [.., n] to Q row.
void rotate_vectors(const Rotation& r, std::vector<float>& x) {
  const int m = static_cast<int>(x.size()) / r.n;
  const std::vector<double> in(x.begin(), x.end());
  std::vector<double> out(x.size());
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, r.n, r.n, 1, in.data(), r.n, r.q.data(),
              r.n, 0, out.data(), r.n);
  std::transform(out.begin(), out.end(), x.begin(), [](double v) { return static_cast<float>(v); });
}

// Rows first .. first + n of w [.., k] to Q times them.
void rotate_rows(const Rotation& r, std::vector<float>& w, size_t k, size_t first) {
  const auto begin = w.begin() + static_cast<std::ptrdiff_t>(first * k);
  const std::vector<double> in(begin, begin + static_cast<std::ptrdiff_t>(k) * r.n);
  std::vector<double> out(in.size());
  const int cols = static_cast<int>(k);
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, r.n, cols, r.n, 1, r.q.data(), r.n,
              in.data(), cols, 0, out.data(), cols);
  std::transform(out.begin(), out.end(), begin, [](double v) { return static_cast<float>(v); });
}

// The n outputs of a Linear from row `first` on.
void rotate_outputs(const Rotation& r, FloatModel& model, const Node& linear, size_t first) {
  Tensor& w = model.weights.at(linear.weight);
  rotate_rows(r, w.data, w.data.size() / static_cast<size_t>(linear.cols), first);
  if (!linear.bias.empty()) rotate_rows(r, model.weights.at(linear.bias).data, 1, first);
}

// W (gamma z + beta) + b = (W gamma) z + (b + W beta).
void absorb_norm(FloatModel& model, const Node& norm, int linear) {
  ensure_bias(model, linear);
  const Node& n = model.graph.nodes[static_cast<size_t>(linear)];
  const std::vector<float>&gamma = model.weights.at(norm.weight).data,
        &beta = model.weights.at(norm.bias).data;
  Tensor &w = model.weights.at(n.weight), &b = model.weights.at(n.bias);
  const size_t k = gamma.size();
  for (size_t row = 0; row < b.data.size(); row++) {
    double moved = 0;
    for (size_t i = 0; i < k; i++) {
      moved += double{w.data[row * k + i]} * double{beta[i]};
      w.data[row * k + i] *= gamma[i];
    }
    b.data[row] = static_cast<float>(b.data[row] + moved);
  }
}

// The LayerNorm whose output a Linear reads, through the choice or mean of tokens; -1: none.
int norm_before(const Graph& graph, int linear) {
  int at = graph.nodes[static_cast<size_t>(linear)].in[0];
  const auto kind = [&] { return graph.nodes[static_cast<size_t>(at)].kind; };
  while (kind() == NodeKind::kSelect || kind() == NodeKind::kMean)
    at = graph.nodes[static_cast<size_t>(at)].in[0];
  return kind() == NodeKind::kLayerNorm ? at : -1;
}

// What reads the stream: W LayerNorm(x) = (W Q^T) LayerNorm(Q x).
void rotate_readers(const Rotation& r, FloatModel& model) {
  const std::vector<Node>& nodes = model.graph.nodes;
  for (size_t i = 0; i < nodes.size(); i++) {
    if (nodes[i].kind != NodeKind::kLinear) continue;
    const int norm = norm_before(model.graph, static_cast<int>(i));
    if (norm < 0) continue;
    absorb_norm(model, nodes[static_cast<size_t>(norm)], static_cast<int>(i));
    rotate_vectors(r, model.weights.at(nodes[i].weight).data);
  }
  for (const Node& n : nodes) {
    if (n.kind != NodeKind::kLayerNorm) continue;
    std::ranges::fill(model.weights.at(n.weight).data, 1.f);
    std::ranges::fill(model.weights.at(n.bias).data, 0.f);
  }
}

// What is added into it: patch embedding, tokens and positions, proj and fc2.
void rotate_writers(const Rotation& r, FloatModel& model) {
  const std::vector<Node>& nodes = model.graph.nodes;
  for (const Node& n : nodes) {
    if (n.kind != NodeKind::kTokens && (n.kind != NodeKind::kAdd || n.alpha != 1)) continue;
    for (int in : n.in)
      if (in >= 0 && nodes[static_cast<size_t>(in)].kind == NodeKind::kLinear)
        rotate_outputs(r, model, nodes[static_cast<size_t>(in)], 0);
    if (n.kind == NodeKind::kTokens) rotate_vectors(r, model.weights.at(n.weight).data);
  }
  for (const char* token : {"cls_token", "dist_token"})
    if (const auto t = model.weights.find(token); t != model.weights.end())
      rotate_vectors(r, t->second.data);
}

}  // namespace

void rotate_residual(FloatModel& model) {
  if (model.config.family != Family::kVit) return;
  std::mt19937_64 random(1);
  const Rotation r = mean_preserving_rotation(model.config.embed_dim, random);
  rotate_readers(r, model);
  rotate_writers(r, model);
}

void rotate_scores(FloatModel& model) {
  std::mt19937_64 random(2);
  for (const Node& n : model.graph.nodes) {
    if (n.kind != NodeKind::kScores) continue;
    const AttentionGeometry& g = model.graph.attention[static_cast<size_t>(n.attention)];
    const Node& qkv = model.graph.nodes[static_cast<size_t>(n.in[0])];
    for (int head = 0; head < g.heads; head++) {
      const Rotation r = random_rotation(g.head_dim, random);
      for (int part : {0, 1})
        rotate_outputs(r, model, qkv, static_cast<size_t>((part * g.heads + head) * g.head_dim));
    }
  }
}

}  // namespace vitrun
