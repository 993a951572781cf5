// Rope: pairs of columns rotated by the angles of their row. Relevance passes through it unchanged.
#include <algorithm>
#include <tuple>

#include "models/graph/rotary.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

// Rotates the last rows of [rows, cols] by the table's angles, or back by them.
void rotate(const Node& n, const Shape& x, const Shape& table, const float* angles, bool back,
            float* values) {
  const RotaryPairs pairs(n, x.cols, table.cols);
  const int first = x.rows - table.rows, half = pairs.head_dim / 2;
  for (int r = 0; r < table.rows; r++) {
    const float* angle = angles + int64_t{r} * table.cols;
    float* row = values + (int64_t{first} + r) * x.cols;
    pairs.for_each([&](int a, int b, int i) {
      const float s = angle[half + i];
      std::tie(row[a], row[b]) = turned(row[a], row[b], angle[i], back ? -s : s);
    });
  }
}

}  // namespace

void forward_rope(const ForwardCall& c) {
  std::copy(c.in[0]->data.begin(), c.in[0]->data.end(), c.y.data.begin());
  for (int64_t image = 0; image < c.batch(); image++)
    rotate(c.node(), c.shape(), c.shape_of(1), c.in[1]->data.data(), false,
           c.y.data.data() + image * c.shape().size());
}

double backward_rope(const BackwardCall& c, Flows& to) {
  to[0] = std::move(c.flow);
  rotate(c.node(), c.shape(), c.shape_of(1), c.in[1]->data.data(), true, to[0].gradient.data());
  return 0;
}

}  // namespace vitrun
