// The fields of COCO's objects, for the readers of annotations and results.
#pragma once

#include <map>

#include "models/checkpoints/json_object.h"
#include "runtime/program/coco/coco_set.h"

namespace vitrun {

inline constexpr int kCocoDepth = 5;  // {"annotations": [{"segmentation": [[...]]}]}, and one more

// An integer of 53 bits, also one that is written with a point (12.0).
int64_t coco_id(const Object& o, const char* key);
double coco_finite(const Object& o, const char* key);
CocoBox coco_box(const Object& o);

// Whether an entry holds a mask at all: COCO's files without masks have [] or no key.
bool has_coco_mask(const Object& o);
// Reads polygons, {"size", "counts"} with a list of runs, or with their text.
Rle coco_mask(const Object& o, const CocoImage& image);

// Counts what is left out by the id that made it so, for one note on all of them.
class LeftOut {
 public:
  void add(int64_t id) { counts_[id]++; }
  // "3 annotations of categories that are not listed (7, 9) do not count", if there are any.
  void note(const std::string& where, const char* what, const char* of,
            std::vector<std::string>& notes) const;

 private:
  std::map<int64_t, int64_t> counts_;
};

}  // namespace vitrun
