// Resizing against Pillow and the whole transform against timm, bit for bit (golden/make_image.py).
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/base/error.h"
#include "runtime/files/crc32.h"
#include "runtime/vision/preprocess.h"
#include "tests/runtime/vision/pattern.h"

using namespace vitrun;

namespace {

using Resize = PreprocessConfig::Resize;

struct Expected {
  uint32_t crc = 0;
  std::string hex;  // of the bytes; empty for all but the small ones
};

Expected read_expected(std::istream& in) {
  Expected expected;
  in >> std::hex >> expected.crc >> std::dec;
  in >> expected.hex;
  return expected;
}

void check_bytes(std::span<const uint8_t> bytes, const Expected& expected) {
  if (!expected.hex.empty()) {
    std::string hex;
    char digits[3];
    for (uint8_t byte : bytes) {
      std::snprintf(digits, sizeof digits, "%02x", byte);
      hex += digits;
    }
    CHECK(hex == expected.hex);
  }
  CHECK(crc32(bytes) == expected.crc);
}

std::vector<std::string> golden_lines(const std::string& name) {
  std::ifstream file(std::string(VITRUN_TEST_DIR) + "/golden/image/" + name);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

Resize filter_named(const std::string& name) {
  REQUIRE((name == "bicubic" || name == "bilinear"));
  return name == "bicubic" ? Resize::kBicubic : Resize::kBilinear;
}

ModelInfo small_config(int width, int height) {
  ModelInfo config;
  config.image_width = width;
  config.image_height = height;
  return config;
}

void set_normalisation(const std::string& name, PreprocessConfig& config) {
  if (name == "imagenet") return;  // the default
  REQUIRE(name == "half");
  for (int c = 0; c < 3; c++) config.mean[c] = config.std[c] = 0.5f;
}

std::span<const uint8_t> as_bytes(const std::vector<float>& floats) {
  return {reinterpret_cast<const uint8_t*>(floats.data()), floats.size() * sizeof(float)};
}

template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("resize equals Pillow's bit for bit") {
  const std::vector<std::string> lines = golden_lines("resize.txt");
  REQUIRE(lines.size() > 50);
  PreprocessScratch scratch;
  for (const std::string& line : lines) {
    CAPTURE(line);
    std::istringstream in(line);
    int width, height, new_width, new_height;
    std::string filter, kind;
    in >> width >> height >> new_width >> new_height >> filter >> kind;
    const Expected expected = read_expected(in);
    const Pixels source(width, height, kind);
    std::vector<uint8_t> out(3 * static_cast<size_t>(new_width) * static_cast<size_t>(new_height));
    resize_window(source.view(), new_width, new_height, {0, 0, new_width, new_height},
                  filter_named(filter), out, scratch);
    check_bytes(out, expected);
  }
}

TEST_CASE("preprocessing equals timm's eval transform bit for bit") {
  const std::vector<std::string> lines = golden_lines("preprocess.txt");
  REQUIRE(lines.size() > 20);
  PreprocessScratch scratch;
  for (const std::string& line : lines) {
    CAPTURE(line);
    std::istringstream in(line);
    int width, height, model_width, model_height;
    in >> width >> height >> model_width >> model_height;
    ModelInfo config = small_config(model_width, model_height);
    std::string filter, normalisation;
    in >> config.preprocess.crop_pct >> config.preprocess.squash >> filter >> normalisation;
    config.preprocess.resize = filter_named(filter);
    set_normalisation(normalisation, config.preprocess);
    const Expected expected = read_expected(in);
    const Pixels source(width, height, "noise");
    std::vector<float> out(3 * static_cast<size_t>(model_width) *
                           static_cast<size_t>(model_height));
    preprocess(source.view(), config, out, scratch);
    check_bytes(as_bytes(out), expected);
  }
}

TEST_CASE("a window of a resize is that part of the whole") {
  const Window window = {5, 11, 20, 30};
  PreprocessScratch scratch;
  const auto check_window = [&](const Pixels& source, int width, int height) {
    std::vector<uint8_t> whole(3 * static_cast<size_t>(width) * static_cast<size_t>(height));
    std::vector<uint8_t> part(3 * 20 * 30);
    resize_window(source.view(), width, height, {0, 0, width, height}, Resize::kBicubic, whole,
                  scratch);
    resize_window(source.view(), width, height, window, Resize::kBicubic, part, scratch);
    for (size_t y = 0; y < 30; y++) {
      const uint8_t* expected = &whole[3 * ((y + 11) * static_cast<size_t>(width) + 5)];
      CHECK(std::memcmp(&part[y * 60], expected, 60) == 0);
    }
  };
  check_window(Pixels(61, 43, "extreme"), 37, 70);   // horizontally first
  check_window(Pixels(61, 143, "extreme"), 37, 70);  // vertically first
}

TEST_CASE("bytes between the rows are not part of the image") {
  const Pixels source(9, 7, "noise");
  constexpr size_t kStride = 40;
  std::vector<uint8_t> spread(6 * kStride + 27, 0xEE);  // ends with the last pixel
  for (size_t y = 0; y < 7; y++) std::memcpy(&spread[y * kStride], &source.rgb[y * 27], 27);
  std::vector<uint8_t> dense(75), strided(75);
  PreprocessScratch scratch;
  const auto check_size = [&](int width, int height) {
    const Window window = {width - 5, height - 5, 5, 5};
    resize_window(source.view(), width, height, window, Resize::kBilinear, dense, scratch);
    resize_window({spread.data(), 9, 7, kStride}, width, height, window, Resize::kBilinear, strided,
                  scratch);
    CHECK(dense == strided);
  };
  check_size(6, 8);  // horizontally first
  check_size(9, 5);  // vertically first
}

TEST_CASE("a second image of the same size allocates nothing") {
  const Pixels first(50, 40, "noise"), second(30, 90, "smooth");  // the two orders of passes
  const ModelInfo config = small_config(24, 24);
  std::vector<float> out(3 * 24 * 24);
  PreprocessScratch scratch;
  preprocess(first.view(), config, out, scratch);
  const auto buffers = [&] {
    return std::vector<const void*>{scratch.halfway.data(), scratch.sums.data(),
                                    scratch.pixels.data(), scratch.horizontal.weights.data(),
                                    scratch.vertical.weights.data()};
  };
  preprocess(second.view(), config, out, scratch);
  const std::vector<const void*> before = buffers();
  preprocess(first.view(), config, out, scratch);
  preprocess(second.view(), config, out, scratch);
  CHECK(buffers() == before);
}

TEST_CASE("what cannot be preprocessed is refused with its reason") {
  const Pixels source(8, 6, "noise");
  const ModelInfo config = small_config(4, 4);
  std::vector<float> out(48);
  PreprocessScratch scratch;
  const auto refusal = [&](const PixelView& image, const ModelInfo& how, std::span<float> to) {
    return message_of([&] { preprocess(image, how, to, scratch); });
  };
  CHECK(refusal({source.rgb.data(), 0, 6, 24}, config, out) ==
        "image: expected sides of 1 to 32768 pixels, found 0x6");
  CHECK(refusal({source.rgb.data(), 8, 40000, 24}, config, out) ==
        "image: expected sides of 1 to 32768 pixels, found 8x40000");
  CHECK(refusal({nullptr, 8, 6, 24}, config, out) == "image: no pixels");
  CHECK(refusal({source.rgb.data(), 8, 6, 23}, config, out) ==
        "image: expected a row stride of at least 24 bytes, found 23");
  CHECK(refusal(source.view(), config, std::span(out).first(47)) ==
        "preprocessing: expected an output of 48 floats, found 47");
  ModelInfo bad = config;
  bad.preprocess.crop_pct = 0;
  CHECK(refusal(source.view(), bad, out) ==
        "preprocessing: crop_pct of 0 gives no usable size for an input side of 4");
  bad.preprocess.crop_pct = 5;
  CHECK(refusal(source.view(), bad, out) ==
        "preprocessing: crop_pct of 5 gives no usable size for an input side of 4");

  const std::vector<uint8_t> thin(3 * 32768);
  const ModelInfo large = small_config(224, 224);
  std::vector<float> large_out(3 * 224 * 224);
  CHECK(refusal({thin.data(), 32768, 1, 3 * 32768}, large, large_out) ==
        "image of 32768x1 would be resized to 8126464x248, expected sides of 1 to 1048576 pixels");
}

TEST_CASE("a window outside the resized image is refused") {
  const Pixels source(8, 6, "noise");
  std::vector<uint8_t> out(12);
  PreprocessScratch scratch;
  const auto refusal = [&](const Window& window, size_t bytes) {
    return message_of([&] {
      resize_window(source.view(), 4, 3, window, Resize::kBilinear, std::span(out).first(bytes),
                    scratch);
    });
  };
  CHECK(refusal({3, 0, 2, 2}, 12) == "window of 2x2 at 3,0 is not inside the resized image of 4x3");
  CHECK(refusal({0, -1, 2, 2}, 12) ==
        "window of 2x2 at 0,-1 is not inside the resized image of 4x3");
  CHECK(refusal({0, 0, 0, 2}, 0) == "window of 0x2 at 0,0 is not inside the resized image of 4x3");
  CHECK(refusal({2, 1, 2, 2}, 11) == "resized window: expected 12 bytes of output, found 11");
  CHECK(refusal({2, 1, 2, 2}, 12) == "no error");
}
