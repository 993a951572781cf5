// Reads packed panels back bit by bit, as the description in kernels/pack.h says.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "kernels/pack.h"

using namespace vitrun;

namespace {

std::vector<uint8_t> random_codes(int n, int k, int bits) {
  std::mt19937 random(static_cast<unsigned>(n * 7919 + k * 31 + bits));
  std::vector<uint8_t> codes(static_cast<size_t>(n) * static_cast<size_t>(k));
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
  return codes;
}

std::vector<uint8_t> packed(const std::vector<uint8_t>& codes, int n, int k, int bits) {
  std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(n, k, bits)), 0xA5);
  pack_codes(codes.data(), n, k, bits, panels.data());
  return panels;
}

// The code at (column, depth), which may be padding. It is read as pack.h describes the layout:
// where each plane begins in the block, and which byte and bits of the plane belong to a row.
int code_at(const std::vector<uint8_t>& panels, int k, int bits, int column, int depth) {
  const int blocks = (k + 31) / 32;
  const int block_start = ((column / 16) * blocks + depth / 32) * 64 * bits;
  const int r = depth % 32 / 4, x = 4 * (column % 16) + depth % 4;
  auto byte = [&](int line) {
    return int{panels[static_cast<size_t>(block_start + line * 64 + x)]};
  };
  auto plane4 = [&](int start) { return byte(start + r / 2) >> (r % 2 == 0 ? 0 : 4) & 15; };
  auto plane2 = [&](int start) { return byte(start + r / 4) >> (2 * (r % 4)) & 3; };
  auto plane1 = [&](int start) { return byte(start) >> r & 1; };
  switch (bits) {
    case 3:
      return plane2(0) | plane1(2) << 2;
    case 4:
      return plane4(0);
    case 5:
      return plane4(0) | plane1(4) << 4;
    case 6:
      return plane4(0) | plane2(4) << 4;
    case 7:
      return plane4(0) | plane2(4) << 4 | plane1(6) << 6;
    default:
      return static_cast<int8_t>(byte(r)) + 128;
  }
}

struct Shape {
  int n, k;
};

// A single code; one less, as many, and one more than a panel's columns and a block's depths;
// several panels of several blocks; and a classifier head.
const Shape kShapes[] = {{1, 1},   {15, 31}, {16, 32}, {17, 33},
                         {35, 95}, {3, 100}, {50, 7},  {10, 192}};

}  // namespace

TEST_CASE("pack: bytes of a packed weight") {
  CHECK(pack_bytes(1, 1, 3) == 192);          // one block is 64 * b bytes
  CHECK(pack_bytes(16, 32, 8) == 512);        // a full block of bytes
  CHECK(pack_bytes(17, 33, 4) == 1024);       // 2 panels x 2 blocks
  CHECK(pack_bytes(1152, 384, 6) == 331776);  // no padding: n * k * 6 / 8
  CHECK(pack_bytes(70000, 8192, 8) == 573440000);
}

TEST_CASE("pack: every bit lies where pack.h says, padding is the signed zero") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (const Shape& shape : kShapes) {
      CAPTURE(bits);
      CAPTURE(shape.n);
      CAPTURE(shape.k);
      const std::vector<uint8_t> codes = random_codes(shape.n, shape.k, bits);
      const std::vector<uint8_t> panels = packed(codes, shape.n, shape.k, bits);
      int wrong = 0;
      for (int c = 0; c < (shape.n + 15) / 16 * 16; c++) {
        for (int d = 0; d < (shape.k + 31) / 32 * 32; d++) {
          const bool real = c < shape.n && d < shape.k;
          const int expected = real ? codes[static_cast<size_t>(c * shape.k + d)] : 1 << (bits - 1);
          wrong += code_at(panels, shape.k, bits, c, d) != expected;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("pack: unpack returns the codes and writes nothing else") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (const Shape& shape : kShapes) {
      CAPTURE(bits);
      CAPTURE(shape.n);
      CAPTURE(shape.k);
      const std::vector<uint8_t> codes = random_codes(shape.n, shape.k, bits);
      const std::vector<uint8_t> panels = packed(codes, shape.n, shape.k, bits);
      std::vector<uint8_t> unpacked(codes.size() + 64, 0xEE);
      unpack_codes(panels.data(), shape.n, shape.k, bits, unpacked.data());
      std::vector<uint8_t> expected = codes;
      expected.resize(codes.size() + 64, 0xEE);
      CHECK(unpacked == expected);
    }
  }
}

TEST_CASE("pack: 8-bit panels are the signed codes themselves") {
  const std::vector<uint8_t> codes = {0, 127, 128, 255};  // [1, 4]
  const std::vector<uint8_t> panels = packed(codes, 1, 4, 8);
  CHECK(static_cast<int8_t>(panels[0]) == -128);
  CHECK(static_cast<int8_t>(panels[1]) == -1);
  CHECK(static_cast<int8_t>(panels[2]) == 0);
  CHECK(static_cast<int8_t>(panels[3]) == 127);
}

TEST_CASE("pack: column sums are of the signed codes") {
  const std::vector<uint8_t> codes = {0, 7, 4, 7, 7, 7};  // [2, 3]; signed: -4 3 0, 3 3 3
  int32_t sums[2] = {99, 99};
  sum_columns(codes.data(), 2, 3, 3, sums);
  CHECK(sums[0] == -1);
  CHECK(sums[1] == 9);

  const std::vector<uint8_t> deepest(kMaxDepth, 0);
  sum_columns(deepest.data(), 1, kMaxDepth, 8, sums);
  CHECK(sums[0] == -128 * kMaxDepth);
}
