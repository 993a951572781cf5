// Masks as pycocotools computes with them: from polygons, unions, overlaps. Runs are exact.
#pragma once

#include <span>

#include "runtime/detect/rle.h"
#include "runtime/program/coco/coco_set.h"

namespace vitrun {

inline constexpr double kMaxCocoCoordinate = 1e5;  // of a polygon's points, either sign

// The pixels inside a polygon x, y, x, y, ... by the parity of the boundary's crossings of pixel
// columns, on a grid of fifths of a pixel, as pycocotools (rleFrPoly) has it. There are three
// points or more. Fails if its boundary is longer than 2^24 fifths of a pixel.
Rle rle_of_polygon(std::span<const double> points, int height, int width);

// The pixels in either of two masks of one size.
Rle rle_union(const Rle& a, const Rle& b);

// Intersection over union; over the detection's own area where the object is a crowd. Masks are of
// one size. Areas of 0 have no overlap.
double mask_overlap(const Rle& detection, const Rle& object, bool crowd);
double box_overlap(const CocoBox& detection, const CocoBox& object, bool crowd);

}  // namespace vitrun
