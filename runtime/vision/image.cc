#include "runtime/vision/image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/files/crc32.h"
#include "runtime/files/mapped_file.h"
#include "runtime/vision/exif.h"
#include "runtime/vision/gif.h"
#include "runtime/vision/image_format.h"
#include "runtime/vision/jpeg.h"
#include "runtime/vision/preprocess.h"
#include "runtime/vision/webp.h"

namespace {

// The most bytes that one allocation of the decoder may take. A few bytes of deflate or Huffman
// code can ask for gigabytes; decode_image() sets the limit from the dimensions it has accepted.
thread_local size_t allocation_limit = 0;

// New memory is zero, so that damaged files decode to the same pixels, or the same error, each
// time.
void* limited_calloc(size_t size) {
  return size <= allocation_limit ? std::calloc(1, size) : nullptr;
}

void* limited_realloc(void* old, size_t size) {
  return size <= allocation_limit ? std::realloc(old, size) : nullptr;
}

}  // namespace

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS (1 << 15)
#define STBI_MALLOC(size) limited_calloc(size)
#define STBI_REALLOC(old, size) limited_realloc(old, size)
#define STBI_FREE(old) std::free(old)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace vitrun {
namespace {

static_assert(kMaxImageSide == STBI_MAX_DIMENSIONS);
constexpr size_t kMaxFileSize = size_t{256} << 20;
constexpr int64_t kMaxPixels = int64_t{128} << 20;

// Follows the chunks to IEND and checks what the decoder does not: the checksums of critical
// chunks, whose names begin with an upper-case letter.
void check_png(Bytes bytes, const std::string& where) {
  size_t at = 8;
  while (true) {
    if (bytes.size() - at < 12) fail_truncated(where, "PNG", "no IEND chunk");
    const size_t length = big32(bytes, at);
    if (length > bytes.size() - at - 12)
      fail_truncated(where, "PNG", "a chunk ends after the file");
    const Bytes chunk = bytes.subspan(at + 4, length + 4);
    const uint32_t stored = big32(bytes, at + 8 + length), found = crc32(chunk);
    if ((chunk[0] & 0x20) == 0 && stored != found) {
      fail(where, ": PNG chunk at byte ", at, ": expected checksum ", stored, ", found ", found);
    }
    if (starts_with(chunk, "IHDR") && length >= 8) {
      check_image_size(big32(chunk, 4), big32(chunk, 8), where);
    }
    if (starts_with(chunk, "IEND")) return;
    at += length + 12;
  }
}

// Checks that uncompressed rows lie within the file. The decoder refuses other kinds itself.
void check_bmp(Bytes bytes, const std::string& where, int width, int height) {
  if (bytes.size() < 30) fail_truncated(where, "BMP", "the header ends after the file");
  const bool core = little32(bytes, 14) == 12;
  const uint32_t bits = little16(bytes, core ? 24 : 28);
  const uint64_t row = (uint64_t{bits} * static_cast<uint64_t>(width) + 31) / 32 * 4;
  if (little32(bytes, 10) + row * static_cast<uint64_t>(height) > bytes.size()) {
    fail_truncated(where, "BMP", "the pixels end after the file");
  }
}

// Bounds what the decoder may allocate. Sixteen bytes for each pixel cover 16-bit RGBA twice over,
// and 32 more pixels on each side cover JPEG's blocks.
size_t memory_for(int width, int height, size_t file_size) {
  const size_t pixels = array_size(width + 32, height + 32);
  return 16 * pixels + 2 * file_size + (size_t{1} << 20);
}

// Decodes what stb_image reads; `format` is not kWebp.
Image decode_with_stb(Bytes bytes, ImageFormat format, const std::string& where) {
  const int size = static_cast<int>(bytes.size());
  Image image;
  int components = 0;
  allocation_limit = memory_for(0, 0, bytes.size());
  if (!stbi_info_from_memory(bytes.data(), size, &image.width, &image.height, &components)) {
    fail(where, ": damaged or unsupported image header");
  }
  check_image_size(image.width, image.height, where);
  if (format == ImageFormat::kBmp) check_bmp(bytes, where, image.width, image.height);

  allocation_limit = memory_for(image.width, image.height, bytes.size());
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), size, &image.width, &image.height, &components, 3),
      stbi_image_free);
  if (!pixels) fail(where, ": damaged or unsupported image: ", stbi_failure_reason());
  const size_t count = 3 * array_size(image.width, image.height);
  image.rgb.assign(pixels.get(), pixels.get() + count);
  return image;
}

Image decode_gif(Bytes bytes, const std::string& where) {
  const GifFrame frame = first_gif_frame(bytes, where);
  check_image_size(frame.canvas_width, frame.canvas_height, where);
  check_image_size(frame.width, frame.height, where);
  Image inner = decode_with_stb(frame.file, ImageFormat::kGif, where);
  if (frame.width == frame.canvas_width && frame.height == frame.canvas_height) return inner;
  Image image{frame.canvas_width, frame.canvas_height, {}};
  image.rgb.resize(3 * array_size(image.width, image.height));
  for (size_t i = 0; i < image.rgb.size(); i++) image.rgb[i] = frame.outside[i % 3];
  const size_t row = 3 * static_cast<size_t>(frame.width);
  for (int y = 0; y < frame.height; y++) {
    const size_t place = array_size(frame.y + y, image.width) + static_cast<size_t>(frame.x);
    std::copy_n(inner.rgb.begin() + static_cast<ptrdiff_t>(row * static_cast<size_t>(y)), row,
                image.rgb.begin() + static_cast<ptrdiff_t>(3 * place));
  }
  return image;
}

Image decode_as_stored(Bytes bytes, ImageFormat format, const std::string& where) {
  if (format == ImageFormat::kGif) return decode_gif(bytes, where);
  if (format == ImageFormat::kWebp) {
    const WebpSize size = webp_size(bytes, where);
    check_image_size(size.width, size.height, where);
    return decode_webp(bytes, where);
  }
  if (format == ImageFormat::kJpeg) check_jpeg(bytes, where);
  if (format == ImageFormat::kPng) check_png(bytes, where);
  return decode_with_stb(bytes, format, where);
}

}  // namespace

void fail_truncated(const std::string& where, const char* format, const char* missing) {
  fail(where, ": truncated ", format, " file: ", missing);
}

// The decoder checks sizes as well, but its message does not say so.
void check_image_size(int64_t width, int64_t height, const std::string& where) {
  if (width < 1 || height < 1 || width > kMaxImageSide || height > kMaxImageSide ||
      width * height > kMaxPixels) {
    fail(where, ": expected sides of 1 to ", kMaxImageSide, " and at most ", kMaxPixels,
         " pixels, found ", width, "x", height);
  }
}

Image decode_image(Bytes bytes, const std::string& where, Exif exif) {
  if (bytes.empty()) fail(where, ": expected an image, found an empty file");
  if (bytes.size() > kMaxFileSize) {
    fail(where, ": expected an image of at most ", kMaxFileSize, " bytes, found ", bytes.size());
  }
  const ImageFormat format = image_format(bytes, where);
  Image image = decode_as_stored(bytes, format, where);
  if (exif == Exif::kApply) turn_upright(orientation_of(bytes, format), image);
  return image;
}

Image load_image(const std::string& path, Exif exif) {
  return decode_image(MappedFile(path).bytes(), path, exif);
}

}  // namespace vitrun
