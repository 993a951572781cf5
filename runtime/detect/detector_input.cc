#include "runtime/detect/detector_input.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

constexpr float kOne = 2048;  // 11 fractional bits

// OpenCV lets x taps end at the border, while y taps keep their weights and read the border twice.
// The two differ by how products are rounded.
enum class Border { kOneTap, kTwoTaps };

LinearAxis plan_axis(int in, int out, Border border) {
  const double scale = 1.0 / (static_cast<double>(out) / in);
  LinearAxis axis;
  for (int i = 0; i < out; i++) {
    const auto place = static_cast<float>((i + 0.5) * scale - 0.5);
    int low = static_cast<int>(std::floor(place));
    float part = place - static_cast<float>(low);
    if (border == Border::kOneTap && (low < 0 || low >= in - 1)) part = 0;
    axis.taps.push_back({std::clamp(low, 0, in - 1), std::clamp(low + 1, 0, in - 1),
                         static_cast<int32_t>(std::lrint((1 - part) * kOne)),
                         static_cast<int32_t>(std::lrint(part * kOne))});
  }
  return axis;
}

void stretch_row(const uint8_t* pixels, const LinearAxis& axis, int32_t* out) {
  for (const LinearAxis::Tap& tap : axis.taps) {
    const uint8_t* a = pixels + 3 * ptrdiff_t{tap.first};
    const uint8_t* b = pixels + 3 * ptrdiff_t{tap.second};
    for (int c = 0; c < 3; c++) *out++ = a[c] * tap.first_weight + b[c] * tap.second_weight;
  }
}

int padded(int side, int divisor) {
  return (side + divisor - 1) / divisor * divisor;
}

// The values of the bytes of each channel.
struct Normalisation {
  float value[3][256];

  explicit Normalisation(const PreprocessConfig& p) {
    for (size_t c = 0; c < 3; c++)
      for (size_t i = 0; i < 256; i++)
        value[c][i] = (static_cast<float>(i) / 255.0f - p.mean[c]) / p.std[c];
  }
};

}  // namespace

LinearResizer::LinearResizer(const PixelView& image, int width, int height) : image_(image) {
  check_view(image);
  if (width < 1 || height < 1 || width > kMaxImageSide || height > kMaxImageSide)
    fail("image of ", image.width, "x", image.height, " would be resized to ", width, "x", height,
         ", expected sides of 1 to ", kMaxImageSide, " pixels");
  horizontal_ = plan_axis(image.width, width, Border::kOneTap);
  vertical_ = plan_axis(image.height, height, Border::kTwoTaps);
  for (std::vector<int32_t>& row : rows_) row.resize(array_size(width, 3));
}

// Row y of the image, resized horizontally. Two rows that follow one another have their own places.
const int32_t* LinearResizer::stretched(int y) {
  std::vector<int32_t>& row = rows_[y % 2];
  if (std::exchange(held_[y % 2], y) != y)
    stretch_row(image_.rgb + y * image_.row_stride, horizontal_, row.data());
  return row.data();
}

void LinearResizer::row(int y, std::span<uint8_t> out) {
  const LinearAxis::Tap& tap = at(vertical_.taps, y);
  const int32_t* a = stretched(tap.first);
  const int32_t* b = stretched(tap.second);
  for (size_t i = 0; i < out.size(); i++) {
    const int32_t first = (tap.first_weight * (a[i] >> 4)) >> 16;
    const int32_t second = (tap.second_weight * (b[i] >> 4)) >> 16;
    out[i] = static_cast<uint8_t>((first + second + 2) >> 2);
  }
}

ScaledSize scaled_size(int width, int height, const DetectorInfo& info) {
  const auto [shorter, longer] = std::minmax(info.shortest_edge, info.longest_edge);
  const double scale = std::min(static_cast<double>(longer) / std::max(width, height),
                                static_cast<double>(shorter) / std::min(width, height));
  return {std::max(static_cast<int>(width * scale + 0.5), 1),
          std::max(static_cast<int>(height * scale + 0.5), 1)};
}

MapSize input_size(int width, int height, const DetectorInfo& info) {
  const ScaledSize scaled = scaled_size(width, height, info);
  return {padded(scaled.height, info.size_divisor), padded(scaled.width, info.size_divisor)};
}

DetectorInput detector_input(const PixelView& image, const DetectorInfo& info,
                             const PreprocessConfig& preprocess) {
  check_view(image);
  const auto [width, height] = scaled_size(image.width, image.height, info);
  const auto [padded_height, padded_width] = input_size(image.width, image.height, info);
  const Normalisation normalisation(preprocess);
  DetectorInput input = {Tensor({1, 3, padded_height, padded_width}), width, height,
                         static_cast<float>(ratio(width, image.width)),
                         static_cast<float>(ratio(height, image.height))};
  LinearResizer resizer(image, width, height);
  std::vector<uint8_t> row(array_size(width, 3));
  for (int y = 0; y < height; y++) {
    resizer.row(y, row);
    for (int c = 0; c < 3; c++) {
      float* out = input.image.data.data() + array_size(c * padded_height + y, padded_width);
      for (int x = 0; x < width; x++) out[x] = normalisation.value[c][at(row, 3 * x + c)];
    }
  }
  return input;
}

}  // namespace vitrun
