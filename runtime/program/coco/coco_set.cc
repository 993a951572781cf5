// Reads instances.json.
#include "runtime/program/coco/coco_set.h"

#include <algorithm>
#include <set>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/files/mapped_file.h"
#include "runtime/program/coco/coco_fields.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {
namespace {

using nlohmann::json;

template <class Entry>
int index_of(const std::vector<Entry>& sorted, int64_t id) {
  const auto it = std::ranges::lower_bound(sorted, id, {}, &Entry::id);
  return it != sorted.end() && it->id == id ? static_cast<int>(it - sorted.begin()) : -1;
}

template <class Entry>
void sort_by_id(std::vector<Entry>& entries, const std::string& where, const char* list) {
  std::ranges::stable_sort(entries, {}, &Entry::id);
  const auto twice = std::ranges::adjacent_find(entries, {}, &Entry::id);
  if (twice != entries.end()) fail(where, ": ", list, ": the id ", twice->id, " appears twice");
}

int side_of(const Object& o, const char* key) {
  const int side = o.integer(key);
  if (side > kMaxImageSide) o.bad(key, cat("at most ", kMaxImageSide).c_str());
  return side;
}

CocoImage read_image(const Object& o) {
  return {coco_id(o, "id"), side_of(o, "width"), side_of(o, "height"),
          o.has("file_name") ? o.text("file_name") : ""};
}

bool is_crowd(const Object& o) {
  if (!o.has("iscrowd")) return false;
  const json& flag = o.at("iscrowd");
  if (flag != 0 && flag != 1 && !flag.is_boolean()) o.bad("iscrowd", "0 or 1");
  return flag != 0 && flag != false;
}

// Reads annotations; images and categories of the set are known.
class ObjectReader {
 public:
  ObjectReader(CocoSet& set, std::string where) : set_(set), where_(std::move(where)) {}

  void read(const Object& o) {
    const int64_t id = coco_id(o, "id"), image = coco_id(o, "image_id"),
                  category = coco_id(o, "category_id");
    if (!ids_.insert(id).second) fail(o.path(), ": the id ", id, " appears twice");
    CocoObject object;
    object.image = coco_index(set_.images, image);
    object.category = coco_index(set_.categories, category);
    if (object.image < 0) return no_image_.add(image);
    if (object.category < 0) return no_category_.add(category);
    object.box = coco_box(o);
    object.area = coco_finite(o, "area");
    object.crowd = is_crowd(o);
    if (has_coco_mask(o))
      object.mask = coco_mask(o, at(set_.images, object.image));
    else if (set_.no_masks.empty())
      set_.no_masks = o.path() + " has no mask";
    set_.objects.push_back(std::move(object));
  }

  void finish() {
    no_image_.note(where_, "annotations", "images", set_.notes);
    no_category_.note(where_, "annotations", "categories", set_.notes);
    if (ids_.contains(0))
      set_.notes.push_back(cat(where_, ": an annotation has the id 0; it counts here, while ",
                               "pycocotools never sees it found"));
  }

 private:
  CocoSet& set_;
  std::string where_;
  std::set<int64_t> ids_;
  LeftOut no_image_, no_category_;
};

void check_lists(const json& rest, const std::string& where) {
  if (!rest.is_object()) fail(where, ": expected an object with 'images', as instances.json is");
  for (const char* list : {"images", "categories", "annotations"}) {
    if (!rest.contains(list)) fail(where, ": no '", list, "'");
    if (!rest[list].is_array() || !rest[list].empty())
      fail(where, ": '", list, "' is no list of objects");
  }
}

}  // namespace

int coco_index(const std::vector<CocoImage>& images, int64_t id) {
  return index_of(images, id);
}

int coco_index(const std::vector<CocoCategory>& categories, int64_t id) {
  return index_of(categories, id);
}

CocoSet parse_coco_set(std::string_view text, const std::string& where) {
  CocoSet set;
  const json rest =
      visit_json(text, where, kCocoDepth, [&](const std::string& list, size_t i, const json& item) {
        if (list != "images" && list != "categories") return;
        const Object o(item, cat(where, ": ", list, "[", i, "]"));
        if (list == "images")
          set.images.push_back(read_image(o));
        else
          set.categories.push_back({coco_id(o, "id"), o.text("name")});
      });
  check_lists(rest, where);
  sort_by_id(set.images, where, "images");
  sort_by_id(set.categories, where, "categories");
  if (set.images.empty()) fail(where, ": no images");
  if (set.categories.empty()) fail(where, ": no categories");
  ObjectReader reader(set, where);
  // Annotations come second, wherever they stand: polygons need the sides of their image.
  visit_json(text, where, kCocoDepth, [&](const std::string& list, size_t i, const json& item) {
    if (list == "annotations") reader.read({item, cat(where, ": annotations[", i, "]")});
  });
  reader.finish();
  return set;
}

CocoSet read_coco_set(const std::string& path) {
  const MappedFile file(path);
  return parse_coco_set({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                        path);
}

}  // namespace vitrun
