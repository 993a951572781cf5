#include "runtime/program/coco/coco_fields.h"

#include <array>
#include <cmath>

#include "models/base/error.h"
#include "models/base/listed.h"
#include "runtime/program/coco/coco_masks.h"

namespace vitrun {
namespace {

using nlohmann::json;

constexpr double kMaxId = 9007199254740992;  // 2^53

std::vector<double> polygon_of(const Object& o, const json& list) {
  if (!list.is_array() || list.size() < 6 || list.size() % 2 != 0)
    o.bad("segmentation", "polygons [x, y, x, y, ...] of three points or more");
  std::vector<double> points;
  for (const json& v : list) {
    const double x = v.is_number() ? v.get<double>() : NAN;
    if (!(std::abs(x) <= kMaxCocoCoordinate))
      o.bad("segmentation", "polygons with coordinates of -100000 to 100000");
    points.push_back(x);
  }
  return points;
}

// Runs something whose messages do not know the place.
template <class Make>
Rle made_at(const Object& o, Make make) {
  try {
    return make();
  } catch (const Error& e) {
    fail(o.path(), ": ", e.what());
  }
}

Rle mask_of_polygons(const Object& o, const CocoImage& image) {
  Rle mask;
  for (const json& list : o.at("segmentation")) {
    const std::vector<double> points = polygon_of(o, list);
    Rle part = made_at(o, [&] { return rle_of_polygon(points, image.height, image.width); });
    mask = mask.counts.empty() ? std::move(part) : rle_union(mask, part);
  }
  return mask;
}

// Runs that are a list of numbers.
Rle mask_of_runs(const Object& o, const json& runs, const CocoImage& image) {
  Rle mask = {image.height, image.width, {}};
  const int64_t pixels = int64_t{image.height} * image.width;
  int64_t sum = 0;
  for (const json& run : runs) {
    const double count = run.is_number() ? run.get<double>() : -1;
    if (!(count >= 0 && count <= static_cast<double>(pixels - sum)) || count != std::floor(count))
      o.bad("counts", "the lengths of runs that make up the image");
    mask.counts.push_back(static_cast<uint32_t>(count));
    sum += mask.counts.back();
  }
  if (sum != pixels)
    fail(o.path(), ": 'counts' are of ", sum, " pixels, expected ", image.height, " x ",
         image.width);
  return mask;
}

}  // namespace

int64_t coco_id(const Object& o, const char* key) {
  const double id = o.number(key);
  if (!(std::abs(id) <= kMaxId) || id != std::floor(id)) o.bad(key, "an integer");
  return static_cast<int64_t>(id);
}

double coco_finite(const Object& o, const char* key) {
  const double x = o.number(key);
  if (!std::isfinite(x)) o.bad(key, "a finite number");
  return x;
}

CocoBox coco_box(const Object& o) {
  const json& list = o.at("bbox");
  std::array<double, 4> sides{};
  if (!list.is_array() || list.size() != sides.size()) o.bad("bbox", "[x, y, width, height]");
  for (size_t i = 0; i < sides.size(); i++) {
    sides[i] = list[i].is_number() ? list[i].get<double>() : NAN;
    if (!(std::abs(sides[i]) < kMaxId)) o.bad("bbox", "four numbers");
  }
  if (sides[2] < 0 || sides[3] < 0) o.bad("bbox", "a width and a height of 0 or more");
  return {sides[0], sides[1], sides[2], sides[3]};
}

bool has_coco_mask(const Object& o) {
  return o.has("segmentation") && !o.at("segmentation").empty();
}

Rle coco_mask(const Object& o, const CocoImage& image) {
  if (o.at("segmentation").is_array()) return mask_of_polygons(o, image);
  if (!o.at("segmentation").is_object())
    o.bad("segmentation", "a list of polygons or {\"size\", \"counts\"}");
  const Object rle = o.object("segmentation");
  if (rle.at("size") != json{image.height, image.width})
    rle.bad("size", cat("[", image.height, ", ", image.width, "], as the image has").c_str());
  const json& counts = rle.at("counts");
  if (counts.is_array()) return mask_of_runs(rle, counts, image);
  const std::string text = rle.text("counts");
  return made_at(rle, [&] { return rle_of_text(text, image.height, image.width); });
}

void LeftOut::note(const std::string& where, const char* what, const char* of,
                   std::vector<std::string>& notes) const {
  std::vector<std::string> ids;
  int64_t sum = 0;
  for (const auto& [id, count] : counts_) {
    ids.push_back(std::to_string(id));
    sum += count;
  }
  if (sum)
    notes.push_back(cat(where, ": ", sum, " ", what, " of ", of, " that are not listed (",
                        listed(ids, 5, ""), ") do not count"));
}

}  // namespace vitrun
