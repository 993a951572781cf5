// Masks and boxes against pycocotools (tests/golden/make_coco.py).
#include <nlohmann/json.hpp>

#include "runtime/program/coco/coco_masks.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;
using nlohmann::json;

namespace {

json golden_json(const std::string& name) {
  return json::parse(read_bytes(golden("coco/" + name)));
}

Rle mask_of(const json& polygons, int height, int width) {
  Rle mask;
  for (const auto& p : polygons) {
    const Rle part = rle_of_polygon(p.get<std::vector<double>>(), height, width);
    mask = mask.counts.empty() ? part : rle_union(mask, part);
  }
  return mask;
}

}  // namespace

TEST_CASE("COCO masks: polygons, their unions, areas and overlaps are pycocotools'") {
  for (const json& c : golden_json("masks.json")) {
    const int height = c["height"], width = c["width"];
    std::vector<Rle> masks;
    for (size_t i = 0; i < c["polygons"].size(); i++) {
      masks.push_back(mask_of(c["polygons"][i], height, width));
      INFO(height, "x", width, " ", c["polygons"][i].dump());
      CHECK(rle_text(masks[i]) == c["counts"][i].get<std::string>());
      CHECK(masks[i].area() == c["area"][i].get<int64_t>());
    }
    for (size_t d = 0; d < masks.size(); d++)
      for (size_t o = 0; o < masks.size(); o++) {
        CHECK(mask_overlap(masks[d], masks[o], false) == c["overlap"][d][o].get<double>());
        CHECK(mask_overlap(masks[d], masks[o], true) == c["crowd_overlap"][d][o].get<double>());
      }
  }
}

TEST_CASE("COCO boxes: overlaps are pycocotools' to the bit") {
  const json c = golden_json("boxes.json");
  const auto box = [&](size_t i) {
    const auto b = c["boxes"][i].get<std::vector<double>>();
    return CocoBox{b[0], b[1], b[2], b[3]};
  };
  for (size_t d = 0; d < c["boxes"].size(); d++)
    for (size_t o = 0; o < c["boxes"].size(); o++) {
      CHECK(box_overlap(box(d), box(o), false) == c["overlap"][d][o].get<double>());
      CHECK(box_overlap(box(d), box(o), true) == c["crowd_overlap"][d][o].get<double>());
    }
}

TEST_CASE("COCO masks: empty runs within a mask change no overlap") {
  const Rle whole = {2, 4, {0, 8}}, right = {2, 4, {4, 4}};
  const Rle split = {2, 4, {0, 2, 0, 3, 0, 0, 0, 3}}, none = {2, 4, {8, 0}};
  CHECK(mask_overlap(split, whole, false) == 1);
  CHECK(mask_overlap(whole, split, false) == 1);
  CHECK(mask_overlap(right, split, false) == .5);
  CHECK(mask_overlap(right, split, true) == 1);
  CHECK(mask_overlap(none, none, false) == 0);
  CHECK(rle_text(rle_union(split, none)) == rle_text(whole));
}

TEST_CASE("COCO masks: a polygon with an endless boundary is refused") {
  std::vector<double> far;
  for (int i = 0; i < 40; i++) far.insert(far.end(), {i % 2 ? -1e5 : 1e5, 0});
  CHECK(error_of([&] { rle_of_polygon(far, 5, 5); }).find("at most 3355443") != std::string::npos);
  // Far points themselves are fine.
  CHECK(rle_of_polygon(std::vector<double>{-1e5, -1e5, -1e5, 1e5, 1e5, 1e5, 1e5, -1e5}, 5, 5)
            .area() == 25);
}
