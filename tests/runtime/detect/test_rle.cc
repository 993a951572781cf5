// COCO's run lengths against pycocotools (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/rle.h"
#include "tests/runtime/detect/detect_golden.h"

using namespace vitrun;

namespace {

// bitmap() of the script.
std::vector<uint8_t> bitmap(const std::string& kind, int height, int width, int seed) {
  std::vector<uint8_t> pixels(array_size(height, width));
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      const int i = y * width + x;
      const bool inside = kind == "noise"     ? number(seed, i) > 0
                          : kind == "stripes" ? (x * 7 + y * 3) / 40 % 3 == 1
                                              : kind == "1";
      at(pixels, i) = inside;
    }
  }
  return pixels;
}

std::string refusal(const std::string& text, int height, int width) {
  try {
    rle_of_text(text, height, width);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("masks become pycocotools' runs and text, and back") {
  for (const std::string& line_text : detect_golden("rle.txt")) {
    CAPTURE(line_text);
    GoldenLine line(line_text);
    const int height = line.next<int>(), width = line.next<int>();
    const auto kind = line.next<std::string>();
    const std::vector<uint8_t> pixels = bitmap(kind, height, width, line.next<int>());
    const int area = line.next<int>();
    const auto text = line.next<std::string>();
    const Rle rle = encode_rle(pixels, height, width);
    CHECK(rle.area() == area);
    CHECK(rle_text(rle) == text);
    const Rle read = rle_of_text(text, height, width);
    CHECK(read.counts == rle.counts);
    std::vector<uint8_t> decoded(pixels.size(), 7);
    decode_rle(read, decoded);
    CHECK(decoded == pixels);
  }
}

TEST_CASE("runs of the largest mask fit, and their text too") {
  const uint32_t all = uint32_t{kMaxRleSide} * kMaxRleSide;
  const Rle rle = {kMaxRleSide, kMaxRleSide, {0, all}};
  CHECK(rle.area() == int64_t{all});
  CHECK(rle_of_text(rle_text(rle), kMaxRleSide, kMaxRleSide).counts == rle.counts);
}

TEST_CASE("empty runs are read, as pycocotools reads them") {
  const Rle rle = rle_of_text(rle_text({2, 2, {1, 0, 1, 2}}), 2, 2);
  CHECK(rle.counts == std::vector<uint32_t>{1, 0, 1, 2});
  std::vector<uint8_t> pixels(4);
  decode_rle(rle, pixels);
  CHECK(pixels == std::vector<uint8_t>{0, 1, 0, 1});
}

TEST_CASE("text that is not of the mask's pixels is refused") {
  CHECK(refusal("", 2, 2) == "RLE: counts of 0 pixels, expected 2x2");
  CHECK(refusal("3", 2, 2) == "RLE: counts of 3 pixels, expected 2x2");
  CHECK(refusal("5", 2, 2) == "RLE: a run of 5 pixels in a mask of 2x2");
  CHECK(refusal("O", 2, 2) == "RLE: a run of -1 pixels in a mask of 2x2");
  CHECK(refusal("1P", 2, 2) == "RLE: the counts end within a number");
  CHECK(refusal("PPPPPPPPPPPP1", 2, 2) == "RLE: a count of more than 40 bits");
  CHECK(refusal("4 ", 2, 2) == "RLE: a character outside '0'..'o' in the counts");
  CHECK(refusal("\xff", 2, 2) == "RLE: a character outside '0'..'o' in the counts");
  CHECK(refusal("4", 0, 2) == "RLE: a mask of 0x2, expected sides of 1..65535");
  CHECK(refusal("4", 2, 70000) == "RLE: a mask of 2x70000, expected sides of 1..65535");
}

TEST_CASE("counts that are not of the mask's pixels are not decoded") {
  std::vector<uint8_t> pixels(4);
  CHECK_THROWS_AS(decode_rle({2, 2, {1, 2}}, pixels), Error);
  CHECK_THROWS_AS(decode_rle({2, 2, {4000000000u, 4}}, pixels), Error);
  CHECK_THROWS_AS(decode_rle({2, 3, {6}}, pixels), Error);
  CHECK_THROWS_AS(encode_rle(pixels, 2, 3), Error);
}
