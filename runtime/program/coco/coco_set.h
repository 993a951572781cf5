// Annotated images as COCO's instances.json has them, and what a detector found on them.
//
// Images and categories are sorted by id, which is the order in which pycocotools counts; objects
// and detections name them by index, and keep the order of their file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/detect/rle.h"

namespace vitrun {

struct CocoBox {
  double x = 0, y = 0, width = 0, height = 0;  // the upper left corner; in pixels
};

struct CocoImage {
  int64_t id = 0;
  int width = 0, height = 0;
  std::string file;  // as the file calls it; may be empty
};

struct CocoCategory {
  int64_t id = 0;
  std::string name;
};

struct CocoObject {
  int image = 0, category = 0;
  CocoBox box;
  double area = 0;     // as stated, which decides between small, medium and large
  bool crowd = false;  // a group, which may match any number of detections and never counts
  Rle mask;
};

struct CocoSet {
  std::vector<CocoImage> images;
  std::vector<CocoCategory> categories;
  std::vector<CocoObject> objects;
  std::string no_masks;            // why some objects have no mask; empty where all have one
  std::vector<std::string> notes;  // what was left out, and why
};

struct CocoDetection {
  int image = 0, category = 0;
  double score = 0;
  CocoBox box;
  double area = 0;  // that of the box; of the mask in results without boxes
  Rle mask;
};

struct CocoDetections {
  std::vector<CocoDetection> found;
  bool boxes = true, masks = false;  // which of them all detections have
  std::vector<std::string> notes;
};

// The index of an id in images or categories, -1 where it has none.
int coco_index(const std::vector<CocoImage>& images, int64_t id);
int coco_index(const std::vector<CocoCategory>& categories, int64_t id);

// Both read JSON and fail, naming the file, the entry and the key, on what pycocotools would fail
// on or misread: other types, ids that appear twice or that no image has, sides outside of
// 1..kMaxImageSide, masks of another size than their image. What is of a category or, in
// annotations, of an image that is not listed does not count, and a note says so.
CocoSet read_coco_set(const std::string& path);
CocoDetections read_coco_detections(const std::string& path, const CocoSet& set);

// The same of text in memory.
CocoSet parse_coco_set(std::string_view text, const std::string& where);
CocoDetections parse_coco_detections(std::string_view text, const std::string& where,
                                     const CocoSet& set);

}  // namespace vitrun
