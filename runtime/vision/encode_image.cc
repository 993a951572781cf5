#include "runtime/vision/encode_image.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

#include "models/base/error.h"

namespace vitrun {
namespace {

void append(void* to, void* data, int size) {
  auto& bytes = *static_cast<std::vector<uint8_t>*>(to);
  const auto* more = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), more, more + size);
}

// Fails if the image has no pixels, or if the encoder did.
void check(const Image& image, bool encoded) {
  if (!encoded) fail("cannot encode a picture of ", image.width, " x ", image.height);
}

}  // namespace

std::vector<uint8_t> encode_png(const Image& image) {
  std::vector<uint8_t> out;
  check(image, !image.rgb.empty() && stbi_write_png_to_func(append, &out, image.width, image.height,
                                                            3, image.rgb.data(), 0));
  return out;
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  std::vector<uint8_t> out;
  check(image, !image.rgb.empty() && stbi_write_jpg_to_func(append, &out, image.width, image.height,
                                                            3, image.rgb.data(), quality));
  return out;
}

}  // namespace vitrun
