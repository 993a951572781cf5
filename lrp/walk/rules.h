// The rules of layer-wise relevance propagation (method.md section 4; Chefer et al. 2012.09838) and
// of back-propagation, one function per node kind, for one image. A value is [rows, cols],
// attention scores [windows * heads * tokens, tokens], as the nodes of graph.h say.
#pragma once

#include <memory>
#include <span>

#include "models/graph/graph.h"

namespace vitrun {

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

// What flows backwards through a value, of its shape: its relevance R and its gradient
// d logit / d value. In a walk for gradients alone no flow has a relevance.
struct Flow {
  Values relevance, gradient;

  bool empty() const { return gradient.empty(); }
  bool relevant() const { return !relevance.empty(); }
};

// A node in the reverse walk. `in` are the values of its inputs, `out` its own; null where there is
// none. `flow` is what arrived at its output; the rule may take its memory.
struct RuleCall {
  const Graph& graph;
  const Weights& weights;
  const Weights& magnitudes;  // |W| of every Linear, by the name of W; read for relevance
  const Node& node;
  const Tensor* in[2];
  const Tensor& out;
  Flow& flow;

  const AttentionGeometry& geometry() const {
    return graph.attention[static_cast<size_t>(node.attention)];
  }
};

// a / (b + 1e-9), 0 where b is 0. Divides in any case, so that loops over it become vectors.
inline float safe_divide(float a, float b) {
  constexpr float kTiny = 1e-9f;
  const float denominator = b + kTiny;
  const float quotient = a / (denominator == 0 ? kTiny : denominator);
  return b == 0 ? 0 : quotient;
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

// What flows to the inputs of a node: its share of the relevance by the rule of its kind, and the
// gradient by the chain rule. The walk ends at kTokens and kPatches: they have no rule. Returns the
// relevance that had nowhere to go: of an output to which no input contributes (Z = 0), and of a
// merged map's padding.
double propagate(const RuleCall& call, Flow (&to)[2]);

// What a value receives from several readers: gradients are added; relevances by the rule for
// fan-out, R = x sum_i safe(R_i, x), or added where the readers take different parts of the value.
void join(const Tensor& value, bool parts, Flow&& from, Flow& into);

}  // namespace vitrun
