// Turns pixels into a detector's input, as mmdetection does: the ratio of the sides is kept,
// OpenCV's bilinear resize for bytes, to the bit (no antialiasing), (x - mean) / std, zeros right
// and below.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/detector_info.h"
#include "models/graph/shapes.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {

// One direction of OpenCV's bilinear resize: two source pixels for each output pixel, and their
// weights with 11 fractional bits.
struct LinearAxis {
  struct Tap {
    int first, second;
    int32_t first_weight, second_weight;
  };
  std::vector<Tap> taps;
};

// Computes the rows of a resized image. In rising order each row of `image` is read once.
class LinearResizer {
 public:
  // The pixels of `image` must outlive the resizer. Fails on sides outside 1..kMaxImageSide.
  LinearResizer(const PixelView& image, int width, int height);
  void row(int y, std::span<uint8_t> out);  // out is [width, 3]

 private:
  const int32_t* stretched(int y);

  PixelView image_;
  LinearAxis horizontal_, vertical_;
  std::vector<int32_t> rows_[2];  // of the image, resized horizontally: an even one and an odd one
  int held_[2] = {-1, -1};        // which they are
};

struct DetectorInput {
  Tensor image;                    // [1, 3, H, W], H and W multiples of size_divisor
  int width = 0, height = 0;       // of the image in it, without padding
  float scale_x = 1, scale_y = 1;  // of that image to the original
};

// Sides after scaling by min(longest / the longer side, shortest / the shorter side), rounded, at
// least 1 pixel.
struct ScaledSize {
  int width, height;
};
ScaledSize scaled_size(int width, int height, const DetectorInfo& info);
// The sides of a detector's input for an image of width x height: scaled, then padded.
MapSize input_size(int width, int height, const DetectorInfo& info);

// mean and std are those of pixels in 0..1, as PreprocessConfig says.
DetectorInput detector_input(const PixelView& image, const DetectorInfo& info,
                             const PreprocessConfig& preprocess);

}  // namespace vitrun
