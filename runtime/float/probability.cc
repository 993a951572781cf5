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

// The gradient is that of attention's softmax, which is over columns too.
double backward_probability(const BackwardCall& c, Flows& to) {
  return backward_softmax(c, to);
}

}  // namespace vitrun
