// Quantize: what the codes stand for. Backwards it is as if it were not there.
#include <algorithm>

#include "runtime/float/fake_quant.h"
#include "runtime/float/operators.h"

namespace vitrun {

void forward_quantize(const ForwardCall& c) {
  const Shape& x = c.shape_of(0);
  const int begin = c.node().whole(Attribute::kBegin), cols = c.shape().cols;
  const int64_t rows = c.batch() * x.groups * x.rows;
  for (int64_t row = 0; row < rows; row++)
    std::copy_n(c.in[0]->data.data() + row * x.cols + begin, cols, c.y.data.data() + row * cols);
  fake_quantize(code_params(c.node(), c.weights), is_softmax(c.graph, c.node().in[0]),
                c.y.data.data(), rows, cols, 0, cols);
}

double backward_quantize(const BackwardCall& c, Flows& to) {
  const Shape& x = c.shape_of(0);
  const auto begin = static_cast<size_t>(c.node().whole(Attribute::kBegin)),
             cols = static_cast<size_t>(c.shape().cols), all = static_cast<size_t>(x.cols);
  const auto whole = [&](const Values& flow, Values& out) {
    out.assign(c.in[0]->data.size(), 0);
    for (size_t row = 0; row * cols < flow.size(); row++)
      std::copy_n(flow.data() + row * cols, cols, out.data() + row * all + begin);
  };
  whole(c.flow.gradient, to[0].gradient);
  if (c.flow.relevant()) whole(c.flow.relevance, to[0].relevance);
  return 0;
}

}  // namespace vitrun
