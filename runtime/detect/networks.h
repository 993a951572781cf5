// The three networks of a detector, which the float and the integer engine implement, and what they
// hand to the functions between them. Values are [rows, columns]; a map of H x W with C channels is
// rows y * W + x of C columns.
#pragma once

#include <vector>

#include "models/base/tensor.h"

namespace vitrun {

struct FeatureMap {
  int height = 0, width = 0;
  Tensor rows;  // [height width, C]
};

struct BackboneOutputs {
  std::vector<FeatureMap> maps;  // of the first levels, P2..P5; RoIAlign reads them
  std::vector<Tensor> scores;    // of each level, [H W, anchors], before the sigmoid
  std::vector<Tensor> deltas;    // of each level, [H W, 4 anchors], column 4 a + k
};

// RoIs that a head gets at once, at most. This bounds what their features and masks take.
inline constexpr int kBoxBatch = 256, kMaskBatch = 64;

class DetectorNetworks {
 public:
  virtual ~DetectorNetworks() = default;
  // The image is [1, 3, H, W], with H and W multiples of size_divisor.
  virtual BackboneOutputs backbone(const Tensor& image) = 0;
  struct Boxes {
    Tensor logits;  // [n, classes + 1], the background last
    Tensor deltas;  // [n, 4] or [n, 4 classes]
  };
  virtual Boxes boxes(int stage, const Tensor& rois) = 0;   // of [n, bins^2, C]
  virtual Tensor masks(int stage, const Tensor& rois) = 0;  // of [n, bins^2, C], before the
                                                            // sigmoid: [n, side^2, classes or 1]
};

}  // namespace vitrun
