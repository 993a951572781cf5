// A detector's input against OpenCV, mmcv and mmdetection (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/detector_input.h"
#include "runtime/files/crc32.h"
#include "tests/runtime/detect/detect_golden.h"
#include "tests/runtime/vision/pattern.h"

using namespace vitrun;

namespace {

std::vector<uint8_t> resized(const PixelView& image, int width, int height) {
  std::vector<uint8_t> out(array_size(width, height, 3));
  LinearResizer resizer(image, width, height);
  for (int y = 0; y < height; y++)
    resizer.row(y, std::span(out).subspan(array_size(y, width, 3), array_size(width, 3)));
  return out;
}

DetectorInfo with_edges(int shortest, int longest, int divisor = 32) {
  DetectorInfo info;
  info.shortest_edge = shortest;
  info.longest_edge = longest;
  info.size_divisor = divisor;
  return info;
}

}  // namespace

TEST_CASE("resizing equals cv2.resize bit for bit") {
  const std::vector<std::string> lines = detect_golden("resize.txt");
  CHECK(lines.size() > 100);
  for (const std::string& text : lines) {
    CAPTURE(text);
    GoldenLine line(text);
    const auto sides = line.list<int>(4);
    const Pixels source(sides[0], sides[1], line.next<std::string>());
    const std::vector<uint8_t> out = resized(source.view(), sides[2], sides[3]);
    CHECK(crc32(out) == std::stoul(line.next<std::string>(), nullptr, 16));
  }
}

TEST_CASE("rows of a resized image may come in any order") {
  const Pixels source(31, 17, "noise");
  const std::vector<uint8_t> whole = resized(source.view(), 23, 40);
  LinearResizer resizer(source.view(), 23, 40);
  std::vector<uint8_t> row(23 * 3);
  for (int y : {39, 0, 20, 21, 3, 3, 38}) {
    resizer.row(y, row);
    CHECK(std::equal(row.begin(), row.end(), whole.begin() + y * 23 * 3));
  }
}

TEST_CASE("sides are scaled as mmcv's rescale_size does, and never to nothing") {
  for (const std::string& text : detect_golden("sizes.txt")) {
    CAPTURE(text);
    GoldenLine line(text);
    const auto v = line.list<int>(6);
    const ScaledSize size = scaled_size(v[0], v[1], with_edges(v[2], v[3]));
    CHECK(size.width == v[4]);
    CHECK(size.height == v[5]);
  }
  for (const auto& [width, height] : {std::pair{1, 5000}, {5000, 1}, {1, 32768}}) {
    const ScaledSize size = scaled_size(width, height, {});
    CHECK(std::min(size.width, size.height) == 1);
    CHECK(std::max(size.width, size.height) == 1333);
  }
}

TEST_CASE("the input is mmdetection's, normalised and padded with zeros") {
  for (const std::string& text : detect_golden("input.txt")) {
    CAPTURE(text.substr(0, 40));
    GoldenLine line(text);
    const auto v = line.list<int>(5);
    const Pixels source(v[0], v[1], line.next<std::string>());
    const int width = line.next<int>(), height = line.next<int>();
    const DetectorInput input = detector_input(source.view(), with_edges(v[2], v[3], v[4]), {});
    REQUIRE(input.image.dims == Dims{1, 3, height, width});
    CHECK(input.scale_x == static_cast<float>(ratio(input.width, v[0])));
    CHECK(input.scale_y == static_cast<float>(ratio(input.height, v[1])));
    for (float value : input.image.data)
      CHECK(value == doctest::Approx(line.next<float>()).epsilon(2e-6));
  }
}

TEST_CASE("images of 1 pixel, one row, gaps between rows; images that are none") {
  const Pixels dot(1, 1, "noise");
  CHECK(detector_input(dot.view(), {}, {}).image.dims == Dims{1, 3, 800, 800});
  const Pixels tall(1, 5000, "noise");
  CHECK(detector_input(tall.view(), {}, {}).image.dims == Dims{1, 3, 1344, 32});
  const Pixels source(6, 4, "noise");
  std::vector<uint8_t> spaced(4 * 25);
  for (size_t y = 0; y < 4; y++)
    std::copy_n(source.rgb.begin() + y * 18, 18, spaced.begin() + y * 25);
  const PixelView view = {spaced.data(), 6, 4, 25};
  CHECK(resized(view, 9, 7) == resized(source.view(), 9, 7));
  CHECK_THROWS_AS(detector_input({nullptr, 1, 1, 3}, {}, {}), Error);
  CHECK_THROWS_AS(detector_input({spaced.data(), 0, 4, 25}, {}, {}), Error);
  CHECK_THROWS_AS(LinearResizer(view, 0, 5), Error);
}
