// Probability: the softmax over the columns of a row. Relevance passes through it unchanged.
#include <algorithm>
#include <cmath>

#include "runtime/float/operators.h"

namespace vitrun {

void forward_probability(const ForwardCall& c) {
  const auto n = static_cast<size_t>(c.shape().cols);
  for (size_t row = 0; row < c.y.data.size(); row += n) {
    const float* x = c.in[0]->data.data() + row;
    const float top = *std::max_element(x, x + n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += std::exp(double{x[i] - top});
    for (size_t i = 0; i < n; i++)
      c.y.data[row + i] = static_cast<float>(std::exp(double{x[i] - top}) / sum);
  }
}

// p = softmax(x): dx = p (g - sum p g).
double backward_probability(const BackwardCall& c, Flows& to) {
  const auto n = static_cast<size_t>(c.shape().cols);
  to[0] = std::move(c.flow);
  for (size_t row = 0; row < to[0].gradient.size(); row += n) {
    const float* p = c.out.data.data() + row;
    float* g = to[0].gradient.data() + row;
    const double mean = sum_of(n, [&](size_t i) { return double{p[i]} * double{g[i]}; });
    for (size_t i = 0; i < n; i++) g[i] = static_cast<float>(double{p[i]} * (double{g[i]} - mean));
  }
  return 0;
}

}  // namespace vitrun
