// Draws what a detector found over its image.
#pragma once

#include <string>
#include <vector>

#include "runtime/detect/rle.h"
#include "runtime/vision/image.h"

namespace vitrun {

struct DrawnDetection {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // corners of the box, in the image's pixels
  double score = 0;
  std::string label;  // UTF-8
  Rle mask;           // at the image's size; none where it has no counts
};

// Draws masks half transparent, boxes, and labels with scores, the first detection on top. Each has
// one of seven colours in turn, which people with any colour blindness tell apart. A label keeps
// inside the picture and off those of detections before it where there is room; one that does not
// fit is shortened, or left out of a picture of a few pixels. Coordinates may be any numbers. Fails
// on a mask of another size.
void draw_detections(const std::vector<DrawnDetection>& detections, Image& image);

}  // namespace vitrun
