// Neighbourhoods say which elements of a map Window, Unwindow and Pool take, the same for the
// float and the integer engine.
#pragma once

#include "models/graph/shapes.h"

namespace vitrun {

struct Neighbourhoods {
  int height, width;  // of the map that neighbourhoods are taken of
  int out_height, out_width;
  int kernel_height, kernel_width, stride, padding;

  int positions() const { return out_height * out_width; }
  int kernel() const { return kernel_height * kernel_width; }
  // The row of the map of element (ky, kx) of neighbourhood `position`; -1: outside.
  int row(int position, int ky, int kx) const {
    const int y = position / out_width * stride - padding + ky,
              x = position % out_width * stride - padding + kx;
    return y < 0 || y >= height || x < 0 || x >= width ? -1 : y * width + x;
  }
};

// `x` is the input's shape of a Window or a Pool with a kernel, `y` its own. For an Unwindow it is
// the other way round.
inline Neighbourhoods neighbourhoods_of(const Node& n, const Shape& x, const Shape& y) {
  return {x.height,
          x.width,
          y.height,
          y.width,
          n.whole(Attribute::kKernelHeight),
          n.whole(Attribute::kKernelWidth),
          n.whole(Attribute::kStride, 1),
          n.whole(Attribute::kPadding)};
}

}  // namespace vitrun
