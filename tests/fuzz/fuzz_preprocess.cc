// Fuzz target: preprocessing. Any image and any configuration give a message or finite floats; a
// window of a resized image is that part of the whole one.
#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/vision/preprocess.h"
#include "tests/fuzz/fuzz_target.h"

namespace vitrun {
namespace {

// Pixels that end where they end, so that AddressSanitizer sees a read past them.
struct Picture {
  std::vector<uint8_t> bytes;
  PixelView view;
};

Picture picture(Choices& choices) {
  const int width = choices.between(1, 60), height = choices.between(1, 60);
  const int stride = 3 * width + choices.between(0, 4);
  Picture p;
  p.bytes.resize(static_cast<size_t>(stride * (height - 1) + 3 * width));
  uint32_t state = choices.number<uint32_t>();
  for (uint8_t& b : p.bytes) b = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  p.view = {p.bytes.data(), width, height, stride};
  return p;
}

ModelInfo config(Choices& choices) {
  ModelInfo c;
  c.image_width = choices.between(1, 40);
  c.image_height = choices.below(2) ? c.image_width : choices.between(1, 40);
  PreprocessConfig& p = c.preprocess;
  p.resize =
      choices.below(2) ? PreprocessConfig::Resize::kBicubic : PreprocessConfig::Resize::kBilinear;
  p.squash = choices.below(2);
  p.crop_pct = choices.below(4) ? 0.01f * static_cast<float>(choices.between(20, 120))
                                : choices.number<float>();
  for (float& mean : p.mean) mean = 0.01f * static_cast<float>(choices.between(0, 100));
  for (float& std : p.std) std = 0.01f * static_cast<float>(choices.between(1, 100));
  return c;
}

void fuzz_whole(Choices& choices, PreprocessScratch& scratch) {
  const Picture p = picture(choices);
  const ModelInfo c = config(choices);
  std::vector<float> out(static_cast<size_t>(3 * c.image_width * c.image_height), NAN);
  preprocess(p.view, c, out, scratch);
  for (float v : out) FUZZ_CHECK(std::isfinite(v));
}

void fuzz_window(Choices& choices, PreprocessScratch& scratch) {
  const Picture p = picture(choices);
  const auto filter =
      choices.below(2) ? PreprocessConfig::Resize::kBicubic : PreprocessConfig::Resize::kBilinear;
  const int width = choices.between(1, 50), height = choices.between(1, 50);
  Window w = {choices.below(width), choices.below(height), 0, 0};
  w.width = choices.between(1, width - w.x);
  w.height = choices.between(1, height - w.y);
  const auto area = [](int x, int y) { return static_cast<size_t>(3 * x * y); };
  std::vector<uint8_t> whole(area(width, height)), part(area(w.width, w.height));
  resize_window(p.view, width, height, {0, 0, width, height}, filter, whole, scratch);
  resize_window(p.view, width, height, w, filter, part, scratch);
  for (int y = 0; y < w.height; y++)
    FUZZ_CHECK(std::equal(part.data() + area(w.width, y), part.data() + area(w.width, y + 1),
                          whole.data() + area(width, w.y + y) + area(w.x, 1)));
}

}  // namespace

void fuzz_target(std::span<const uint8_t> bytes) {
  static PreprocessScratch scratch;  // kept from run to run, as a session does
  Choices choices(bytes);
  if (choices.below(2))
    fuzz_whole(choices, scratch);
  else
    fuzz_window(choices, scratch);
}

}  // namespace vitrun
