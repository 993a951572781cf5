// Reads COCO results.
#include <cmath>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/files/mapped_file.h"
#include "runtime/program/coco/coco_fields.h"

namespace vitrun {
namespace {

using nlohmann::json;

// Reads results, all of which hold what the first one holds: boxes, masks or both.
class DetectionReader {
 public:
  DetectionReader(const CocoSet& set, std::string where) : set_(set), where_(std::move(where)) {}

  void read(const Object& o) {
    check_contents(o);
    const int64_t image = coco_id(o, "image_id"), category = coco_id(o, "category_id");
    CocoDetection d;
    d.image = coco_index(set_.images, image);
    d.category = coco_index(set_.categories, category);
    if (d.image < 0) fail(o.path(), ": no image has the id ", image);
    d.score = coco_finite(o, "score");
    if (d.category < 0) return no_category_.add(category);
    if (out_.masks) {
      d.mask = coco_mask(o, at(set_.images, d.image));
      d.area = static_cast<double>(d.mask.area());
    }
    if (out_.boxes) {
      d.box = coco_box(o);
      d.area = d.box.width * d.box.height;
    }
    out_.found.push_back(std::move(d));
  }

  CocoDetections finish() {
    no_category_.note(where_, "detections", "categories", out_.notes);
    if (!first_ && out_.found.empty()) fail(out_.notes.back(), ", and there are no others");
    return std::move(out_);
  }

 private:
  void check_contents(const Object& o) {
    const bool box = o.has("bbox") && !o.at("bbox").empty(), mask = has_coco_mask(o);
    if (!box && !mask) fail(o.path(), ": neither 'bbox' nor 'segmentation'");
    if (first_) {
      out_.boxes = box;
      out_.masks = mask;
      first_ = false;
    }
    if (box != out_.boxes)
      fail(o.path(), box ? ": a 'bbox', which" : ": no 'bbox', which", " the first detection ",
           box ? "has not" : "has");
    if (mask != out_.masks)
      fail(o.path(), mask ? ": a 'segmentation', which" : ": no 'segmentation', which",
           " the first detection ", mask ? "has not" : "has");
  }

  const CocoSet& set_;
  std::string where_;
  CocoDetections out_;
  bool first_ = true;
  LeftOut no_category_;
};

}  // namespace

CocoDetections parse_coco_detections(std::string_view text, const std::string& where,
                                     const CocoSet& set) {
  DetectionReader reader(set, where);
  const json rest =
      visit_json(text, where, kCocoDepth, [&](const std::string& list, size_t i, const json& item) {
        if (!list.empty()) fail(where, ": expected a list of detections, found an object");
        reader.read({item, cat(where, ": [", i, "]")});
      });
  if (!rest.is_array() || !rest.empty()) fail(where, ": expected a list of detections");
  return reader.finish();
}

CocoDetections read_coco_detections(const std::string& path, const CocoSet& set) {
  const MappedFile file(path);
  return parse_coco_detections(
      {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path, set);
}

}  // namespace vitrun
