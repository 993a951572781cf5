#include "lrp/report/heatmap.h"

#include <algorithm>
#include <cmath>

#include "models/base/index.h"
#include "runtime/vision/encode_image.h"

namespace vitrun {
namespace {

struct Color {
  float r, g, b;
};

// Maps x in 0..1 to black, violet, red, orange, yellow. Lightness grows evenly, so that the order
// is visible without hue.
Color colormap(float x) {
  static constexpr Color kStops[] = {{0, 0, 4},      {31, 12, 72},   {85, 15, 109},
                                     {136, 34, 106}, {186, 54, 85},  {227, 89, 51},
                                     {249, 140, 10}, {249, 201, 50}, {252, 255, 164}};
  const float at = std::clamp(x, 0.f, 1.f) * 8;
  const int i = std::min(static_cast<int>(at), 7);
  const float t = at - static_cast<float>(i);
  const Color &a = kStops[i], &b = kStops[i + 1];
  return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}

void set_pixel(Image& picture, int x, int y, Color c) {
  uint8_t* p = picture.rgb.data() + 3 * (int64_t{y} * picture.width + x);
  for (float v : {c.r, c.g, c.b})
    *p++ = static_cast<uint8_t>(std::lround(std::clamp(v, 0.f, 255.f)));
}

// Interpolates map [height, width] between the centres of patches at the point (x, y) of the image,
// each in 0..1.
float sample(const std::vector<float>& map, int width, int height, float x, float y) {
  const float fx =
      std::clamp(x * static_cast<float>(width) - 0.5f, 0.f, static_cast<float>(width - 1));
  const float fy =
      std::clamp(y * static_cast<float>(height) - 0.5f, 0.f, static_cast<float>(height - 1));
  const int x0 = static_cast<int>(fx), y0 = static_cast<int>(fy);
  const int x1 = std::min(x0 + 1, width - 1), y1 = std::min(y0 + 1, height - 1);
  auto patch = [&](int column, int row) { return at(map, row * width + column); };
  const float tx = fx - static_cast<float>(x0), ty = fy - static_cast<float>(y0);
  return (patch(x0, y0) * (1 - tx) + patch(x1, y0) * tx) * (1 - ty) +
         (patch(x0, y1) * (1 - tx) + patch(x1, y1) * tx) * ty;
}

}  // namespace

std::vector<uint8_t> draw_heatmap(const ModelInfo& info, MapSize patches, const Tensor& image,
                                  const std::vector<float>& heatmap) {
  const PreprocessConfig& p = info.preprocess;
  const int width = static_cast<int>(image.dims.at(3)), height = static_cast<int>(image.dims.at(2)),
            zoom = width < 160 ? 160 / width + 1 : 1;
  const int w = width * zoom, h = height * zoom, gap = 8, bar = 12;
  const auto [low, high] = std::minmax_element(heatmap.begin(), heatmap.end());
  const float span = *high > *low ? *high - *low : 1;
  Image canvas{2 * w + 2 * gap + bar, h, {}};
  canvas.rgb.assign(3 * array_size(canvas.width, canvas.height), 255);
  for (int y = 0; y < h; y++) {
    for (int x = 0; x < w; x++) {
      float pixel[3];
      for (int i = 0; i < 3; i++) {
        const float value = at(image.data, (i * height + y / zoom) * width + x / zoom);
        pixel[i] = 255 * (value * p.std[i] + p.mean[i]);
      }
      set_pixel(canvas, x, y, {pixel[0], pixel[1], pixel[2]});
      const float heat = (sample(heatmap, patches.width, patches.height,
                                 (static_cast<float>(x) + 0.5f) / static_cast<float>(w),
                                 (static_cast<float>(y) + 0.5f) / static_cast<float>(h)) -
                          *low) /
                         span;
      const Color over = colormap(heat);
      const float grey = 0.3f * pixel[0] + 0.59f * pixel[1] + 0.11f * pixel[2],
                  mix = 0.4f + 0.35f * heat;
      set_pixel(canvas, w + gap + x, y,
                {grey + (over.r - grey) * mix, grey + (over.g - grey) * mix,
                 grey + (over.b - grey) * mix});
    }
    for (int x = 0; x < bar; x++)
      set_pixel(canvas, 2 * w + 2 * gap + x, y,
                colormap(1 - static_cast<float>(y) / static_cast<float>(h - 1)));
  }
  return encode_png(canvas);
}

}  // namespace vitrun
