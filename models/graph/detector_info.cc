#include "models/graph/detector_info.h"

#include <cmath>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

constexpr int kMaxEdge = 8192;      // the scaled image, 800 MB of floats at most
constexpr int kMaxLevels = 8;       // of the pyramid
constexpr int kMaxBoxes = 16384;    // before and after an NMS
constexpr int kMaxAnchors = 64;     // a position
constexpr float kMaxNumber = 1e6f;  // scales, ratios, deviations

void check_whole(const char* what, int value, int low, int high) {
  if (value < low || value > high)
    fail("detector: ", what, " is ", value, ", expected ", low, "..", high);
}

void check_share(const char* what, float value) {
  if (!(value >= 0 && value <= 1)) fail("detector: ", what, " is ", value, ", expected 0..1");
}

void check_positive(const char* what, float value) {
  if (!(value > 0 && value <= kMaxNumber))
    fail("detector: ", what, " is ", value, ", expected a number above 0 and at most ", kMaxNumber);
}

void check_strides(const std::vector<int>& strides) {
  check_whole("the number of strides", count_of(strides), 1, kMaxLevels);
  for (size_t i = 0; i < strides.size(); i++)
    if (strides[i] < 1 || strides[i] > kMaxEdge || (i > 0 && strides[i] <= strides[i - 1]))
      fail("detector: stride ", strides[i], " of level ", i, ", expected rising ones of 1..",
           kMaxEdge);
}

void check_anchors(const DetectorInfo& info) {
  check_strides(info.strides);
  if (info.scales.empty() || info.ratios.empty() ||
      info.scales.size() > kMaxAnchors / info.ratios.size())
    fail("detector: ", info.scales.size(), " scales and ", info.ratios.size(),
         " ratios of anchors, expected 1..", kMaxAnchors, " of both multiplied");
  for (float scale : info.scales) check_positive("a scale of anchors", scale);
  for (float ratio : info.ratios) check_positive("a ratio of anchors", ratio);
}

}  // namespace

void check_detector_info(const DetectorInfo& info) {
  check_whole("shortest_edge", info.shortest_edge, 1, kMaxEdge);
  check_whole("longest_edge", info.longest_edge, 1, kMaxEdge);
  check_whole("size_divisor", info.size_divisor, 1, 1024);
  check_anchors(info);
  check_whole("rpn pre_nms", info.rpn_pre_nms, 1, kMaxBoxes);
  check_whole("rpn post_nms", info.rpn_post_nms, 1, kMaxBoxes);
  check_share("rpn nms_threshold", info.rpn_nms_threshold);
  if (!(info.rpn_min_size >= 0)) fail("detector: rpn min_size is ", info.rpn_min_size);
  check_share("score_threshold", info.score_threshold);
  check_share("nms_threshold", info.nms_threshold);
  check_whole("max_detections", info.max_detections, 1, kMaxBoxes);
  check_whole("stages", info.stages, 1, 8);
  if (count_of(info.stds) != info.stages)
    fail("detector: deviations of ", info.stds.size(), " stages, expected ", info.stages);
  for (const std::array<float, 4>& stds : info.stds)
    for (float std : stds) check_positive("a deviation of deltas", std);
  check_whole("box_bins", info.box_bins, 1, 32);
  check_whole("mask_bins", info.mask_bins, 1, 32);
}

}  // namespace vitrun
