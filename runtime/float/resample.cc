// Resize and Pool.
#include <algorithm>
#include <cmath>

#include "models/graph/neighbourhoods.h"
#include "models/graph/resampling.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

// Calls body(output row, input row, weight) for all of an image, in a fixed order.
template <class Body>
void for_each_part(const Node& n, const Shape& x, const Shape& y, const Body& body) {
  const bool bilinear = n.whole(Attribute::kType) != 0;
  for (int p = 0; p < y.rows; p++)
    for_each_sample(p, x.height, x.width, y.height, y.width, bilinear,
                    [&](int row, float weight) { body(p, row, weight); });
}

// A linear map of rows, y = A x with weights >= 0: the gradient by A^T, the relevance by the rule
// of a Linear whose parts are in proportion to what they give, x_i A_ij safe(R_j, y_j).
template <class ForEach>
void linear_back(const BackwardCall& c, const ForEach& for_each, Flow& to) {
  const auto cols = static_cast<size_t>(c.shape().cols);
  to.gradient.assign(c.in[0]->data.size(), 0);
  Values s(c.flow.relevance.size());
  for (size_t i = 0; i < s.size(); i++) s[i] = safe_divide(c.flow.relevance[i], c.out.data[i]);
  if (c.flow.relevant()) to.relevance.assign(c.in[0]->data.size(), 0);
  for_each([&](int row, int from, float weight) {
    for (size_t j = 0; j < cols; j++) {
      const size_t in = static_cast<size_t>(from) * cols + j,
                   out = static_cast<size_t>(row) * cols + j;
      to.gradient[in] += weight * c.flow.gradient[out];
      if (c.flow.relevant()) to.relevance[in] += c.in[0]->data[in] * weight * s[out];
    }
  });
}

bool is_max(const Node& n) {
  return n.whole(Attribute::kType) != 0;
}

// The rows on the map that a pool's output row takes.
std::vector<int> pooled_rows(const Neighbourhoods& n, int position) {
  std::vector<int> rows;
  for (int ky = 0; ky < n.kernel_height; ky++)
    for (int kx = 0; kx < n.kernel_width; kx++)
      if (const int row = n.row(position, ky, kx); row >= 0) rows.push_back(row);
  return rows;
}

// Calls body(output row, input rows).
template <class Body>
void for_each_pool(const Node& node, const Shape& x, const Shape& y, const Body& body) {
  if (!node.has(Attribute::kKernelHeight)) {
    std::vector<int> rows;
    for (int r = node.whole(Attribute::kBegin); r < x.rows; r++) rows.push_back(r);
    return body(0, rows);
  }
  const Neighbourhoods n = neighbourhoods_of(node, x, y);
  for (int p = 0; p < y.rows; p++) body(p, pooled_rows(n, p));
}

// The first of the rows whose element of column j is the largest.
int largest(const std::vector<float>& x, const std::vector<int>& rows, size_t offset, size_t cols,
            size_t j) {
  int best = rows[0];
  for (int r : rows)
    if (x[offset + static_cast<size_t>(r) * cols + j] >
        x[offset + static_cast<size_t>(best) * cols + j])
      best = r;
  return best;
}

}  // namespace

void forward_resize(const ForwardCall& c) {
  const auto cols = static_cast<size_t>(c.shape().cols);
  for (int64_t image = 0; image < c.batch(); image++) {
    const float* x = c.in[0]->data.data() + image * c.shape_of(0).size();
    float* y = c.y.data.data() + image * c.shape().size();
    for_each_part(c.node(), c.shape_of(0), c.shape(), [&](int to, int from, float weight) {
      for (size_t j = 0; j < cols; j++)
        y[static_cast<size_t>(to) * cols + j] += weight * x[static_cast<size_t>(from) * cols + j];
    });
  }
}

double backward_resize(const BackwardCall& c, Flows& to) {
  linear_back(
      c, [&](const auto& body) { for_each_part(c.node(), c.shape_of(0), c.shape(), body); }, to[0]);
  return 0;
}

void forward_pool(const ForwardCall& c) {
  const auto cols = static_cast<size_t>(c.shape().cols);
  for (int64_t image = 0; image < c.batch(); image++) {
    const auto offset = static_cast<size_t>(image * c.shape_of(0).size());
    float* y = c.y.data.data() + image * c.shape().size();
    for_each_pool(c.node(), c.shape_of(0), c.shape(), [&](int to, const std::vector<int>& rows) {
      for (size_t j = 0; j < cols; j++) {
        const auto x = [&](int row) {
          return c.in[0]->data[offset + static_cast<size_t>(row) * cols + j];
        };
        double sum = 0;
        for (int r : rows) sum += x(r);
        y[static_cast<size_t>(to) * cols + j] =
            is_max(c.node()) ? x(largest(c.in[0]->data, rows, offset, cols, j))
                             : static_cast<float>(sum / static_cast<double>(rows.size()));
      }
    });
  }
}

// A mean over n rows gives R_i = x_i safe(R, mean) / n, damped with an epsilon, the terms having
// the size mean |x|; a maximum gives all to the row that is it.
double backward_pool(const BackwardCall& c, Flows& to) {
  const auto cols = static_cast<size_t>(c.shape().cols);
  const std::vector<float>& x = c.in[0]->data;
  Flow& in = to[0];
  in.gradient.assign(x.size(), 0);
  if (c.flow.relevant()) in.relevance.assign(x.size(), 0);
  double lost = 0;
  for_each_pool(c.node(), c.shape_of(0), c.shape(), [&](int row, const std::vector<int>& rows) {
    const float n = static_cast<float>(rows.size());
    for (size_t j = 0; j < cols; j++) {
      const size_t out = static_cast<size_t>(row) * cols + j;
      if (is_max(c.node())) {
        const size_t at = static_cast<size_t>(largest(x, rows, 0, cols, j)) * cols + j;
        in.gradient[at] += c.flow.gradient[out];
        if (c.flow.relevant()) in.relevance[at] += c.flow.relevance[out];
        continue;
      }
      float s = 0;
      if (c.flow.relevant() && c.epsilon == 0) {
        s = safe_divide(c.flow.relevance[out], c.out.data[out]);
      } else if (c.flow.relevant()) {
        float size = 0;
        for (int r : rows) size += std::fabs(x[static_cast<size_t>(r) * cols + j]) / n;
        s = damped_divide(c.flow.relevance[out], c.out.data[out], c.epsilon * size);
        lost += double{c.flow.relevance[out]} - double{s} * double{c.out.data[out]};
      }
      for (int r : rows) {
        const size_t at = static_cast<size_t>(r) * cols + j;
        in.gradient[at] += c.flow.gradient[out] / n;
        if (c.flow.relevant()) in.relevance[at] += x[at] * s / n;
      }
    }
  });
  return lost;
}

}  // namespace vitrun
