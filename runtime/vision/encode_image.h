// Encodes RGB8 pixels as image files in memory, for the pages and pictures that programs write.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/vision/image.h"

namespace vitrun {

// Both fail on an empty image.
std::vector<uint8_t> encode_png(const Image& image);
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);  // quality: 1 to 100

}  // namespace vitrun
