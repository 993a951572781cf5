// Probability: the softmax over the columns of a row. The sum runs from the first column to the
// last.
#include <algorithm>

#include "runtime/integer/plain/plain.h"

namespace vitrun {

void run_probability(const PlainCall& c) {
  for (int r = c.begin; r < c.end; r++) {
    const float* x = c.in[0].row(r);
    float* y = c.row(r);
    const float top = *std::max_element(x, x + c.cols());
    for (int i = 0; i < c.cols(); i++) y[i] = x[i] - top;
    c.kernels.exp(y, c.cols(), y);
    float sum = 0;
    for (int i = 0; i < c.cols(); i++) sum += y[i];
    const float scale = 1 / sum;
    for (int i = 0; i < c.cols(); i++) y[i] *= scale;
  }
}

}  // namespace vitrun
