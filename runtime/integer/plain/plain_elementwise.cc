// Add, Mul and Rope.
#include <tuple>

#include "models/graph/rotary.h"
#include "runtime/integer/plain/plain.h"

namespace vitrun {
namespace {

// y = f(a, b) over the rows, the second operand repeated where it has one row or column.
template <class F>
void combine(const PlainCall& c, const F& f) {
  const PlainInput &a = c.in[0], &b = c.in[1];
  const int step = b.shape->cols == 1 ? 0 : 1;
  for (int r = c.begin; r < c.end; r++) {
    const float *x = a.row(r), *other = b.row(b.shape->rows == 1 ? 0 : r);
    float* y = c.row(r);
    for (int i = 0; i < c.cols(); i++) y[i] = f(x[i], other[i * step]);
  }
}

}  // namespace

void run_add(const PlainCall& c) {
  const float alpha = c.node.alpha();
  combine(c, [alpha](float a, float b) { return alpha * (a + b); });
}

void run_mul(const PlainCall& c) {
  combine(c, [](float a, float b) { return a * b; });
}

void run_rope(const PlainCall& c) {
  const PlainInput &x = c.in[0], &angles = c.in[1];
  const RotaryPairs pairs(c.node, c.cols(), angles.shape->cols);
  const int first = c.shape.rows - angles.shape->rows, half = pairs.head_dim / 2;
  for (int r = c.begin; r < c.end; r++) {
    float* y = c.row(r);
    std::copy_n(x.row(r), c.cols(), y);
    if (r < first) continue;
    const float* angle = angles.row(r - first);
    pairs.for_each([&](int a, int b, int i) {
      std::tie(y[a], y[b]) = turned(y[a], y[b], angle[i], angle[half + i]);
    });
  }
}

}  // namespace vitrun
