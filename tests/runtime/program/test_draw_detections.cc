// Boxes, masks and labels on pictures. Where pixels must lie follows from the header.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "models/base/index.h"
#include "runtime/program/detect/draw_detections.h"
#include "runtime/program/detect/glyphs.h"
#include "tests/runtime/files/qbin_testing.h"

using namespace vitrun;

namespace {

using Pixel = std::array<int, 3>;
constexpr Pixel kBlue = {0, 114, 178}, kOrange = {230, 159, 0}, kGrey = {100, 100, 100};

Image grey(int width, int height) {
  return {width, height, std::vector<uint8_t>(array_size(3, width, height), 100)};
}

Pixel pixel(const Image& image, int x, int y) {
  const size_t i = 3 * (array_size(y, image.width) + array_size(x));
  return {image.rgb[i], image.rgb[i + 1], image.rgb[i + 2]};
}

int count(const Image& image, const Pixel& wanted) {
  int n = 0;
  for (int y = 0; y < image.height; y++)
    for (int x = 0; x < image.width; x++) n += pixel(image, x, y) == wanted;
  return n;
}

}  // namespace

TEST_CASE("drawing: a box is framed, a mask is mixed half and half, a label stands above") {
  Image image = grey(100, 80);
  // Columns 30 and 31 of the mask are inside.
  const Rle mask = {80, 100, {30 * 80, 2 * 80, 68 * 80}};
  draw_detections({{20, 40, 60, 70, .5, "a", mask}}, image);
  for (auto [x, y] : {std::pair{20, 40}, {59, 40}, {20, 69}, {59, 69}, {40, 69}, {20, 55}})
    CHECK(pixel(image, x, y) == kBlue);
  for (auto [x, y] : {std::pair{19, 55}, {60, 55}, {40, 70}, {40, 55}})
    CHECK(pixel(image, x, y) == kGrey);
  CHECK(pixel(image, 31, 10) == Pixel{50, 107, 139});
  CHECK(pixel(image, 32, 10) == kGrey);
  // "a 0.50" takes 1 + 6 * 6 columns and 10 rows above the box, white on blue.
  CHECK(pixel(image, 20, 30) == kBlue);
  CHECK(pixel(image, 56, 39) == kBlue);
  CHECK(pixel(image, 57, 39) == kGrey);
  CHECK(pixel(image, 20, 29) == kGrey);
  CHECK(count(image, {255, 255, 255}) > 30);
}

TEST_CASE("drawing: the first detection is on top, and colours take turns") {
  Image image = grey(100, 80);
  draw_detections({{10, 30, 50, 60, .9, "", {}}, {10, 30, 50, 60, .5, "", {}}}, image);
  CHECK(pixel(image, 10, 59) == kBlue);
  CHECK(count(image, kOrange) > 100);  // the ground of its label, which found another place
}

TEST_CASE("drawing: labels stay in the picture and are shortened, not their scores") {
  Image image = grey(100, 40);
  draw_detections({{90, 0, 100, 20, .25, std::string(300, 'x'), {}}}, image);
  CHECK(pixel(image, 99, 39) == kGrey);
  Image same = grey(100, 40);
  // 16 characters have room: nine of the name, two dots and " 0.25".
  draw_detections({{90, 0, 100, 20, .25, std::string(9, 'x') + "..", {}}}, same);
  CHECK(image.rgb == same.rgb);
}

TEST_CASE("drawing: any numbers and any size of image") {
  for (auto [width, height] : {std::pair{1, 1}, {1, 700}, {700, 1}, {30, 9}, {40, 40}}) {
    Image image = grey(width, height);
    draw_detections({{NAN, 1, 2, 3, NAN, "nan", {}},
                     {-1e300, -INFINITY, 1e300, INFINITY, 1e308, "huge", {}},
                     {5, 5, 1, 1, .5, "turned over", {}}},
                    image);
    CHECK(image.rgb.size() == array_size(3, width, height));
  }
  Image image = grey(4, 4);
  CHECK(error_of([&] {
          draw_detections({{0, 0, 1, 1, 1, "", {5, 4, {20}}}}, image);
        }) == "a mask of 5x4 on an image of 4x4");
}

TEST_CASE("drawing: characters are told apart, others are one box each") {
  std::vector<Glyph> all;
  for (char c = ' '; c <= '~'; c++) all.push_back(glyphs_of(std::string(1, c)).at(0));
  CHECK(all.size() == 95);
  std::ranges::sort(all);
  CHECK(std::ranges::adjacent_find(all) == all.end());
  const auto other = glyphs_of("\xc3\xa4\xe4\xb8\xad\n");
  CHECK(other.size() == 3);
  CHECK(other[0] == other[2]);
  CHECK(std::ranges::find(all, other[0]) == all.end());
}
