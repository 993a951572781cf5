// RoIAlign against torchvision, the choice of levels against mmdetection (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/roi_align.h"
#include "tests/runtime/detect/detect_golden.h"

using namespace vitrun;

namespace {

FeatureMap make_map(int height, int width, int channels, int seed) {
  return {height, width, numbers(seed, {int64_t{height} * width, channels})};
}

Tensor align(const FeatureMap& map, int stride, const Box& box, int bins) {
  return roi_align({&map, 1}, {&stride, 1}, {&box, 1}, bins);
}

}  // namespace

TEST_CASE("RoIAlign gives torchvision's values, inside the map, across its border and outside") {
  for (const std::string& text : detect_golden("roi_align.txt")) {
    CAPTURE(text.substr(0, 60));
    GoldenLine line(text);
    const int height = line.next<int>(), width = line.next<int>(), channels = line.next<int>();
    const int stride = line.next<int>(), bins = line.next<int>(), seed = line.next<int>();
    const Box box = line.box();
    const Tensor found = align(make_map(height, width, channels, seed), stride, box, bins);
    CHECK(found.dims == Dims{1, bins * bins, channels});
    // The mean of up to 1600 samples of [-1, 1], each of four rounded products.
    float worst = 0;
    for (float v : found.data) worst = std::max(worst, std::abs(v - line.next<float>()));
    CHECK(worst < 2e-5f);
  }
}

TEST_CASE("boxes read the level that mmdetection chooses") {
  for (const std::string& text : detect_golden("levels.txt")) {
    CAPTURE(text);
    GoldenLine line(text);
    const Box box = line.box();
    const int level = line.next<int>();
    CHECK(roi_level(box, 4) == level);
    CHECK(roi_level(box, 2) == std::min(level, 1));
    CHECK(roi_level(box, 1) == 0);
  }
  CHECK(roi_level({0, 0, NAN, 1}, 4) == 0);
  CHECK(roi_level({0, 0, -5, 1}, 4) == 0);
  CHECK(roi_level({0, 0, 3e38f, 3e38f}, 4) == 3);
}

TEST_CASE("several maps, levels and threads give each RoI what it gets alone") {
  const std::vector<FeatureMap> maps = {make_map(64, 96, 5, 1), make_map(32, 48, 5, 2),
                                        make_map(16, 24, 5, 3)};
  const std::vector<int> strides = {4, 8, 16, 32};
  const std::vector<Box> boxes = random_boxes(4, 37, 360);
  const Tensor all = roi_align(maps, strides, boxes, 7);
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    CHECK(roi_align(maps, strides, boxes, 7, &pool).data == all.data);
  }
  for (int i = 0; i < 37; i++) {
    const int level = roi_level(at(boxes, i), 3);
    const Tensor alone = align(at(maps, level), at(strides, level), at(boxes, i), 7);
    CHECK(alone.data == slice(all, i, 1).data);
  }
  CHECK(roi_align(maps, strides, {}, 7).dims == Dims{0, 49, 5});
}

TEST_CASE("boxes of no size, NaN and huge boxes cost little and give finite values") {
  const FeatureMap map = make_map(5, 7, 2, 9);
  for (const Box& box : {Box{3, 3, 3, 9}, Box{NAN, 0, 5, 5}, Box{0, 0, INFINITY, 5},
                         Box{9, 9, 2, 2}, Box{1e30f, 1e30f, 2e30f, 2e30f}}) {
    for (float v : align(map, 4, box, 7).data) CHECK(v == 0);
  }
  for (const Box& box :
       {Box{-3e38f, -3e38f, 3e38f, 3e38f}, Box{-1e9f, 0, 1e9f, 20}, Box{0, 0, 28, 1e-30f}}) {
    for (float v : align(map, 4, box, 7).data) CHECK(std::isfinite(v));
  }
}

TEST_CASE("a constant map stays constant under boxes inside it") {
  FeatureMap map = make_map(20, 30, 1, 0);
  std::fill(map.rows.data.begin(), map.rows.data.end(), 1.5f);
  for (const Box& box : random_boxes(5, 20, 50))
    for (float v : align(map, 4, box, 7).data) CHECK(v == doctest::Approx(1.5).epsilon(1e-5));
}

TEST_CASE("maps that do not fit together are refused") {
  std::vector<FeatureMap> maps = {make_map(4, 4, 3, 1), make_map(2, 2, 2, 1)};
  const std::vector<int> strides = {4, 8};
  CHECK_THROWS_WITH_AS(roi_align(maps, strides, {}, 7),
                       doctest::Contains("2x2 has the shape [4, 2]"), Error);
  maps[1] = make_map(2, 2, 3, 1);
  maps[1].width = 3;
  CHECK_THROWS_WITH_AS(roi_align(maps, strides, {}, 7), doctest::Contains("2x3"), Error);
  CHECK_THROWS_AS(roi_align({}, strides, {}, 7), Error);
}
