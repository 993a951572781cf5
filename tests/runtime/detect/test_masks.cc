// Pasting against mmdetection (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/masks.h"
#include "tests/runtime/detect/detect_golden.h"

using namespace vitrun;

namespace {

// mask_of() of the script.
std::vector<float> mask_of(int seed, int side) {
  std::vector<float> mask;
  for (int i = 0; i < side * side; i++) {
    const int row = i / side;
    const float growth = static_cast<float>(std::abs(2 * row + 1 - side)) / 64;
    mask.push_back(0.53125f + number(seed, i) * growth);
  }
  return mask;
}

int64_t different_pixels(const Rle& a, const Rle& b) {
  std::vector<uint8_t> x(array_size(a.height, a.width)), y = x;
  decode_rle(a, x);
  decode_rle(b, y);
  int64_t count = 0;
  for (size_t i = 0; i < x.size(); i++) count += x[i] != y[i];
  return count;
}

const std::vector<float> kFull(28 * 28, 1.0f);

}  // namespace

TEST_CASE("masks are pasted as mmdetection pastes them") {
  for (const std::string& text : detect_golden("masks.txt")) {
    CAPTURE(text.substr(0, 60));
    GoldenLine line(text);
    const int side = line.next<int>(), height = line.next<int>(), width = line.next<int>();
    const std::vector<float> mask = mask_of(line.next<int>(), side);
    const Box box = line.box();
    const int area = line.next<int>();
    const Rle expected = rle_of_text(line.next<std::string>(), height, width);
    CHECK(expected.area() == area);
    // Pixels within rounding errors of 1/2 may differ.
    const Rle found = paste_mask(mask, side, box, height, width);
    CHECK(different_pixels(found, expected) <= area / 10000);
  }
}

TEST_CASE("a full mask is the box's pixels, those whose centre is in it") {
  const Rle rle = paste_mask(kFull, 28, {1.5f, 0.25f, 4.4f, 2.6f}, 4, 6);
  std::vector<uint8_t> pixels(24);
  decode_rle(rle, pixels);
  CHECK(pixels == std::vector<uint8_t>{0, 1, 1, 1, 0, 0,  //
                                       0, 1, 1, 1, 0, 0,  //
                                       0, 1, 1, 1, 0, 0,  //
                                       0, 0, 0, 0, 0, 0});
}

TEST_CASE("boxes without pixels give an empty mask") {
  for (const Box& box : {Box{5, 5, 5, 9}, Box{5, 5, 4, 9}, Box{NAN, 0, 5, 5},
                         Box{0, 0, 5, INFINITY}, Box{100, 100, 120, 130}, Box{-50, -50, -20, -20},
                         Box{3e38f, 0, 3.1e38f, 9}, Box{1.6f, 0, 2.4f, 9}}) {
    const Rle rle = paste_mask(kFull, 28, box, 20, 30);
    CHECK(rle.counts == std::vector<uint32_t>{600});
  }
}

TEST_CASE("huge boxes and images, 1 pixel, NaN in the mask") {
  CHECK(paste_mask(kFull, 28, {-1e9f, -1e9f, 1e9f, 1e9f}, 20, 30).counts ==
        std::vector<uint32_t>{0, 600});
  CHECK(paste_mask(kFull, 28, {0, 0, 1, 1}, 1, 1).counts == std::vector<uint32_t>{0, 1});
  const Rle large = paste_mask(kFull, 28, {0, 0, 32768, 32768}, 32768, 32768);
  CHECK(large.area() > 0.999 * (1 << 30));  // its corners blend with the zeros of both sides
  CHECK(large.area() < 1 << 30);
  const std::vector<float> broken(28 * 28, NAN);
  CHECK(paste_mask(broken, 28, {0, 0, 30, 20}, 20, 30).area() == 0);
  CHECK_THROWS_AS(paste_mask(kFull, 14, {0, 0, 1, 1}, 1, 1), Error);
  CHECK_THROWS_AS(paste_mask(kFull, 28, {0, 0, 1, 1}, 0, 1), Error);
}
