// Encoded images, read back by the decoder that is tested against Pillow.
#include <doctest/doctest.h>

#include <cstdlib>

#include "models/base/error.h"
#include "runtime/vision/encode_image.h"

using namespace vitrun;

namespace {

Image gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      for (int v : {4 * x, 5 * y, 2 * (x + y)}) image.rgb.push_back(static_cast<uint8_t>(v));
  return image;
}

}  // namespace

TEST_CASE("a PNG keeps every pixel") {
  const Image image = gradient(37, 21), read = decode_image(encode_png(image), "png");
  CHECK(read.width == 37);
  CHECK(read.height == 21);
  CHECK(read.rgb == image.rgb);
}

TEST_CASE("a JPEG of high quality keeps a smooth picture within a few levels") {
  const Image image = gradient(37, 21), read = decode_image(encode_jpeg(image, 95), "jpeg");
  REQUIRE(read.rgb.size() == image.rgb.size());
  int worst = 0;
  for (size_t i = 0; i < read.rgb.size(); i++)
    worst = std::max(worst, std::abs(read.rgb[i] - image.rgb[i]));
  CHECK(worst <= 8);
}

TEST_CASE("an image without pixels is not encoded") {
  CHECK_THROWS_AS(encode_jpeg(Image{}, 90), Error);
  CHECK_THROWS_AS(encode_png(Image{}), Error);
}
