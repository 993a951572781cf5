// Makes images for tests.
#pragma once

#include <string>

namespace vitrun {

// A 24-bit BMP, its rows from the bottom up and padded to four bytes.
inline std::string bmp(int width, int height, int seed) {
  const int row = (3 * width + 3) / 4 * 4;
  std::string bytes = "BM";
  auto put = [&](int value, int count) {
    for (int i = 0; i < count; i++) bytes += static_cast<char>(value >> 8 * i & 255);
  };
  for (int field : {54 + row * height, 0, 54, 40, width, height}) put(field, 4);
  put(1, 2), put(24, 2);
  for (int field : {0, row * height, 2835, 2835, 0, 0}) put(field, 4);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < row; x++)
      put(x < 3 * width ? (x * seed * 37 + y * (11 + seed) * 5) % 256 : 0, 1);
  return bytes;
}

}  // namespace vitrun
