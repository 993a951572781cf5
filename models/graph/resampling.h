// Resize mixes positions of a map with weights: PyTorch's interpolate, align_corners
// off. The weights are computed in float in a fixed order, the same for the float and the integer
// engine.
#pragma once

#include <algorithm>
#include <cmath>

namespace vitrun {

// Along one side: position `low` with weight 1 - `part`, `high` with `part`.
struct Sample {
  int low, high;
  float part;
};

inline Sample resize_sample(int to, int from_length, int to_length, bool bilinear) {
  const float scale = static_cast<float>(from_length) / static_cast<float>(to_length);
  if (!bilinear) {
    const int low =
        std::min(static_cast<int>(std::floor(static_cast<float>(to) * scale)), from_length - 1);
    return {low, low, 0};
  }
  const float at = std::max(scale * (static_cast<float>(to) + 0.5f) - 0.5f, 0.f);
  const int low = std::min(static_cast<int>(at), from_length - 1);
  return {low, std::min(low + 1, from_length - 1), at - static_cast<float>(low)};
}

// Calls body(row, weight) for the four (nearest: one) rows of the input map that make output row
// `position` of a map of `width` columns.
template <class Body>
void for_each_sample(int position, int in_height, int in_width, int height, int width,
                     bool bilinear, const Body& body) {
  const Sample y = resize_sample(position / width, in_height, height, bilinear),
               x = resize_sample(position % width, in_width, width, bilinear);
  if (!bilinear) return body(y.low * in_width + x.low, 1.f);
  body(y.low * in_width + x.low, (1 - y.part) * (1 - x.part));
  body(y.low * in_width + x.high, (1 - y.part) * x.part);
  body(y.high * in_width + x.low, y.part * (1 - x.part));
  body(y.high * in_width + x.high, y.part * x.part);
}

}  // namespace vitrun
