// How far two detectors agree on the same images, whatever the objects are.
#pragma once

#include "runtime/program/coco/coco_set.h"

namespace vitrun {

inline constexpr double kSureScore = 0.5;     // detections from here on are compared
inline constexpr double kSameOverlap = 0.75;  // of the boxes of one object

struct CocoAgreement {
  int64_t reference = 0, found = 0;  // sure detections of either
  int64_t both = 0;        // pairs of one class whose boxes overlap by kSameOverlap at least
  double box_overlap = 0;  // the mean intersection over union of the pairs; 0 of none
  double mask_overlap = 0;
};

// Pairs detections image by image and class by class, those of greatest overlap first.
CocoAgreement coco_agreement(const CocoDetections& detections, const CocoDetections& reference);

}  // namespace vitrun
