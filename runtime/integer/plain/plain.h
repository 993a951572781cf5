// The integer engine computes in float, by a node's own function `run_KIND`, everything that
// is no matrix product. A function computes some rows of one image's value, in an order of
// operations that depends on nothing but the element, so that the result is the same bits however
// the rows are shared; it allocates nothing.
#pragma once

#include <span>

#include "kernels/kernels.h"
#include "models/graph/shapes.h"

namespace vitrun {

// The first rows of an image's value, `stride` floats apart.
struct PlainInput {
  const float* x;
  int64_t stride;
  const Shape* shape;

  const float* row(int64_t r) const { return x + r * stride; }
};

struct PlainCall {
  const Node& node;
  const Shape& shape;
  std::span<const PlainInput> in;
  const float *weight, *bias;  // parameters; null: none
  const Kernels& kernels;
  int begin, end;  // rows to compute
  float* y;
  int64_t stride;

  float* row(int64_t r) const { return y + r * stride; }
  int cols() const { return shape.cols; }
};

#define VITRUN_PLAIN(kind, function, by_rows) void run_##function(const PlainCall& call);
#include "models/graph/kinds.def"

// Whether row i of a kind's value depends on the rows i of its inputs alone, or on a single row.
constexpr bool plain_by_rows(NodeKind node_kind) {
#define VITRUN_PLAIN(kind, function, by_rows) \
  if (node_kind == NodeKind::k##kind) return by_rows;
#include "models/graph/kinds.def"
  return false;
}

// Calls the function of the node's kind.
void run_plain(const PlainCall& call);

}  // namespace vitrun
