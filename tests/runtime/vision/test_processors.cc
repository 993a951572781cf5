// preprocessor_config.json and the pixels it makes against transformers' own image processors
// (golden/make_processors.py).
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "models/checkpoints/config.h"
#include "runtime/files/crc32.h"
#include "runtime/vision/preprocess.h"

using namespace vitrun;

namespace {

// pattern(width, height, "noise") of golden/make_image.py.
std::vector<uint8_t> noise(int width, int height) {
  std::vector<uint8_t> rgb;
  for (int i = 0; i < width * height * 3; i++) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + 12345u;
    h = (h ^ (h >> 15)) * 2246822519u;
    rgb.push_back(static_cast<uint8_t>((h ^ (h >> 13)) >> 24));
  }
  return rgb;
}

// Returns the pixels [height, width, 3] that the model's input stands for.
std::vector<uint8_t> pixels_of(const std::vector<float>& planes) {
  const size_t plane = planes.size() / 3;
  std::vector<uint8_t> rgb;
  for (size_t i = 0; i < planes.size(); i++)
    rgb.push_back(static_cast<uint8_t>(std::lround(planes[i % 3 * plane + i / 3] * 255)));
  return rgb;
}

}  // namespace

TEST_CASE("images are resized and cropped as transformers' image processors do") {
  std::ifstream file(VITRUN_TEST_DIR "/golden/image/processors.txt");
  int lines = 0;
  PreprocessScratch scratch;
  for (std::string line; std::getline(file, line); lines++) {
    CAPTURE(line);
    std::istringstream in(line);
    int width, height;
    ModelConfig config;
    uint32_t crc;
    std::string json;
    in >> width >> height >> config.image_width >> config.image_height >> std::hex >> crc;
    std::getline(in, json);
    config.patch = 8;
    config.depths = {1};
    config.heads = {1};
    apply_preprocessor_json(json, config, "f");
    for (int c = 0; c < 3; c++) config.preprocess.mean[c] = 0, config.preprocess.std[c] = 1;
    const std::vector<uint8_t> rgb = noise(width, height);
    std::vector<float> out(3 * static_cast<size_t>(config.image_width * config.image_height));
    preprocess({rgb.data(), width, height, 3 * int64_t{width}}, config, out, scratch);
    CHECK(crc32(pixels_of(out)) == crc);
  }
  CHECK(lines > 50);
}
