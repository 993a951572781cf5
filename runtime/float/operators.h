// The float engine has two functions for each kind of node: `forward_KIND` computes its value, and
// `backward_KIND` sends what arrives at it back to its inputs, the gradient by the chain rule and
// the relevance by the rule of its kind (method.md section 4; Chefer et al. 2012.09838). The two of
// a kind stand beside each other in a file of this folder.
#pragma once

#include <memory>
#include <span>

#include "kernels/kernels.h"
#include "models/graph/shapes.h"
#include "runtime/threads.h"

namespace vitrun {

// --- forward ---

// A node to evaluate. Its function fills `y` [batch, groups * rows, cols], which holds zeros.
struct ForwardCall {
  const Graph& graph;
  const Shapes& shapes;
  int at;                                // the node
  const std::vector<const Tensor*>& in;  // values of its inputs
  const Tensor* image;                   // of an Input: what was given for it
  const Weights& weights;
  const Kernels& kernels;
  ThreadPool& pool;
  Tensor& y;

  const Node& node() const { return graph[at]; }
  const Shape& shape() const { return shapes[at]; }
  const Shape& shape_of(int input) const { return shapes[vitrun::at(node().in, input)]; }
  const AttentionGeometry& geometry() const { return shapes.geometry(at); }
  int64_t batch() const { return y.dims[0]; }
  // Null where the node has no such parameter.
  const float* param(const std::string& name) const {
    return name.empty() ? nullptr : weights.at(name).data.data();
  }
};

// Rows of the inner two dimensions of a value, all images together.
inline int64_t rows_of(const Tensor& t) {
  return t.dims[0] * t.dims[1];
}

template <class Body>  // body(begin, end) over a thread's share of `count`
void parallel(ThreadPool& pool, int64_t count, const Body& body, int64_t grain = 1) {
  pool.run([&](int thread) {
    const Range r = share(count, thread, pool.size(), grain);
    if (r.begin < r.end) body(r.begin, r.end);
  });
}

// OpenBLAS gives a row the same bits wherever it stands among so many: its kernels take 4 to 24
// rows together. Threads get multiples of this.
constexpr int64_t kRowsTogether = 48;

// y[m, n] = x[m, k] W[n, k]^T + bias
void affine(const float* x, const float* w, const float* bias, int64_t m, int n, int k, float* y);

// --- backward ---

// Floats whose memory is not set to 0 before it is written.
template <class T>
struct Unset : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = Unset<U>;
  };
  template <class U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};
using Values = std::vector<float, Unset<float>>;

// A flow goes backwards through a value and has its shape: the relevance R and its gradient
// d logit / d value. In a walk for gradients alone no flow has a relevance.
struct Flow {
  Values relevance, gradient;

  bool empty() const { return gradient.empty(); }
  bool relevant() const { return !relevance.empty(); }
};

// A node in the reverse walk, for one image. `flow` is what arrived at its output; the rule may
// take its memory.
struct BackwardCall {
  const Graph& graph;
  const Shapes& shapes;
  int at;                                // the node
  const std::vector<const Tensor*>& in;  // values of its inputs
  const Tensor& out;                     // its own
  const Weights& weights;
  const Weights& magnitudes;  // |W| of every Linear, by the name of W; read for relevance
  Flow& flow;
  float epsilon = 0;  // of the rules for sums that cancel; 0: the published ones

  const Node& node() const { return graph[at]; }
  const Shape& shape() const { return shapes[at]; }
  const Shape& shape_of(int input) const { return shapes[vitrun::at(node().in, input)]; }
  const AttentionGeometry& geometry() const { return shapes.geometry(at); }
  bool from_constant(int input) const {
    return graph.is(vitrun::at(node().in, input), NodeKind::kConst);
  }
};

// One for each input; empty: nothing flows there. Where both inputs are one value, a rule may put
// all into the first.
using Flows = std::vector<Flow>;

// a / (b + 1e-9), 0 where b is 0. It divides in any case, so that loops over it become vectors.
inline float safe_divide(float a, float b) {
  constexpr float kTiny = 1e-9f;
  const float denominator = b + kTiny;
  const float quotient = a / (denominator == 0 ? kTiny : denominator);
  return b == 0 ? 0 : quotient;
}

// S of a sum z, of whose relevance R a term t gets t S, damped where z is small beside its terms
// (method.md section 4): S = R z / (z^2 + (epsilon size)^2), `damping` being epsilon times the size
// of the terms. What no term gets of R is absorbed.
inline float damped_divide(float relevance, float z, float damping) {
  const float d = z * z + damping * damping;
  const float quotient = relevance * z / (d == 0 ? 1 : d);
  return d == 0 ? 0 : quotient;
}

// The sum of f(i) over i < n, in lanes of f's type, so that it becomes vectors, and those in double
// every 64 steps.
template <class F>
double sum_of(size_t n, const F& f) {
  constexpr size_t kLanes = 16, kSteps = 64;
  using T = decltype(f(size_t{0}));
  double total = 0;
  size_t i = 0;
  while (i + kLanes <= n) {
    T lane[kLanes] = {};
    for (size_t step = 0; step < kSteps && i + kLanes <= n; step++, i += kLanes)
      for (size_t l = 0; l < kLanes; l++) lane[l] += f(i + l);
    for (T x : lane) total += static_cast<double>(x);
  }
  for (; i < n; i++) total += static_cast<double>(f(i));
  return total;
}

inline double sum(const Values& v) {
  return sum_of(v.size(), [&](size_t i) { return static_cast<double>(v[i]); });
}

// c = alpha a b + beta c; a is [m, k] or, transposed, [k, m]; b likewise.
void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float* a,
              const float* b, float beta, float* c);

// --- the table ---

// A backward function returns the relevance that had nowhere to go: of an output to which no input
// contributes (Z = 0), and of padding.
#define VITRUN_NODE(kind, function, name, least, most) \
  void forward_##function(const ForwardCall& call);    \
  double backward_##function(const BackwardCall& call, Flows& to);
#include "models/graph/kinds.def"

void forward(const ForwardCall& call);
double backward(const BackwardCall& call, Flows& to);

// Whether a reader takes a part of a value that no other of its readers takes: q, k and v; the
// class and the distillation token.
bool takes_part(const Node& reader);

// Joins what a value receives from several readers: gradients are added; relevances by the rule for
// fan-out, R = x sum_i safe(R_i, x), or added where the readers take different parts of the value.
void join(const Tensor& value, bool parts, Flow&& from, Flow& into);

}  // namespace vitrun
