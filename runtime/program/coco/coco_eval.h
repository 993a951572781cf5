// COCO's twelve figures of detections, equal to pycocotools', and the curves behind them.
#pragma once

#include <optional>

#include "runtime/program/coco/coco_match.h"

namespace vitrun {

inline constexpr size_t kCocoRecalls = 101;        // 0, .01, ... 1
inline constexpr size_t kCoco50 = 0, kCoco75 = 5;  // indices of thresholds
inline constexpr const char* kCocoFigures[] = {"AP",  "AP50", "AP75",  "APs", "APm", "APl",
                                               "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"};

// Precision at each recall.
using CocoCurve = std::array<double, kCocoRecalls>;

// The curves of one category; nothing where no object counts.
struct CocoCurves {
  // The precision by area and threshold, of at most 100 detections an image.
  std::array<std::optional<std::array<CocoCurve, kCocoThresholds>>, kCocoAreas> precision;
  // The largest recall by area, limit and threshold.
  std::array<std::optional<std::array<std::array<double, kCocoThresholds>, 3>>, kCocoAreas> recall;
};

struct CocoScores {
  std::array<double, std::size(kCocoFigures)> figures{};  // 0..1; -1 where nothing counts
  std::vector<CocoCurves> categories;

  // The mean over thresholds and recalls of one category, for all areas; -1 likewise.
  double category_ap(size_t category) const;
  double category_ap(size_t category, size_t threshold) const;
  // The mean curve of all categories at a threshold, for all areas.
  CocoCurve mean_curve(size_t threshold) const;
};

CocoScores coco_scores(const CocoSet& set, const CocoDetections& detections, CocoKind kind);

}  // namespace vitrun
