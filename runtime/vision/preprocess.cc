#include "runtime/vision/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

// Pillow's fixed point has 8 bits for the pixel and 2 of headroom for the filter's negative lobes.
constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

struct Size {
  int64_t width, height;
};

double triangle(double x) {
  x = std::abs(x);
  return x < 1 ? 1 - x : 0;
}

// Keys' cubic with a = -1/2, in the order of operations that gives Pillow's last bit.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

int32_t to_fixed(double weight) {
  const double scaled = weight * (1 << kPrecisionBits);
  return static_cast<int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

uint8_t to_pixel(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

// Computes the weights of output pixels [first, first + count) when `in` pixels become `out`. The
// filter is stretched by the ratio when shrinking (antialias), never when enlarging.
void plan_axis(int in, int out, int first, int count, PreprocessConfig::Resize filter,
               std::vector<double>& unrounded, ResizeAxis& axis) {
  const bool bicubic = filter == PreprocessConfig::Resize::kBicubic;
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0);
  const double support = (bicubic ? 2.0 : 1.0) * stretch;
  const double step = 1.0 / stretch;
  axis.max_count = std::min(static_cast<int>(std::ceil(support)) * 2 + 1, in);
  axis.spans.resize(array_size(count));
  axis.weights.resize(array_size(count, axis.max_count));
  unrounded.resize(array_size(axis.max_count));
  for (int i = 0; i < count; i++) {
    const double center = (first + i + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int taps = std::min(static_cast<int>(center + support + 0.5), in) - begin;
    double total = 0;
    for (int k = 0; k < taps; k++) {
      const double x = (k + begin - center + 0.5) * step;
      const double weight = bicubic ? cubic(x) : triangle(x);
      at(unrounded, k) = weight;
      total += weight;
    }
    int32_t* weights = axis.weights.data() + int64_t{i} * axis.max_count;
    for (int k = 0; k < taps; k++) {
      const double weight = at(unrounded, k);
      weights[k] = to_fixed(total != 0 ? weight / total : weight);
    }
    at(axis.spans, i) = {begin, taps};
  }
  const ResizeAxis::Span last = axis.spans.back();
  axis.source.begin = axis.spans.front().begin;
  axis.source.count = last.begin + last.count - axis.source.begin;
  for (ResizeAxis::Span& span : axis.spans) span.begin -= axis.source.begin;
}

// Computes one row of a horizontal pass.
void resize_row(const uint8_t* in, const ResizeAxis& axis, uint8_t* out) {
  const int32_t* weights = axis.weights.data();
  for (const ResizeAxis::Span& span : axis.spans) {
    const uint8_t* pixel = in + 3 * ptrdiff_t{span.begin};
    int32_t r = kHalf, g = kHalf, b = kHalf;
    for (int k = 0; k < span.count; k++) {
      r += pixel[3 * k] * weights[k];
      g += pixel[3 * k + 1] * weights[k];
      b += pixel[3 * k + 2] * weights[k];
    }
    out[0] = to_pixel(r);
    out[1] = to_pixel(g);
    out[2] = to_pixel(b);
    out += 3;
    weights += axis.max_count;
  }
}

// Computes one row, of `bytes` bytes, of a vertical pass.
void blend_rows(const uint8_t* rows, int64_t row_stride, size_t bytes, const int32_t* weights,
                int count, int32_t* sums, uint8_t* out) {
  std::fill_n(sums, bytes, kHalf);
  for (int k = 0; k < count; k++) {
    const uint8_t* row = rows + k * row_stride;
    const int32_t weight = weights[k];
    for (size_t i = 0; i < bytes; i++) sums[i] += row[i] * weight;
  }
  for (size_t i = 0; i < bytes; i++) out[i] = to_pixel(sums[i]);
}

// Each pass expects in `in` exactly the pixels that `axis` needs in its direction. The rows of
// `out` follow one another without gaps.
void horizontal_pass(const PixelView& in, const ResizeAxis& axis, uint8_t* out) {
  for (int y = 0; y < in.height; y++, out += 3 * axis.spans.size()) {
    resize_row(in.rgb + y * in.row_stride, axis, out);
  }
}

void vertical_pass(const PixelView& in, const ResizeAxis& axis, std::vector<int32_t>& sums,
                   uint8_t* out) {
  const size_t row_bytes = 3 * static_cast<size_t>(in.width);
  sums.resize(row_bytes);
  const int32_t* weights = axis.weights.data();
  for (const ResizeAxis::Span& span : axis.spans) {
    const uint8_t* rows = in.rgb + span.begin * in.row_stride;
    blend_rows(rows, in.row_stride, row_bytes, weights, span.count, sums.data(), out);
    weights += axis.max_count;
    out += row_bytes;
  }
}

// Whether the vertical pass is the first. Pillow 13 makes it so where the height loses more than
// twice as many pixels as the width. The order matters because pixels are rounded and clipped
// between the passes.
bool goes_vertically_first(const PixelView& image, int width, int height) {
  const int narrower = image.width - width, lower = image.height - height;
  return lower > 0 && lower > 2 * narrower;
}

void check_resized(const PixelView& image, Size size) {
  if (size.width < 1 || size.height < 1 || size.width > kMaxResizedSide ||
      size.height > kMaxResizedSide) {
    fail("image of ", image.width, "x", image.height, " would be resized to ", size.width, "x",
         size.height, ", expected sides of 1 to ", kMaxResizedSide, " pixels");
  }
}

void check_window(const Window& window, int width, int height, size_t out_size) {
  const bool inside = window.width > 0 && window.height > 0 && window.x >= 0 && window.y >= 0 &&
                      window.x <= width - window.width && window.y <= height - window.height;
  if (!inside) {
    fail("window of ", window.width, "x", window.height, " at ", window.x, ",", window.y,
         " is not inside the resized image of ", width, "x", height);
  }
  const int64_t bytes = int64_t{3} * window.width * window.height;
  if (std::cmp_not_equal(out_size, bytes)) {
    fail("resized window: expected ", bytes, " bytes of output, found ", out_size);
  }
}

// Returns the double that the shortest decimal notation of crop_pct stands for. timm divides by
// 0.8, not by 0.8f, and floor(224 / crop_pct) differs.
double crop_fraction(float crop_pct) {
  char text[32];
  // Nine digits tell every float apart. std::to_chars would bring large tables into a static
  // program.
  for (int digits = 1; digits <= 9; digits++) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(crop_pct));
    if (std::strtof(text, nullptr) == crop_pct) break;
  }
  return std::strtod(text, nullptr);
}

int64_t scaled_side(int side, float crop_pct) {
  const double scaled = std::floor(side / crop_fraction(crop_pct));
  if (!(scaled >= 1 && scaled <= kMaxResizedSide)) {
    fail("preprocessing: crop_pct of ", crop_pct, " gives no usable size for an input side of ",
         side);
  }
  return static_cast<int64_t>(scaled);
}

// Returns the size to which timm resizes the image. With `squash` it is `target`. A square target
// is the shorter side, and the longer one follows, rounded down (torchvision's Resize). Otherwise
// the image just covers the target, rounded half to even (ResizeKeepRatio).
Size resized_size(const PixelView& image, Size target, bool squash) {
  if (squash) return target;
  if (target.width == target.height) {
    const int64_t longer =
        target.width * std::max(image.width, image.height) / std::min(image.width, image.height);
    return image.width <= image.height ? Size{target.width, longer} : Size{longer, target.height};
  }
  const double ratio =
      std::min(static_cast<double>(image.width) / static_cast<double>(target.width),
               static_cast<double>(image.height) / static_cast<double>(target.height));
  return {std::llrint(image.width / ratio), std::llrint(image.height / ratio)};
}

// The place of the resized image on one axis of the model's input: its pixels [offset, offset +
// length) follow `padding` black ones.
struct Placement {
  int offset, padding, length;
};

Placement center(int resized, int wanted, bool floor_crop) {
  if (resized < wanted) return {0, (wanted - resized) / 2, resized};
  const int spare = resized - wanted;
  const int half = spare / 2;
  if (floor_crop) return {half, 0, wanted};
  return {half + (spare % 2 & half), 0, wanted};  // spare / 2.0 rounded half to even
}

// out = (pixel / 255 - mean) / std, with out [3, image_height, image_width] and pixels
// [y.length, x.length, 3]. What the pixels do not cover is black.
void normalize(std::span<const uint8_t> pixels, const Placement& x, const Placement& y,
               const ModelInfo& config, std::span<float> out) {
  const auto width = static_cast<size_t>(config.image_width);
  const size_t plane = width * static_cast<size_t>(config.image_height);
  const bool padded = x.length < config.image_width || y.length < config.image_height;
  for (size_t c = 0; c < 3; c++) {
    float value[256];
    const float mean = config.preprocess.mean[c], std = config.preprocess.std[c];
    for (int i = 0; i < 256; i++) value[i] = (static_cast<float>(i) / 255.0f - mean) / std;
    float* to = out.data() + c * plane;
    if (padded) std::fill_n(to, plane, value[0]);
    to += static_cast<size_t>(y.padding) * width + static_cast<size_t>(x.padding);
    const uint8_t* from = pixels.data() + c;
    for (int row = 0; row < y.length; row++, to += width) {
      for (int i = 0; i < x.length; i++, from += 3) to[i] = value[*from];
    }
  }
}

}  // namespace

void check_view(const PixelView& image) {
  if (image.rgb == nullptr) fail("image: no pixels");
  if (image.width < 1 || image.height < 1 || image.width > kMaxImageSide ||
      image.height > kMaxImageSide) {
    fail("image: expected sides of 1 to ", kMaxImageSide, " pixels, found ", image.width, "x",
         image.height);
  }
  if (image.row_stride < 3 * int64_t{image.width}) {
    fail("image: expected a row stride of at least ", 3 * int64_t{image.width}, " bytes, found ",
         image.row_stride);
  }
}

void resize_window(const PixelView& image, int width, int height, const Window& window,
                   PreprocessConfig::Resize filter, std::span<uint8_t> out,
                   PreprocessScratch& scratch) {
  check_view(image);
  check_resized(image, {width, height});
  check_window(window, width, height, out.size());
  ResizeAxis& horizontal = scratch.horizontal;
  ResizeAxis& vertical = scratch.vertical;
  plan_axis(image.width, width, window.x, window.width, filter, scratch.unrounded, horizontal);
  plan_axis(image.height, height, window.y, window.height, filter, scratch.unrounded, vertical);

  const PixelView source = {
      image.rgb + vertical.source.begin * image.row_stride + 3 * ptrdiff_t{horizontal.source.begin},
      horizontal.source.count, vertical.source.count, image.row_stride};
  const bool vertical_first = goes_vertically_first(image, width, height);
  const int halfway_width = vertical_first ? source.width : window.width;
  const int halfway_height = vertical_first ? window.height : source.height;
  const int64_t halfway_stride = 3 * int64_t{halfway_width};
  scratch.halfway.resize(array_size(halfway_stride * halfway_height));
  const PixelView halfway = {scratch.halfway.data(), halfway_width, halfway_height, halfway_stride};
  if (vertical_first) {
    vertical_pass(source, vertical, scratch.sums, scratch.halfway.data());
    horizontal_pass(halfway, horizontal, out.data());
  } else {
    horizontal_pass(source, horizontal, scratch.halfway.data());
    vertical_pass(halfway, vertical, scratch.sums, out.data());
  }
}

void preprocess(const PixelView& image, const ModelInfo& config, std::span<float> out,
                PreprocessScratch& scratch) {
  check_view(image);
  const int64_t floats = int64_t{3} * config.image_height * config.image_width;
  if (std::cmp_not_equal(out.size(), floats)) {
    fail("preprocessing: expected an output of ", floats, " floats, found ", out.size());
  }
  const PreprocessConfig& how = config.preprocess;
  const Size target = {scaled_side(config.image_width, how.crop_pct),
                       scaled_side(config.image_height, how.crop_pct)};
  const Size size = resized_size(image, target, how.squash);
  check_resized(image, size);
  const int width = static_cast<int>(size.width), height = static_cast<int>(size.height);
  const Placement x = center(width, config.image_width, how.floor_crop);
  const Placement y = center(height, config.image_height, how.floor_crop);
  scratch.pixels.resize(3 * array_size(x.length, y.length));
  resize_window(image, width, height, {x.offset, y.offset, x.length, y.length}, how.resize,
                scratch.pixels, scratch);
  normalize(scratch.pixels, x, y, config, out);
}

}  // namespace vitrun
