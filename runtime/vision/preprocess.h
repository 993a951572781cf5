// From RGB8 pixels to a model's input, as timm's eval transform on Pillow makes it. Resizing equals
// Image.resize of Pillow 13 bit for bit; earlier versions order its two passes otherwise: up
// to 12.1 always horizontal first, 12.2 and 12.3 except for images over 100 times taller than wide.
// Normalising equals torchvision's ToTensor and Normalize.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/graph/model_info.h"

namespace vitrun {

inline constexpr int kMaxImageSide = 32768;      // of an image that is decoded or preprocessed
inline constexpr int kMaxResizedSide = 1 << 20;  // of the image it is resized to

// 8-bit RGB pixels owned by someone else. Row y starts at rgb + y * row_stride; row_stride is in
// bytes, at least 3 * width.
struct PixelView {
  const uint8_t* rgb = nullptr;
  int width = 0, height = 0;
  int64_t row_stride = 0;
};

// A rectangle of a resized image.
struct Window {
  int x = 0, y = 0, width = 0, height = 0;
};

// One direction of a resize: which source pixels an output pixel is made of, with which weights.
struct ResizeAxis {
  struct Span {
    int begin, count;
  };
  Span source = {};              // what the window needs of the source
  std::vector<Span> spans;       // per output pixel of the window; begin counts from source.begin
  std::vector<int32_t> weights;  // [output pixels, max_count], 22 fractional bits
  int max_count = 0;
};

// The buffers of resize_window() and preprocess(). Kept between calls: images no larger than those
// seen before allocate nothing. One thread at a time.
struct PreprocessScratch {
  ResizeAxis horizontal, vertical;
  std::vector<double> unrounded;  // the weights of one output pixel
  std::vector<uint8_t> halfway;   // after the first pass: what the second needs
  std::vector<int32_t> sums;      // one output row of the vertical pass
  std::vector<uint8_t> pixels;    // the resized window
};

// Writes to `out`, [window.height, window.width, 3], that window of `image` resized to
// width x height with Pillow's antialiased filter. Only what the window needs is computed. Fails on
// an empty image, sides above the limits, a window outside the resized image or an `out` of another
// size.
void resize_window(const PixelView& image, int width, int height, const Window& window,
                   PreprocessConfig::Resize filter, std::span<uint8_t> out,
                   PreprocessScratch& scratch);

// The whole transform for `config`: resize, centre crop (or zero padding where the resized image is
// smaller than the model's input), /255, (x - mean) / std; `out` is planar, [3, image_height,
// image_width]. Fails as resize_window() does.
void preprocess(const PixelView& image, const ModelInfo& config, std::span<float> out,
                PreprocessScratch& scratch);

}  // namespace vitrun
