// Resizes tables of positions to another grid of patches: absolute ones as PyTorch's interpolation
// does, relative ones also as timm.
#pragma once

#include <string>

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

// A table of relative positions [(2h - 1)(2w - 1) + rest, columns] of a grid of h x w patches; the
// rest, which belongs to other tokens, stays. kGeometric is timm's resize_rel_pos_bias_table:
// linear between old positions that lie 1, q, q^2, ... apart, with q so that they reach as far as
// the new ones; beyond them counts the last. Fails, naming the table, if it has other rows.
Tensor resize_relative_positions(const Tensor& table, const std::string& name,
                                 const GridChange& grid, PositionFilter filter);

}  // namespace vitrun
