#include "runtime/vision/image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string_view>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/files/crc32.h"
#include "runtime/files/mapped_file.h"
#include "runtime/vision/preprocess.h"

namespace {

// The most bytes that one allocation of the decoder may take. A few bytes of deflate or Huffman
// code can ask for gigabytes; decode_image() sets the limit from the dimensions it has accepted.
thread_local size_t allocation_limit = 0;

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
#define STBI_MALLOC(size) limited_realloc(nullptr, size)
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

using Bytes = std::span<const uint8_t>;

uint32_t big16(Bytes bytes, size_t at) {
  return uint32_t{bytes[at]} << 8 | bytes[at + 1];
}

uint32_t big32(Bytes bytes, size_t at) {
  return big16(bytes, at) << 16 | big16(bytes, at + 2);
}

uint32_t little16(Bytes bytes, size_t at) {
  return uint32_t{bytes[at + 1]} << 8 | bytes[at];
}

uint32_t little32(Bytes bytes, size_t at) {
  return little16(bytes, at + 2) << 16 | little16(bytes, at);
}

bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

[[noreturn]] void fail_truncated(const std::string& where, const char* format,
                                 const char* missing) {
  fail(where, ": truncated ", format, " file: ", missing);
}

// The decoder checks sizes as well, but its message does not say so.
void check_size(int64_t width, int64_t height, const std::string& where) {
  if (width < 1 || height < 1 || width > kMaxImageSide || height > kMaxImageSide ||
      width * height > kMaxPixels) {
    fail(where, ": expected sides of 1 to ", kMaxImageSide, " and at most ", kMaxPixels,
         " pixels, found ", width, "x", height);
  }
}

// stb_image 2.27 writes past its table when the code counts exceed 256.
void check_huffman_tables(Bytes segment, const std::string& where) {
  size_t at = 2;
  while (at < segment.size()) {
    size_t codes = 257;
    if (segment.size() - at >= 17) {
      const Bytes counts = segment.subspan(at + 1, 16);
      codes = std::accumulate(counts.begin(), counts.end(), size_t{0});
      at += 17;
    }
    if (codes > 256 || codes > segment.size() - at) fail(where, ": damaged JPEG Huffman table");
    at += codes;
  }
}

// Follows the markers to the end of the image, because the decoder fills missing data with grey or
// noise. In the coded data of a scan every 0xFF is followed by 0 or a restart marker.
void check_jpeg(Bytes bytes, const std::string& where) {
  bool four_components = false, adobe = false;
  size_t at = 2;
  while (true) {
    const auto marker = std::find(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.end(), 0xFF);
    at = static_cast<size_t>(marker - bytes.begin()) + 1;
    if (at >= bytes.size()) fail_truncated(where, "JPEG", "no end-of-image marker");
    const uint8_t kind = bytes[at];
    if (kind == 0xFF) continue;  // a fill byte
    at++;
    if (kind == 0xD9) break;
    if (kind <= 0x01 || (kind >= 0xD0 && kind <= 0xD8)) continue;  // a marker without payload
    if (bytes.size() - at < 2) fail_truncated(where, "JPEG", "a segment has no length");
    const size_t length = big16(bytes, at);
    if (length > bytes.size() - at) fail_truncated(where, "JPEG", "a segment ends after the file");
    const Bytes segment = bytes.subspan(at, length);
    if (kind >= 0xC0 && kind <= 0xC2 && length >= 8) {
      check_size(static_cast<int64_t>(big16(segment, 5)), static_cast<int64_t>(big16(segment, 3)),
                 where);
      four_components = segment[7] == 4;
    }
    if (kind == 0xC4) check_huffman_tables(segment, where);
    if (kind == 0xEE && length >= 14) adobe = starts_with(segment.subspan(2), "Adobe");
    at += length;
  }
  if (four_components && !adobe) {
    fail(where,
         ": JPEG with four components: expected an Adobe marker that says which colours "
         "they are, found none");
  }
}

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
      check_size(big32(chunk, 4), big32(chunk, 8), where);
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

size_t palette_bytes(uint8_t flags) {
  return (flags & 0x80) != 0 ? size_t{3} << ((flags & 7) + 1) : 0;
}

// Follows the blocks to the end of the first frame.
void check_gif(Bytes bytes, const std::string& where) {
  const auto byte = [&](size_t at) {
    if (at >= bytes.size()) fail_truncated(where, "GIF", "the first frame ends after the file");
    return bytes[at];
  };
  const auto skip_blocks = [&](size_t at) {
    while (byte(at) != 0) at += size_t{byte(at)} + 1;
    return at + 1;
  };
  size_t at = 13 + palette_bytes(byte(10));
  while (byte(at) == 0x21) at = skip_blocks(at + 2);  // 0x21 begins an extension
  if (byte(at) != 0x2C) fail(where, ": GIF file without a frame");
  skip_blocks(at + 11 + palette_bytes(byte(at + 9)));
}

enum class Format { kJpeg, kPng, kBmp, kGif };

Format format_of(Bytes bytes, const std::string& where) {
  if (starts_with(bytes, "\xFF\xD8\xFF")) return Format::kJpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1A\n")) return Format::kPng;
  if (starts_with(bytes, "BM")) return Format::kBmp;
  if (starts_with(bytes, "GIF87a") || starts_with(bytes, "GIF89a")) return Format::kGif;
  std::string start;
  char digits[4];
  for (uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8))) {
    std::snprintf(digits, sizeof digits, " %02x", byte);
    start += digits;
  }
  fail(where, ": expected a JPEG, PNG, BMP or GIF image, found a file that starts with", start);
}

void check_complete(Format format, Bytes bytes, const std::string& where) {
  if (format == Format::kJpeg) check_jpeg(bytes, where);
  if (format == Format::kPng) check_png(bytes, where);
  if (format == Format::kGif) check_gif(bytes, where);
}

// Bounds what the decoder may allocate. Sixteen bytes for each pixel cover 16-bit RGBA twice over,
// and 32 more pixels on each side cover JPEG's blocks.
size_t memory_for(int width, int height, size_t file_size) {
  const size_t pixels = array_size(width + 32, height + 32);
  return 16 * pixels + 2 * file_size + (size_t{1} << 20);
}

}  // namespace

Image decode_image(Bytes bytes, const std::string& where) {
  if (bytes.empty()) fail(where, ": expected an image, found an empty file");
  if (bytes.size() > kMaxFileSize) {
    fail(where, ": expected an image of at most ", kMaxFileSize, " bytes, found ", bytes.size());
  }
  const Format format = format_of(bytes, where);
  check_complete(format, bytes, where);

  const int size = static_cast<int>(bytes.size());
  Image image;
  int components = 0;
  allocation_limit = memory_for(0, 0, bytes.size());
  if (!stbi_info_from_memory(bytes.data(), size, &image.width, &image.height, &components)) {
    fail(where, ": damaged or unsupported image header");
  }
  check_size(image.width, image.height, where);
  if (format == Format::kBmp) check_bmp(bytes, where, image.width, image.height);

  allocation_limit = memory_for(image.width, image.height, bytes.size());
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), size, &image.width, &image.height, &components, 3),
      stbi_image_free);
  if (!pixels) fail(where, ": damaged or unsupported image: ", stbi_failure_reason());
  const size_t count = 3 * array_size(image.width, image.height);
  image.rgb.assign(pixels.get(), pixels.get() + count);
  return image;
}

Image load_image(const std::string& path) {
  return decode_image(MappedFile(path).bytes(), path);
}

}  // namespace vitrun
