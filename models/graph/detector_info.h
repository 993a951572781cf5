// The numbers of a detector beside its graphs and its ModelInfo: sizes, anchors, thresholds. Plain
// data; a .qbin stores it. The defaults are mmdetection's for Mask R-CNN.
#pragma once

#include <array>
#include <vector>

namespace vitrun {

struct DetectorInfo {
  int shortest_edge = 800, longest_edge = 1333;  // the image is scaled to touch one of them
  int size_divisor = 32;                         // and padded to multiples of this
  std::vector<float> scales = {8};               // of anchors, in strides
  std::vector<float> ratios = {0.5f, 1, 2};      // height / width of anchors
  std::vector<int> strides = {4, 8, 16, 32, 64};
  int rpn_pre_nms = 1000;   // boxes of a level before NMS
  int rpn_post_nms = 1000;  // boxes of all levels after it
  float rpn_nms_threshold = 0.7f;
  float rpn_min_size = 0;  // a proposal's sides are larger
  float score_threshold = 0.05f, nms_threshold = 0.5f;
  int max_detections = 100;
  int stages = 1;  // box heads and mask heads: 3 in a cascade
  std::vector<std::array<float, 4>> stds = {{0.1f, 0.1f, 0.2f, 0.2f}};  // of each stage's deltas
  int box_bins = 7, mask_bins = 14;

  int anchors() const { return static_cast<int>(scales.size() * ratios.size()); }  // a position
};

// Fails on numbers that no detector has, which would cost memory or time without bound.
void check_detector_info(const DetectorInfo& info);

}  // namespace vitrun
