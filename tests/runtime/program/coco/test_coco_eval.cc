// COCO's figures against pycocotools (tests/golden/make_coco.py), and what the readers refuse.
#include <nlohmann/json.hpp>

#include "runtime/program/coco/coco_report.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;
using nlohmann::json;

namespace {

constexpr double kSumError =
    1e-12;  // means of some thousand numbers up to 1, added in another order

json golden_json(const std::string& name) {
  return json::parse(read_bytes(golden("coco/" + name)));
}

void check_near(double found, const json& expected) {
  CHECK(std::abs(found - expected.get<double>()) <= kSumError);
}

void check_scores(const CocoScores& scores, const json& expected) {
  for (size_t i = 0; i < scores.figures.size(); i++) {
    INFO(kCocoFigures[i]);
    check_near(scores.figures[i], expected["figures"][i]);
  }
  for (size_t k = 0; k < scores.categories.size(); k++)
    check_near(scores.category_ap(k), expected["by_category"][k]);
  const CocoCurve curves[] = {scores.mean_curve(kCoco50), scores.mean_curve(kCoco75)};
  for (size_t c = 0; c < 2; c++)
    for (size_t r = 0; r < kCocoRecalls; r++) check_near(curves[c][r], expected["curves"][c][r]);
}

// A set of one image, 20 wide and 10 high, two categories and an object.
const json kSet = {{"images", {{{"id", 1}, {"width", 20}, {"height", 10}}}},
                   {"categories", {{{"id", 1}, {"name", "a"}}, {{"id", 2}, {"name", "b"}}}},
                   {"annotations",
                    {{{"id", 1},
                      {"image_id", 1},
                      {"category_id", 1},
                      {"area", 6},
                      {"bbox", {1, 1, 3, 2}},
                      {"segmentation", json::array({{1, 1, 4, 1, 4, 3, 1, 3}})}}}}};
const json kFound = {{"image_id", 1}, {"category_id", 1}, {"score", .5}, {"bbox", {1, 1, 3, 2}}};

CocoSet small_set(const json& set = kSet) {
  return parse_coco_set(set.dump(), "s.json");
}

std::string refusal(const json& set) {
  return error_of([&] { small_set(set); });
}

std::string refusal_of_results(const json& results) {
  return error_of([&] { parse_coco_detections(results.dump(), "r.json", small_set()); });
}

json changed(json value, const std::string& pointer, const json& to) {
  value[json::json_pointer(pointer)] = to;
  return value;
}

}  // namespace

TEST_CASE("COCO figures: equal to pycocotools' on golden detections") {
  for (const char* name :
       {"plain", "crowds", "ties", "hundred", "boxes_alone", "masks_alone", "unlisted"}) {
    INFO(name);
    const CocoSet set = read_coco_set(golden(std::string("coco/") + name + ".instances.json"));
    const CocoDetections found =
        read_coco_detections(golden(std::string("coco/") + name + ".results.json"), set);
    const CocoReport report = make_coco_report(set, found);
    const json expected = golden_json(std::string(name) + ".expected.json");
    REQUIRE(report.boxes.has_value() == expected.contains("bbox"));
    REQUIRE(report.masks.has_value() == expected.contains("segm"));
    if (report.boxes) check_scores(*report.boxes, expected["bbox"]);
    if (report.masks) check_scores(*report.masks, expected["segm"]);
  }
}

TEST_CASE("COCO figures: thresholds are numpy's to the bit") {
  const json expected = golden_json("thresholds.json");
  const auto thresholds = coco_thresholds();
  for (size_t i = 0; i < thresholds.size(); i++) CHECK(thresholds[i] == expected[i].get<double>());
}

TEST_CASE("COCO figures: nothing found is 0, and -1 where nothing is to be found") {
  const CocoSet set = small_set();
  const CocoDetections none = parse_coco_detections("[]", "r.json", set);
  const CocoReport report = make_coco_report(set, none);
  REQUIRE(report.boxes);
  CHECK(report.boxes->figures == std::array<double, 12>{0, 0, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1});
  CHECK(report.boxes->category_ap(0) == 0);
  CHECK(report.boxes->category_ap(1) == -1);
}

TEST_CASE("COCO figures: an annotation with the id 0 can be found, and is named") {
  const CocoSet set = small_set(changed(kSet, "/annotations/0/id", 0));
  REQUIRE(set.notes.size() == 1);
  CHECK(set.notes[0].find("the id 0") != std::string::npos);
  const CocoDetections found = parse_coco_detections(json{kFound}.dump(), "r.json", set);
  CHECK(make_coco_report(set, found).boxes->figures[0] > .999999);
}

TEST_CASE("COCO sets: annotations before images, ids with a point, flags as true and false") {
  json set = changed(kSet, "/annotations/0/image_id", 1.0);
  set["annotations"][0]["iscrowd"] = true;
  const std::string text = "{\"annotations\":" + set["annotations"].dump() +
                           ",\"info\":{\"a\":{}},\"images\":" + set["images"].dump() +
                           ",\"categories\":" + set["categories"].dump() + "}";
  const CocoSet read = parse_coco_set(text, "s.json");
  REQUIRE(read.objects.size() == 1);
  CHECK(read.objects[0].crowd);
  CHECK(read.objects[0].mask.area() == 6);
}

TEST_CASE("COCO sets: what is not surely right is refused with its place and reason") {
  const std::string a = "/annotations/0/";
  const json runs = {{"size", {10, 20}}, {"counts", {100, 100}}};
  const std::tuple<std::string, json, std::string> cases[] = {
      {"/images/0/width", 0, "s.json: images[0]: 'width' is 0"},
      {"/images/0/width", 40000, "at most 32768"},
      {"/images/0/id", "1", "'id' is \"1\", expected a number"},
      {"/images/1", kSet["images"][0], "images: the id 1 appears twice"},
      {"/images/1", 7, "'images' is no list of objects"},
      {"/images", json::array(), "no images"},
      {"/categories", json::object(), "'categories' is no list of objects"},
      {"/categories/1/id", 1, "categories: the id 1 appears twice"},
      {"/annotations/1", kSet["annotations"][0], "annotations[1]: the id 1 appears twice"},
      {a + "id", 1.5, "annotations[0]: 'id' is 1.5, expected an integer"},
      {a + "area", nullptr, "annotations[0]: no 'area'"},
      {a + "iscrowd", 2, "'iscrowd' is 2, expected 0 or 1"},
      {a + "bbox", {1, 2, 3}, "expected [x, y, width, height]"},
      {a + "bbox", {1, 2, -3, 4}, "a width and a height of 0 or more"},
      {a + "segmentation", "x", "a list of polygons or"},
      {a + "segmentation", {1, 2, 3, 4, 5, 6}, "polygons [x, y, x, y, ...]"},
      {a + "segmentation/0", {1, 2, 3, 4}, "three points"},
      {a + "segmentation/0", {1, 2, 3, 4, 5, 6, 7}, "polygons [x, y, x, y, ...]"},
      {a + "segmentation/0/0", 1e9, "-100000 to 100000"},
      {a + "segmentation", changed(runs, "/size", {20, 10}), "expected [10, 20], as the image has"},
      {a + "segmentation", changed(runs, "/counts", {100, 99}), "of 199 pixels, expected 10 x 20"},
      {a + "segmentation", changed(runs, "/counts", {100, 101}), "the lengths of runs"},
      {a + "segmentation", changed(runs, "/counts", {-1, 201}), "the lengths of runs"},
      {a + "segmentation", changed(runs, "/counts", "00"), "segmentation: RLE: counts of 0 pixels"},
      {a + "segmentation", changed(runs, "/counts", "\x7f"), "a character outside"},
  };
  for (const auto& [pointer, value, reason] : cases) {
    const std::string said = refusal(changed(kSet, pointer, value));
    INFO(pointer, " ", said);
    CHECK(said.starts_with("s.json: "));
    CHECK(said.find(reason) != std::string::npos);
  }
  for (const auto& [text, reason] : std::initializer_list<std::pair<std::string, std::string>>{
           {"", "is not valid JSON"},
           {"[]", "expected an object with 'images'"},
           {"{}", "no 'images'"},
           {R"({"images":[{"id":1,"id":2}]})", "the key 'id' appears twice"},
           {R"({"images":[[[[[[]]]]]]})", "nested deeper"}}) {
    INFO(text);
    CHECK(error_of([&] { parse_coco_set(text, "s.json"); }).find(reason) != std::string::npos);
  }
}

TEST_CASE("COCO sets: many objects outside of lists end the reading") {
  std::string text = R"({"images":[{"x":[)";
  for (int i = 0; i < 2000; i++) text += i ? ",{}" : "{}";
  CHECK(error_of([&] { parse_coco_set(text + "]}]}", "s.json"); }).find("more than 1000 objects") !=
        std::string::npos);
}

TEST_CASE("COCO sets: annotations of what is not listed do not count, and one without a mask") {
  json set = changed(kSet, "/annotations/1", changed(kSet["annotations"][0], "/id", 2));
  set["annotations"][2] = set["annotations"][3] = kSet["annotations"][0];
  set["annotations"][1]["category_id"] = 9;
  set["annotations"][2]["id"] = 3;
  set["annotations"][2]["image_id"] = 7;
  set["annotations"][3]["id"] = 4;
  set["annotations"][3]["segmentation"] = json::array();
  const CocoSet read = small_set(set);
  CHECK(read.objects.size() == 2);
  CHECK(read.no_masks == "s.json: annotations[3] has no mask");
  CHECK(read.notes == std::vector<std::string>{
                          "s.json: 1 annotations of images that are not listed (7) do not count",
                          "s.json: 1 annotations of categories that are not listed (9) do not "
                          "count"});
}

TEST_CASE("COCO results: what is not surely right is refused with its place and reason") {
  const json masked =
      changed(kFound, "/segmentation", {{"size", {10, 20}}, {"counts", {100, 100}}});
  const std::pair<json, std::string> cases[] = {
      {changed(kFound, "/image_id", 3), "r.json: [0]: no image has the id 3"},
      {changed(kFound, "/image_id", "1"), "'image_id' is \"1\", expected a number"},
      {changed(kFound, "/score", nullptr), "no 'score'"},
      {changed(kFound, "/score", "high"), "'score' is \"high\", expected a number"},
      {changed(kFound, "/bbox", json::array()), "neither 'bbox' nor 'segmentation'"},
      {changed(kFound, "/bbox/0", "1"), "expected four numbers"},
      {changed(kFound, "/category_id", 5),
       "categories that are not listed (5) do not count, and there are no others"},
      {changed(masked, "/segmentation/size", {20, 10}), "as the image has"},
  };
  for (const auto& [entry, reason] : cases) {
    const std::string said = refusal_of_results(json::array({entry}));
    INFO(said);
    CHECK(said.find(reason) != std::string::npos);
  }
  const auto both = [&](const json& a, const json& b) {
    return refusal_of_results(json::array({a, b}));
  };
  CHECK(both(kFound, masked) == "r.json: [1]: a 'segmentation', which the first detection has not");
  CHECK(both(masked, kFound) == "r.json: [1]: no 'segmentation', which the first detection has");
  CHECK(refusal_of_results(json::object()) == "r.json: expected a list of detections");
  CHECK(refusal_of_results({1}) == "r.json: expected a list of detections");
  CHECK(refusal_of_results({{"annotations", {kFound}}}) ==
        "r.json: expected a list of detections, found an object");
}

TEST_CASE("COCO page: categories are escaped, curves drawn") {
  const CocoSet set = small_set(changed(kSet, "/categories/0/name", "<cat & dog>"));
  const CocoDetections found = parse_coco_detections(json{kFound}.dump(), "r.json", set);
  const std::string page = coco_page(make_coco_report(set, found), "<found>");
  CHECK(page.find("&lt;cat &amp; dog>") != std::string::npos);
  CHECK(page.find("<cat") == std::string::npos);
  CHECK(page.find("<found>") == std::string::npos);
  CHECK(page.find("IoU .75") != std::string::npos);
}
