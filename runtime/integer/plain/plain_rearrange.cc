// Concat, Slice, Window and Unwindow.
#include <algorithm>

#include "models/graph/neighbourhoods.h"
#include "runtime/integer/plain/plain.h"

namespace vitrun {

void run_concat(const PlainCall& c) {
  const bool columns = c.node.whole(Attribute::kAxis) != 0;
  for (int r = c.begin; r < c.end; r++) {
    int before = 0;  // rows or columns of the inputs so far
    for (const PlainInput& x : c.in) {
      if (columns) {
        std::copy_n(x.row(r), x.shape->cols, c.row(r) + before);
        before += x.shape->cols;
        continue;
      }
      if (r >= before && r < before + x.shape->rows)
        std::copy_n(x.row(r - before), c.cols(), c.row(r));
      before += x.shape->rows;
    }
  }
}

void run_slice(const PlainCall& c) {
  const int begin = slice_begin(c.node, *c.in[0].shape);
  const bool columns = c.node.whole(Attribute::kAxis) != 0;
  for (int r = c.begin; r < c.end; r++)
    std::copy_n(c.in[0].row(columns ? r : r + begin) + (columns ? begin : 0), c.cols(), c.row(r));
}

void run_window(const PlainCall& c) {
  const PlainInput& x = c.in[0];
  const Neighbourhoods n = neighbourhoods_of(c.node, *x.shape, c.shape);
  const auto order = static_cast<ElementOrder>(c.node.whole(Attribute::kOrder));
  const int channels = x.shape->cols;
  for (int r = c.begin; r < c.end; r++)
    for (int ky = 0; ky < n.kernel_height; ky++)
      for (int kx = 0; kx < n.kernel_width; kx++) {
        const int row = n.row(r, ky, kx);
        const int k = order == ElementOrder::kColumnsFirst ? kx * n.kernel_height + ky
                                                           : ky * n.kernel_width + kx;
        const bool spread = order == ElementOrder::kChannelsFirst;
        const int step = spread ? n.kernel() : 1;
        float* y = c.row(r) + (spread ? k : k * channels);
        for (int i = 0; i < channels; i++) y[i * step] = row < 0 ? 0.f : x.row(row)[i];
      }
}

namespace {

// The first position whose kernel, `stride` apart from the next, reaches element `at`.
int first_reaching(int at, int kernel, int stride) {
  return at < kernel ? 0 : (at - kernel) / stride + 1;
}

}  // namespace

// Every element sums its contributions in the order of their rows.
void run_unwindow(const PlainCall& c) {
  const PlainInput& x = c.in[0];
  const Neighbourhoods n = neighbourhoods_of(c.node, c.shape, *x.shape);
  for (int r = c.begin; r < c.end; r++) {
    float* y = c.row(r);
    std::fill_n(y, c.cols(), 0.f);
    // Position p of the rows reaches this element by (ky, kx) if p * stride + k = element +
    // padding.
    const int top = r / c.shape.width + n.padding, left = r % c.shape.width + n.padding;
    for (int py = first_reaching(top, n.kernel_height, n.stride);
         py < n.out_height && py * n.stride <= top; py++) {
      const int ky = top - py * n.stride;
      for (int px = first_reaching(left, n.kernel_width, n.stride);
           px < n.out_width && px * n.stride <= left; px++) {
        const int kx = left - px * n.stride;
        const float* from = x.row(py * n.out_width + px) + (ky * n.kernel_width + kx) * c.cols();
        for (int i = 0; i < c.cols(); i++) y[i] += from[i];
      }
    }
    for (int i = 0; c.bias && i < c.cols(); i++) y[i] += c.bias[i];
  }
}

}  // namespace vitrun
