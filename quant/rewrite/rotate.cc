#include "quant/rewrite/rotate.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "models/graph/rewrite.h"
#include "quant/rewrite/fold.h"

namespace vitrun {
namespace {

// An orthogonal matrix q [n, n].
struct Rotation {
  int n;
  std::vector<double> q;

  double* row(int i) { return q.data() + int64_t{i} * n; }
};

// Draws Gaussian rows and makes each orthogonal to those before it (Gram-Schmidt), twice because of
// rounding errors.
Rotation random_rotation(int n, std::mt19937_64& random) {
  std::normal_distribution<double> gauss;
  Rotation r{n, std::vector<double>(array_size(n, n))};
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

// Q = P diag(1, R) P with Q 1 = 1, where P = I - 2 u u^T / |u|^2 is the reflection that exchanges
// e_0 and the vector of 1 / sqrt(n) (method.md section 13).
Rotation mean_preserving_rotation(int n, std::mt19937_64& random) {
  Rotation r = random_rotation(n - 1, random);
  Rotation out{n, std::vector<double>(array_size(n, n))};
  out.q[0] = 1;
  for (int i = 1; i < n; i++) std::copy_n(r.row(i - 1), n - 1, out.row(i) + 1);
  std::vector<double> u(array_size(n), -1 / std::sqrt(n)), product(u.size());
  u[0] += 1;
  const double factor = -2 / cblas_ddot(n, u.data(), 1, u.data(), 1);
  double* q = out.q.data();
  cblas_dgemv(CblasRowMajor, CblasNoTrans, n, n, 1, q, n, u.data(), 1, 0, product.data(), 1);
  cblas_dger(CblasRowMajor, n, n, factor, product.data(), 1, u.data(), 1, q, n);
  cblas_dgemv(CblasRowMajor, CblasTrans, n, n, 1, q, n, u.data(), 1, 0, product.data(), 1);
  cblas_dger(CblasRowMajor, n, n, factor, u.data(), 1, product.data(), 1, q, n);
  return out;
}

// Replaces every row of x [.., n] by Q row.
void rotate_vectors(const Rotation& r, std::vector<float>& x) {
  const int m = static_cast<int>(x.size()) / r.n;
  const std::vector<double> in(x.begin(), x.end());
  std::vector<double> out(x.size());
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, r.n, r.n, 1, in.data(), r.n, r.q.data(),
              r.n, 0, out.data(), r.n);
  std::transform(out.begin(), out.end(), x.begin(), [](double v) { return static_cast<float>(v); });
}

// Replaces rows [first, first + n) of w [.., k] by Q times these rows.
void rotate_rows(const Rotation& r, std::vector<float>& w, size_t k, size_t first) {
  const auto begin = w.begin() + static_cast<std::ptrdiff_t>(first * k);
  const std::vector<double> in(begin, begin + static_cast<std::ptrdiff_t>(k) * r.n);
  std::vector<double> out(in.size());
  const int cols = static_cast<int>(k);
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, r.n, cols, r.n, 1, r.q.data(), r.n,
              in.data(), cols, 0, out.data(), cols);
  std::transform(out.begin(), out.end(), begin, [](double v) { return static_cast<float>(v); });
}

// Replaces the n outputs of a Linear from `first` on by Q times them.
void rotate_outputs(const Rotation& r, FloatModel& model, int linear, size_t first) {
  const Node& n = model.graph[linear];
  rotate_rows(r, model.weights.at(n.weight).data,
              static_cast<size_t>(linear_size(model.graph, linear).k), first);
  if (!n.bias.empty()) rotate_rows(r, model.weights.at(n.bias).data, 1, first);
}

// Moves a LayerNorm's gamma and beta into a Linear that reads it:
// W (gamma z + beta) + b = (W gamma) z + (b + W beta).
void absorb_norm(FloatModel& model, const Node& norm, int linear) {
  ensure_bias(model, linear);
  const Node& n = model.graph[linear];
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

// Whether a node takes some of the tokens, or their mean, which commutes with a rotation.
bool chooses_tokens(const Graph& graph, int i) {
  const Node& n = graph[i];
  return (n.kind == NodeKind::kSlice && n.whole(Attribute::kAxis) == 0) ||
         (n.kind == NodeKind::kPool && n.whole(Attribute::kType) == 0 &&
          !n.has(Attribute::kKernelHeight)) ||
         (n.kind == NodeKind::kAdd && n.alpha() == 0.5f);
}

// The residual stream: the embedding, what residual adds make of it, and choices of their tokens.
std::vector<bool> stream_of(const Graph& graph) {
  std::vector<bool> in_stream(graph.nodes.size());
  for (int i = graph.find(Role::kEmbedding); i < graph.size(); i++) {
    const Node& n = graph[i];
    const bool carries = n.role == Role::kResidual || chooses_tokens(graph, i);
    in_stream[static_cast<size_t>(i)] =
        n.role == Role::kEmbedding ||
        (carries && std::ranges::any_of(n.in, [&](int in) { return at(in_stream, in); }));
  }
  return in_stream;
}

// The layer norms of a stream's values.
std::vector<bool> norms_of(const Graph& graph, const std::vector<bool>& in_stream) {
  std::vector<bool> norms(graph.nodes.size());
  for (int i = 0; i < graph.size(); i++)
    norms[static_cast<size_t>(i)] =
        graph.is(i, NodeKind::kNorm) && graph[i].norm() == NormType::kLayer &&
        !graph[i].has(Attribute::kGroup) && at(in_stream, graph[i].in[0]);
  return norms;
}

// Returns the norm of the stream whose output a Linear reads, directly or through a choice of
// tokens; -1 if there is none.
int norm_before(const Graph& graph, const std::vector<bool>& norms, int linear) {
  int node = graph[linear].in[0];
  while (chooses_tokens(graph, node)) node = graph[node].in[0];
  return at(norms, node) ? node : -1;
}

// Rotates the Linears that read the stream: W LayerNorm(x) = (W Q^T) LayerNorm(Q x).
void rotate_readers(const Rotation& r, const std::vector<bool>& norms, FloatModel& model) {
  const Graph& graph = model.graph;
  for (int i = 0; i < graph.size(); i++) {
    if (!graph.is(i, NodeKind::kLinear)) continue;
    const int norm = norm_before(graph, norms, i);
    if (norm < 0) continue;
    absorb_norm(model, graph[norm], i);
    rotate_vectors(r, model.weights.at(graph[i].weight).data);
  }
  for (int i = 0; i < graph.size(); i++) {
    if (!at(norms, i)) continue;
    const Node& n = graph[i];
    std::ranges::fill(model.weights.at(n.weight).data, 1.f);
    std::ranges::fill(model.weights.at(n.bias).data, 0.f);
  }
}

// Rotates what is added to the stream: patch embedding, tokens and positions, proj and fc2.
void rotate_writers(const Rotation& r, FloatModel& model) {
  const Graph& graph = model.graph;
  const int embedding = graph.find(Role::kEmbedding);
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.role == Role::kPatchEmbed) rotate_outputs(r, model, i, 0);
    if (n.kind == NodeKind::kConst && i < embedding)
      rotate_vectors(r, model.weights.at(n.weight).data);
    if (n.role != Role::kResidual) continue;
    for (int in : n.in)
      if (graph.is(in, NodeKind::kLinear)) rotate_outputs(r, model, in, 0);
  }
}

// Whether only Linears read a norm's value, all of its tokens or some or their mean.
bool only_linears_read(const Graph& graph, const std::vector<std::vector<int>>& readers, int i) {
  return std::ranges::all_of(at(readers, i), [&](int r) {
    return graph.is(r, NodeKind::kLinear) ||
           (chooses_tokens(graph, r) && only_linears_read(graph, readers, r));
  });
}

// Whether what enters the stream can be rotated: Linears, and constants before the embedding.
bool writers_rotate(const Graph& graph, const std::vector<bool>& in_stream) {
  const int embedding = graph.find(Role::kEmbedding);
  if (graph.is(embedding, NodeKind::kNorm)) return false;
  for (int i = embedding + 1; i < graph.size(); i++)
    if (graph[i].role == Role::kResidual)
      for (int in : graph[i].in)
        if (!at(in_stream, in) && !graph.is(in, NodeKind::kLinear)) return false;
  return true;
}

// Whether the residual stream is one vector space from the embedding to the head: only residual
// adds, choices of tokens and layer norms read its values, and only Linears read those norms.
bool has_residual_stream(const Graph& graph) {
  if (graph.find(Role::kPatchEmbed) < 0 || graph.find(Role::kEmbedding) < 0 ||
      graph.find(Role::kLastNorm) < 0)
    return false;
  const std::vector<bool> in_stream = stream_of(graph), norms = norms_of(graph, in_stream);
  if (!at(norms, graph.find(Role::kLastNorm)) || !writers_rotate(graph, in_stream)) return false;
  const std::vector<std::vector<int>> readers = graph.readers();
  for (int i = 0; i < graph.size(); i++) {
    if (at(in_stream, i))
      for (int r : at(readers, i))
        if (!at(in_stream, r) && !at(norms, r)) return false;
    if (at(norms, i) && !only_linears_read(graph, readers, i)) return false;
  }
  return std::ranges::none_of(graph.outputs,
                              [&](const Output& o) { return at(in_stream, o.node); });
}

// Whether an output is the last norm's tokens, some of them or their mean, with no Linear between.
bool is_of_tokens(const Graph& graph, int node, int last_norm) {
  while (node != last_norm && count_of(graph[node].in) > 0 && !graph.is(node, NodeKind::kLinear))
    node = graph[node].in[0];
  return node == last_norm;
}

// Adds the nodes between the last norm and `node`, and `node` itself, to `path`.
void add_path(const Graph& graph, int node, int last_norm, std::set<int>& path) {
  if (node == last_norm || !path.insert(node).second) return;
  for (int in : graph[node].in) add_path(graph, in, last_norm, path);
}

// Copies the nodes between the last norm and `node`, and `node` itself, to the place `next` and
// those after it. The copies read `tokens` instead of the norm's value. Returns the copy of `node`.
int copy_path(Graph& graph, int node, int last_norm, int tokens, int& next) {
  std::set<int> path;
  add_path(graph, node, last_norm, path);
  std::vector<std::pair<int, Node>> nodes;  // copied before any node moves
  for (int i : path) nodes.emplace_back(i, graph[i]);
  std::map<int, int> copies = {{last_norm, tokens}};
  for (auto& [i, n] : nodes) {
    n.name += ".restored";
    for (int& in : n.in) in = copies.at(in);
    copies[i] = insert(graph, next++, std::move(n));
  }
  return copies.at(node);
}

// Rotates outputs that are tokens of the stream back: gamma (Q^T z) + beta, where z is the last
// norm's value without gamma and beta. This is a Linear of its own, which always has 8 bits and is
// computed only where such an output is asked for.
void restore_outputs(const Rotation& r, const Tensor& gamma, const Tensor& beta, int last_norm,
                     FloatModel& model) {
  Graph& graph = model.graph;
  std::vector<size_t> turned;
  for (size_t o = 0; o < graph.outputs.size(); o++)
    if (is_of_tokens(graph, graph.outputs[o].node, last_norm)) turned.push_back(o);
  if (turned.empty()) return;
  const int64_t n = r.n;
  Node linear;
  linear.kind = NodeKind::kLinear;
  linear.name = graph[last_norm].name + ".restored";
  linear.in = {last_norm};
  linear.weight = linear.name + ".weight";
  linear.bias = linear.name + ".bias";
  linear.role = Role::kRestore;
  Tensor weight({n, n});
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      at(weight.data, i * n + j) =
          static_cast<float>(double{at(gamma.data, i)} * at(r.q, j * n + i));
  graph.params.push_back({linear.weight, weight.dims});
  graph.params.push_back({linear.bias, beta.dims});
  model.weights[linear.weight] = std::move(weight);
  model.weights[linear.bias] = beta;
  const int tokens = insert(graph, last_norm + 1, std::move(linear));
  int next = tokens + 1;
  for (size_t o : turned)
    graph.outputs[o].node = copy_path(graph, graph.outputs[o].node, last_norm, tokens, next);
  prune(graph);
}

}  // namespace

bool rotate_residual(FloatModel& model) {
  if (!has_residual_stream(model.graph)) return false;
  std::mt19937_64 random(1);
  const int width = infer_shapes(model.graph)[model.graph.find(Role::kEmbedding)].cols;
  const Rotation r = mean_preserving_rotation(width, random);
  const int last = model.graph.find(Role::kLastNorm);
  const Tensor gamma = model.weights.at(model.graph[last].weight),
               beta = model.weights.at(model.graph[last].bias);
  rotate_readers(r, norms_of(model.graph, stream_of(model.graph)), model);
  rotate_writers(r, model);
  restore_outputs(r, gamma, beta, last, model);
  return true;
}

void rotate_scores(FloatModel& model) {
  std::mt19937_64 random(2);
  const Graph& graph = model.graph;
  const Shapes shapes = infer_shapes(graph);
  for (int i = 0; i < graph.size(); i++) {
    if (!graph.is(i, NodeKind::kScores)) continue;
    const AttentionGeometry& g = shapes.geometry(i);
    const std::pair<int, int> parts[] = {{graph[i].in[0], g.query_begin},
                                         {graph[i].in[1], g.key_begin}};
    if (!graph.is(parts[0].first, NodeKind::kLinear) ||
        !graph.is(parts[1].first, NodeKind::kLinear))
      continue;
    for (int head = 0; head < g.heads; head++) {
      const Rotation r = random_rotation(g.head_dim, random);
      for (const auto& [linear, begin] : parts)
        rotate_outputs(r, model, linear, static_cast<size_t>(begin + head * g.head_dim));
    }
  }
}

}  // namespace vitrun
