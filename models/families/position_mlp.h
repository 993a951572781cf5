// Tables of relative positions that a small MLP makes: SwinV2's, and those of timm's ViTs with
// relative positions.
#pragma once

#include <functional>

#include "models/base/tensor.h"

namespace vitrun {

struct PositionMlp {
  Tensor w1;  // [hidden, 2], of the offsets along the height and the width
  Tensor b1;  // [hidden]
  Tensor w2;  // [heads, hidden]
};

// W2 relu(W1 (along_height(dy), along_width(dx)) + b1), through `last(sum, head)`, for every dy and
// dx within a map: the table [(2 height - 1)(2 width - 1), heads].
Tensor position_table(int height, int width, const PositionMlp& mlp,
                      const std::function<double(int)>& along_height,
                      const std::function<double(int)>& along_width,
                      const std::function<double(double, size_t)>& last);

}  // namespace vitrun
