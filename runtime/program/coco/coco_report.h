// Reports of detections: a table, a JSON object, a page with curves.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "runtime/program/coco/coco_agreement.h"
#include "runtime/program/coco/coco_eval.h"

namespace vitrun {

struct CocoReport {
  const CocoSet& set;
  const CocoDetections& detections;
  std::optional<CocoScores> boxes, masks;  // of what both the set and the detections have
  // The scores of another detector on the same images, and how far the two agree.
  std::optional<CocoScores> reference_boxes, reference_masks;
  std::optional<CocoAgreement> agreement;
};

// Scores boxes and masks.
CocoReport make_coco_report(const CocoSet& set, const CocoDetections& detections);
// Scores the reference's detections and compares.
void add_coco_reference(const CocoDetections& reference, CocoReport& report);

// A line a figure, 0..1, "none" where no object counts.
std::string coco_table(const CocoReport& report);
// {"images", "categories", "objects", "crowds", "detections", "bbox": {"AP", ...}, "segm",
// "by_category"}; figures are pycocotools', -1 where no object counts. With a reference also
// "reference_bbox", "reference_segm" and "agreement".
nlohmann::ordered_json coco_json(const CocoReport& report);
// `title` names the detections, for people.
std::string coco_page(const CocoReport& report, const std::string& title);

}  // namespace vitrun
