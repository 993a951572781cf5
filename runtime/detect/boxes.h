// Boxes: anchors, deltas, non-maximum suppression. Operations are mmdetection's, in its order, in
// float; exp is the kernels', so that a model finds the same boxes on every machine.
#pragma once

#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "models/graph/detector_info.h"

namespace vitrun {

// Corners in pixels; a box of width w covers w pixels (no "+ 1").
struct Box {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;

  float width() const { return x2 - x1; }
  float height() const { return y2 - y1; }
  bool is_finite() const {
    return std::isfinite(x1) && std::isfinite(y1) && std::isfinite(x2) && std::isfinite(y2);
  }
};

// A box with its score. Boxes of different groups, levels or classes, do not suppress each other.
struct Candidate {
  Box box;
  float score = 0;
  int group = 0;
};

std::vector<Box> boxes_of(std::span<const Candidate> candidates);

// The anchors around the origin, one a ratio and scale, ratio by ratio:
// width = stride scale / sqrt(ratio), height = stride scale sqrt(ratio).
std::vector<Box> base_anchors(const DetectorInfo& info, int stride);

inline Box moved(const Box& box, float x, float y) {
  return {box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y};
}

// Moves boxes by deltas: the centre by dx, dy times the size, the size by exp(dw), exp(dh), with dw
// and dh clamped to |ln(16 / 1000)|; the result is clipped to the image. A delta that is NaN gives
// a box of NaN.
class DeltaDecoder {
 public:
  DeltaDecoder(const std::array<float, 4>& stds, float width, float height);
  Box operator()(const Box& box, const float* delta) const;  // delta is [4]

 private:
  const Kernels& kernels_;
  std::array<float, 4> stds_;
  float width_, height_;
};

// Returns the indices of the first `limit` boxes, best first, that overlap none of their group
// before them by more than `threshold` (intersection over union). Equal scores come by index. A
// candidate whose score is NaN or whose box is not finite is left out.
std::vector<int> nms(std::span<const Candidate> candidates, float threshold, int limit);

}  // namespace vitrun
