// Anchors, deltas and NMS against mmdetection (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/boxes.h"
#include "runtime/detect/logit_scores.h"
#include "tests/runtime/detect/detect_golden.h"

using namespace vitrun;

namespace {

// A few anchors of the map's first and last positions are one line of the file.
void check_anchors(const DetectorInfo& info, int stride, int height, int width, GoldenLine line) {
  const std::vector<Box> anchors = base_anchors(info, stride);
  for (const Box& anchor : anchors) check_near(anchor, line.box(), 0);
  for (const Box& anchor : anchors)
    check_near(moved(anchor, static_cast<float>((width - 1) * stride),
                     static_cast<float>((height - 1) * stride)),
               line.box(), 0);
}

Box decoded(const Box& box, std::array<float, 4> delta) {
  const DeltaDecoder decode({1, 1, 1, 1}, 100, 80);
  return decode(box, delta.data());
}

}  // namespace

TEST_CASE("anchors are mmdetection's to the bit") {
  const std::vector<std::string> lines = detect_golden("anchors.txt");
  int levels = 0;
  for (size_t i = 0; i < lines.size();) {
    GoldenLine head(lines[i++]);
    DetectorInfo info;
    info.scales = head.rest<float>();
    info.ratios = head.rest<float>();
    info.strides = head.rest<int>();
    for (int stride : info.strides) {
      const int height = head.next<int>(), width = head.next<int>();
      check_anchors(info, stride, height, width, GoldenLine(lines[i++]));
      levels++;
    }
  }
  CHECK(levels == 8);
}

TEST_CASE("deltas decode as in mmdetection, huge and infinite ones too") {
  for (const std::string& text : detect_golden("deltas.txt")) {
    CAPTURE(text);
    GoldenLine line(text);
    const auto stds = line.list<float>(4);
    const auto size = line.list<float>(2);
    const Box box = line.box();
    const auto delta = line.list<float>(4);
    const DeltaDecoder decode({stds[0], stds[1], stds[2], stds[3]}, size[0], size[1]);
    // Sides of up to 60 boxes of 450 pixels, of which exp's last bits are the difference.
    check_near(decode(box, delta.data()), line.box(), 2e-4f);
  }
}

TEST_CASE("a delta that is NaN, or a box that is, decodes to NaN and is never kept") {
  for (size_t k = 0; k < 4; k++) {
    std::array<float, 4> delta = {};
    delta[k] = NAN;
    const Box box = decoded({10, 10, 20, 20}, delta);
    CHECK(!box.is_finite());
    CHECK(nms(std::vector<Candidate>{{box, 0.9f, 0}}, 0.5f, 10).empty());
  }
  CHECK(!decoded({NAN, 0, 1, 1}, {}).is_finite());
  CHECK(decoded({10, 10, 20, 20}, {INFINITY, 0, 0, 0}).width() == 0);
}

TEST_CASE("NMS keeps what mmcv's batched_nms keeps, equal scores by index") {
  for (const std::string& text : detect_golden("nms.txt")) {
    CAPTURE(text);
    GoldenLine line(text);
    const int count = line.next<int>(), groups = line.next<int>();
    const auto threshold = line.next<float>();
    const int seed = line.next<int>();
    const std::vector<Box> boxes = random_boxes(seed, count, 256);
    std::vector<Candidate> candidates;
    for (int i = 0; i < count; i++) {
      const float score = std::nearbyint(number(seed + 100, i) * 32) / 32;
      candidates.push_back({at(boxes, i), score, i * 7 % groups});
    }
    const std::vector<int> kept = GoldenLine(text.substr(text.find('|') + 1)).rest<int>();
    CHECK(nms(candidates, threshold, count) == kept);
    const std::vector<int> first(kept.begin(), kept.begin() + count_of(kept) / 2);
    CHECK(nms(candidates, threshold, count_of(first)) == first);
  }
}

TEST_CASE("NMS suppresses above the threshold alone, and never what has no area") {
  const Box box = {0, 0, 2, 1}, half = {0, 0, 1, 1};  // an intersection over union of 1/2
  const std::vector<Candidate> pair = {{box, 0.5f, 0}, {half, 0.4f, 0}};
  CHECK(nms(pair, 0.5f, 9) == std::vector<int>{0, 1});
  CHECK(nms(pair, 0.49f, 9) == std::vector<int>{0});
  const std::vector<Candidate> points(3, {{5, 5, 5, 5}, 0.5f, 0});
  CHECK(nms(points, 0, 9) == std::vector<int>{0, 1, 2});
  CHECK(nms({}, 0.5f, 9).empty());
  CHECK(nms(pair, 0.5f, 0).empty());
}

TEST_CASE("NMS leaves out scores of NaN and boxes that are not finite") {
  const Box good = {0, 0, 10, 10};
  const std::vector<Candidate> candidates = {{good, NAN, 0},
                                             {{0, 0, INFINITY, 10}, 0.9f, 0},
                                             {{NAN, 0, 10, 10}, 0.8f, 0},
                                             {{20, 20, 3e38f, 3e38f}, 0.7f, 0},
                                             {good, 0.6f, 0}};
  CHECK(nms(candidates, 0.5f, 9) == std::vector<int>{3, 4});
}

TEST_CASE("NMS of 1000 boxes in each of 80 classes finds the 100 best") {
  std::vector<Candidate> candidates;
  const std::vector<Box> boxes = random_boxes(1, 1000, 2000);
  for (int i = 0; i < 80000; i++) candidates.push_back({at(boxes, i / 80), number(2, i), i % 80});
  const std::vector<int> kept = nms(candidates, 0.5f, 100);
  REQUIRE(kept.size() == 100);
  CHECK(at(candidates, kept[0]).score >= at(candidates, kept[99]).score);
}

TEST_CASE("scores: NaN stays NaN, extremes saturate, a row with infinity is all NaN") {
  std::vector<float> x = {0, 1000, -1000, INFINITY, -INFINITY, NAN};
  sigmoid(x);
  CHECK(x[0] == 0.5f);
  CHECK((x[1] == 1 && x[3] == 1));
  CHECK((x[2] >= 0 && x[2] < 1e-30f && x[4] >= 0 && x[4] < 1e-30f));
  CHECK(std::isnan(x[5]));
  std::vector<float> row = {1, 1, -INFINITY}, first = {NAN, 5, 5}, last = {5, 5, NAN},
                     infinite = {0, INFINITY};
  softmax(row);
  CHECK((row[0] == 0.5f && row[1] == 0.5f && row[2] < 1e-30f));
  for (std::vector<float>* bad : {&first, &last, &infinite}) {
    softmax(*bad);
    for (float v : *bad) CHECK(std::isnan(v));
  }
}

TEST_CASE("numbers that no detector has are refused by name") {
  const auto refused = [](const char* what, auto change) {
    DetectorInfo info;
    check_detector_info(info);
    change(info);
    CHECK_THROWS_WITH_AS(check_detector_info(info), doctest::Contains(what), Error);
  };
  refused("shortest_edge is 0", [](DetectorInfo& i) { i.shortest_edge = 0; });
  refused("longest_edge is 100000", [](DetectorInfo& i) { i.longest_edge = 100000; });
  refused("size_divisor is 0", [](DetectorInfo& i) { i.size_divisor = 0; });
  refused("number of strides is 0", [](DetectorInfo& i) { i.strides.clear(); });
  refused("stride 8 of level 1", [](DetectorInfo& i) { i.strides = {8, 8}; });
  refused("0 scales", [](DetectorInfo& i) { i.scales.clear(); });
  refused("a scale of anchors is nan", [](DetectorInfo& i) { i.scales = {NAN}; });
  refused("a ratio of anchors is 0", [](DetectorInfo& i) { i.ratios = {0}; });
  refused("rpn pre_nms is -1", [](DetectorInfo& i) { i.rpn_pre_nms = -1; });
  refused("rpn post_nms", [](DetectorInfo& i) { i.rpn_post_nms = 1 << 30; });
  refused("rpn nms_threshold is 1.5", [](DetectorInfo& i) { i.rpn_nms_threshold = 1.5f; });
  refused("rpn min_size", [](DetectorInfo& i) { i.rpn_min_size = -1; });
  refused("score_threshold is nan", [](DetectorInfo& i) { i.score_threshold = NAN; });
  refused("nms_threshold", [](DetectorInfo& i) { i.nms_threshold = -0.5f; });
  refused("max_detections is 0", [](DetectorInfo& i) { i.max_detections = 0; });
  refused("deviations of 1 stages, expected 3", [](DetectorInfo& i) { i.stages = 3; });
  refused("a deviation of deltas is 0", [](DetectorInfo& i) { i.stds[0][2] = 0; });
  refused("box_bins is 0", [](DetectorInfo& i) { i.box_bins = 0; });
  refused("mask_bins is 99", [](DetectorInfo& i) { i.mask_bins = 99; });
}
