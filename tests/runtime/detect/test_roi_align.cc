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

TEST_CASE("flows back are the transpose of RoIAlign, and relevance is shared out") {
  const FeatureMap map = make_map(20, 30, 3, 6);
  const MapSize size = {20, 30};
  std::vector<Box> boxes = random_boxes(7, 40, 50);
  boxes.push_back({-60, -60, 30, 30});    // partly beside the map
  boxes.push_back({500, 500, 600, 600});  // beside it
  boxes.push_back({NAN, 0, 5, 5});
  for (size_t i = 0; i < boxes.size(); i++) {
    CAPTURE(i);
    const Tensor bins = align(map, 4, boxes[i], 7);
    const Tensor y = numbers(static_cast<int>(100 + i), {49, 3});
    std::vector<float> gradient(map.rows.data.size()), relevance(gradient.size());
    roi_align_back(RoiFlow::kGradient, boxes[i], 4, size, 7, y.data, gradient);
    const double lost =
        roi_align_back(RoiFlow::kRelevance, boxes[i], 4, size, 7, y.data, relevance);
    double forward = 0, back = 0, start = 0, arrived = 0;
    for (size_t k = 0; k < y.data.size(); k++) {
      forward += double{bins.data[k]} * double{y.data[k]};
      start += double{y.data[k]};
    }
    for (size_t k = 0; k < gradient.size(); k++) {
      back += double{gradient[k]} * double{map.rows.data[k]};
      arrived += double{relevance[k]};
    }
    CHECK(back == doctest::Approx(forward).epsilon(1e-4).scale(1));
    CHECK(arrived + lost == doctest::Approx(start).epsilon(1e-4).scale(1));
    if (i < 40) CHECK(std::fabs(lost) < 1e-6);
    if (i > 40) CHECK(lost == doctest::Approx(start).epsilon(1e-9));
  }
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
