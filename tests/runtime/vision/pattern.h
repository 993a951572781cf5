// The pixels from which golden/make_image.py and golden/make_detect.py start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/vision/preprocess.h"

namespace vitrun {

// Noise, extremes (0 or 255) or a smooth pattern: pattern() of golden/make_image.py.
struct Pixels {
  int width, height;
  std::vector<uint8_t> rgb;

  Pixels(int w, int h, const std::string& kind) : width(w), height(h) {
    for (int y = 0; y < h; y++) {
      for (int x = 0; x < w; x++) {
        for (int c = 0; c < 3; c++) rgb.push_back(value(x, y, c, kind));
      }
    }
  }
  PixelView view() const { return {rgb.data(), width, height, 3 * int64_t{width}}; }

 private:
  uint8_t value(int x, int y, int c, const std::string& kind) const {
    if (kind == "smooth") return static_cast<uint8_t>(x * 5 + y * 3 + c * 40 + x * y / 16);
    uint32_t h = static_cast<uint32_t>((y * width + x) * 3 + c) * 2654435761u + 12345u;
    h = (h ^ (h >> 15)) * 2246822519u;
    h = (h ^ (h >> 13)) >> 24;
    return static_cast<uint8_t>(kind == "noise" ? h : (h >> 7) * 255);
  }
};

}  // namespace vitrun
