// Turns RGB8 pixels into a model's input, as timm's eval transform on Pillow does (method.md
// section 1). Resizing equals Image.resize of Pillow 13 bit for bit. Earlier versions order its two
// passes otherwise: up to 12.1 the horizontal one is always first, in 12.2 and 12.3 except for
// images over 100 times taller than wide. Normalising equals torchvision's ToTensor and Normalize.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/graph/model_info.h"

namespace vitrun {

inline constexpr int kMaxImageSide = 32768;      // bounds an image that is decoded or preprocessed
inline constexpr int kMaxResizedSide = 1 << 20;  // bounds the image after resizing

// 8-bit RGB pixels that someone else owns. Row y starts at rgb + y * row_stride; row_stride is in
// bytes, at least 3 * width.
struct PixelView {
  const uint8_t* rgb = nullptr;
  int width = 0, height = 0;
  int64_t row_stride = 0;
};

// Fails unless the view has pixels, with sides of 1..kMaxImageSide and a long enough row stride.
void check_view(const PixelView& image);

// A rectangle of a resized image.
struct Window {
  int x = 0, y = 0, width = 0, height = 0;
};

// One direction of a resize: the source pixels of each output pixel, and their weights.
struct ResizeAxis {
  struct Span {
    int begin, count;
  };
  Span source = {};              // the source pixels that the window needs
  std::vector<Span> spans;       // by output pixel of the window; begin counts from source.begin
  std::vector<int32_t> weights;  // [output pixels, max_count], 22 fractional bits
  int max_count = 0;
};

// The buffers of resize_window() and preprocess(). They are kept between calls, so images no larger
// than those seen before allocate nothing. Only one thread may use them at a time.
struct PreprocessScratch {
  ResizeAxis horizontal, vertical;
  std::vector<double> unrounded;  // the weights of one output pixel
  std::vector<uint8_t> halfway;   // the pixels between the two passes
  std::vector<int32_t> sums;      // one output row of the vertical pass
  std::vector<uint8_t> pixels;    // the resized window
};

// Resizes `image` to width x height with Pillow's antialiased filter and writes one window of the
// result to out [window.height, window.width, 3]. Only what the window needs is computed. Fails on
// an empty image, sides above the limits, a window outside the resized image and an `out` of
// another size.
void resize_window(const PixelView& image, int width, int height, const Window& window,
                   PreprocessConfig::Resize filter, std::span<uint8_t> out,
                   PreprocessScratch& scratch);

// Applies the whole transform of `config`: resize, centre crop (or black padding where the resized
// image is smaller than the model's input), /255, (x - mean) / std. out is planar, [3,
// image_height, image_width]. Fails as resize_window() does.
void preprocess(const PixelView& image, const ModelInfo& config, std::span<float> out,
                PreprocessScratch& scratch);

}  // namespace vitrun
