// Add and Mul, the second operand repeated where it has one row or column.
#include <algorithm>
#include <cmath>

#include "runtime/float/operators.h"

namespace vitrun {
namespace {

// Finds the element of the second operand that meets element i of the first. Values are
// those of all images; a constant operand has one image.
class Broadcast {
 public:
  Broadcast(const Shape& x, const Shape& y, bool constant)
      : same_(x.size() == y.size() && !constant),
        cols_(x.cols),
        rows_(x.rows),
        groups_(x.groups),
        row_step_(y.rows == 1 ? 0 : y.cols),
        col_step_(y.cols == 1 ? 0 : 1),
        group_step_(y.groups == 1 ? 0 : int64_t{y.rows} * y.cols),
        image_step_(constant ? 0 : y.size()) {}

  size_t operator()(size_t i) const {
    if (same_) return i;
    const auto at = static_cast<int64_t>(i);
    const int64_t row = at / cols_, group = row / rows_;
    return static_cast<size_t>(at % cols_ * col_step_ + row % rows_ * row_step_ +
                               group % groups_ * group_step_ + group / groups_ * image_step_);
  }

 private:
  bool same_;
  int64_t cols_, rows_, groups_, row_step_, col_step_, group_step_, image_step_;
};

// Values of constants are those of one image; in the forward pass they are repeated for each, so
// that every value is laid out alike.
Broadcast broadcast_of(const Shape& x, const Shape& y) {
  return {x, y, false};
}

// The gradient of a repeated operand is the sum over the elements it met.
Values summed(const Values& flow, const Broadcast& to, size_t size) {
  Values out(size, 0);
  for (size_t i = 0; i < flow.size(); i++) out[to(i)] += flow[i];
  return out;
}

// All flows to the second operand if the first is a constant. factor(i): what the gradient at
// element i is multiplied by.
template <class Factor>
void pass_to_second(const BackwardCall& c, const Factor& factor, Flow& to) {
  const Broadcast second = broadcast_of(c.shape_of(0), c.shape_of(1));
  for (size_t i = 0; i < c.flow.gradient.size(); i++) c.flow.gradient[i] *= factor(i);
  to.gradient = summed(c.flow.gradient, second, c.in[1]->data.size());
  if (c.flow.relevant()) to.relevance = summed(c.flow.relevance, second, c.in[1]->data.size());
}

}  // namespace

void forward_mul(const ForwardCall& c) {
  const Broadcast second = broadcast_of(c.shape_of(0), c.shape_of(1));
  for (size_t i = 0; i < c.y.data.size(); i++)
    c.y.data[i] = c.in[0]->data[i] * c.in[1]->data[second(i)];
}

// A constant factor (LayerScale) lets relevance pass; of a product of two values each gets half.
double backward_mul(const BackwardCall& c, Flows& to) {
  if (c.from_constant(0)) {
    pass_to_second(
        c, [&](size_t i) { return c.in[0]->data[i]; }, to[1]);
    return 0;
  }
  const Broadcast second = broadcast_of(c.shape_of(0), c.shape_of(1));
  const std::vector<float>&x = c.in[0]->data, &y = c.in[1]->data;
  if (!c.from_constant(1)) {
    Values by_x(x.size());
    for (size_t i = 0; i < x.size(); i++) by_x[i] = c.flow.gradient[i] * x[i];
    to[1].gradient = summed(by_x, second, y.size());
    if (c.flow.relevant()) {
      for (float& r : c.flow.relevance) r *= 0.5f;
      to[1].relevance = summed(c.flow.relevance, second, y.size());
    }
  }
  to[0] = std::move(c.flow);
  for (size_t i = 0; i < x.size(); i++) to[0].gradient[i] *= y[second(i)];
  return 0;
}

void forward_add(const ForwardCall& c) {
  const Broadcast second = broadcast_of(c.shape_of(0), c.shape_of(1));
  const float alpha = c.node().alpha();
  for (size_t i = 0; i < c.y.data.size(); i++)
    c.y.data[i] = alpha * (c.in[0]->data[i] + c.in[1]->data[second(i)]);
}

// S = safe(R, a + b), ra = a S, rb = b S, then scaled so that they carry all of R in the proportion
// |sum ra| : |sum rb|. With an epsilon S is damped, the terms having the size |a| + |b|, and
// nothing is scaled, since these sums cancel too. A constant (a position embedding) gets none:
// relevance passes.
double backward_add(const BackwardCall& c, Flows& to) {
  if (c.from_constant(0)) {
    pass_to_second(
        c, [&](size_t) { return c.node().alpha(); }, to[1]);
    return 0;
  }
  const Broadcast second = broadcast_of(c.shape_of(0), c.shape_of(1));
  const std::vector<float>&a = c.in[0]->data, &b = c.in[1]->data;
  const bool constant = c.from_constant(1);
  to[0].gradient = std::move(c.flow.gradient);
  for (float& g : to[0].gradient) g *= c.node().alpha();
  if (constant) {
    to[0].relevance = std::move(c.flow.relevance);
    return 0;
  }
  const bool alike = a.size() == b.size();
  to[1].gradient = alike ? to[0].gradient : summed(to[0].gradient, second, b.size());
  if (!c.flow.relevant()) return 0;
  Values of_a(a.size()), of_b(a.size());
  for (size_t i = 0; i < a.size(); i++) {
    const float other = b[second(i)], z = a[i] + other;
    const float s = c.epsilon > 0 ? damped_divide(c.flow.relevance[i], z,
                                                  c.epsilon * (std::fabs(a[i]) + std::fabs(other)))
                                  : safe_divide(c.flow.relevance[i], z);
    of_a[i] = a[i] * s;
    of_b[i] = other * s;
  }
  const double sum_a = sum(of_a), sum_b = sum(of_b), whole = sum(c.flow.relevance);
  const double both = std::fabs(sum_a) + std::fabs(sum_b);
  auto scale = [&](Values& r, double part) {
    const float by =
        both > 0 && part != 0 ? static_cast<float>(std::fabs(part) / both * whole / part) : 0;
    for (float& x : r) x *= by;
  };
  if (c.epsilon == 0) {
    scale(of_a, sum_a);
    scale(of_b, sum_b);
  }
  to[0].relevance = std::move(of_a);
  to[1].relevance = alike ? std::move(of_b) : summed(of_b, second, b.size());
  return c.epsilon > 0 ? whole - sum_a - sum_b : 0;
}

}  // namespace vitrun
