#include "runtime/float/operators.h"

#include "runtime/float/blas.h"

namespace vitrun {

void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float* a,
              const float* b, float beta, float* c) {
  blas().sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
               transpose_b ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, transpose_a ? m : k, b,
               transpose_b ? k : n, beta, c, n);
}

void forward(const ForwardCall& call) {
  switch (call.node().kind) {
#define VITRUN_NODE(kind, function, name, least, most) \
  case NodeKind::k##kind:                              \
    return forward_##function(call);
#include "models/graph/kinds.def"
  }
}

double backward(const BackwardCall& call, Flows& to) {
  switch (call.node().kind) {
#define VITRUN_NODE(kind, function, name, least, most) \
  case NodeKind::k##kind:                              \
    return backward_##function(call, to);
#include "models/graph/kinds.def"
  }
  return 0;
}

bool takes_part(const Node& n) {
  const bool columns = n.has(Attribute::kBegin) || n.has(Attribute::kEnd);
  return n.kind == NodeKind::kScores || n.kind == NodeKind::kMix || n.kind == NodeKind::kSlice ||
         (n.kind == NodeKind::kNorm && columns);
}

void join(const Tensor& value, bool parts, Flow&& from, Flow& into) {
  if (from.empty()) return;
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
