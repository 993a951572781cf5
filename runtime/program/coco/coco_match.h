// Finds which detections found which objects, as COCO does (cocoeval.py: evaluateImg).
#pragma once

#include <array>
#include <vector>

#include "runtime/program/coco/coco_set.h"

namespace vitrun {

enum class CocoKind { kBoxes, kMasks };

inline constexpr size_t kCocoThresholds = 10;       // of intersection over union: .50, .55, ... .95
inline constexpr size_t kCocoAreas = 4;             // all, small, medium, large
inline constexpr int kCocoLimits[] = {1, 10, 100};  // detections of a category on an image

// The thresholds as numpy.linspace(.5, .95, 10) has them, to the bit.
std::array<double, kCocoThresholds> coco_thresholds();

enum class CocoOutcome : uint8_t { kFalse, kTrue, kIgnored };

struct MatchedDetection {
  double score = 0;
  int rank = 0;  // on its image, by score: below kCocoLimits[2]
  std::array<std::array<CocoOutcome, kCocoThresholds>, kCocoAreas> outcomes{};
};

// One category on all images.
struct CategoryMatches {
  std::vector<MatchedDetection> detections;   // image by image, best first
  std::array<int64_t, kCocoAreas> objects{};  // that count: no crowds, of the right area
};

// Returns the matches of every category.
//
// Detections go by score, equal ones in the order of their file. Each takes the object of the
// greatest overlap that no better one took, of at least the threshold; of equal overlaps the later
// object's. Crowds and objects outside of the range of areas are taken where no other fits, and a
// detection that took one is ignored, as is one outside of the range that took nothing.
std::vector<CategoryMatches> match_categories(const CocoSet& set, const CocoDetections& detections,
                                              CocoKind kind);

}  // namespace vitrun
