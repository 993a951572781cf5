// The outputs of a backbone that golden/make_detect.py makes up.
#pragma once

#include "runtime/detect/networks.h"
#include "tests/runtime/detect/detect_golden.h"

namespace vitrun {

inline constexpr int kStrides[] = {4, 8, 16, 32, 64};
inline constexpr int kChannels = 4, kClasses = 3;

// maps_of() and rpn_outputs() of the script, for an input of these padded sides.
inline BackboneOutputs backbone_outputs(int seed, int padded_width, int padded_height) {
  BackboneOutputs outputs;
  for (int level = 0; level < 5; level++) {
    int height = padded_height / kStrides[level], width = padded_width / kStrides[level];
    if (level == 4) height = (padded_height / 32 + 1) / 2, width = (padded_width / 32 + 1) / 2;
    outputs.scores.push_back(numbers(seed + level, {int64_t{height} * width, 3}));
    outputs.deltas.push_back(numbers(seed + 10 + level, {int64_t{height} * width, 12}));
    for (float& v : outputs.scores.back().data) v *= 4;
    for (float& v : outputs.deltas.back().data) v /= 2;
    if (level == 4) break;
    FeatureMap map = {height, width, Tensor({int64_t{height} * width, kChannels})};
    const int block = std::max(32 / kStrides[level], 1), blocks = (width + block - 1) / block;
    for (int i = 0; i < height * width * kChannels; i++) {
      const int c = i % kChannels, x = i / kChannels % width, y = i / kChannels / width;
      map.rows.data[static_cast<size_t>(i)] =
          number(500 + level, (y / block * blocks + x / block) * kChannels + c);
    }
    outputs.maps.push_back(std::move(map));
  }
  return outputs;
}

inline int padded_to_32(int side) {
  return (side + 31) / 32 * 32;
}

}  // namespace vitrun
