// Resizes a table of positions to another grid of patches, as PyTorch's interpolation.
#pragma once

#include "models/base/tensor.h"
#include "models/checkpoints/config.h"

namespace vitrun {

struct GridChange {
  int from_height, from_width, to_height, to_width;
};

// `positions` [1, prefix + from_height from_width, columns]; the prefix rows stay. With antialias
// the filter (a = -0.5) widens where the grid shrinks and leaves out what lies outside; without it
// four positions count (a = -0.75), those outside being the border's; bilinear: two.
Tensor resize_positions(const Tensor& positions, int prefix, const GridChange& grid,
                        PositionFilter filter);

}  // namespace vitrun
