// Decodes image files to RGB8 pixels, for the programs: JPEG (baseline and progressive), PNG, BMP
// and the first frame of a GIF or, in builds with libwebp, of a WebP.
//
// The pixels are those of Pillow's Image.open(f).convert("RGB"), which timm uses, turned upright as
// ImageOps.exif_transpose does unless the caller wants them as stored. Alpha is dropped, not
// blended; a GIF's transparent pixels take their palette colour; grey is repeated; Adobe's CMYK
// JPEGs are converted. They differ from Pillow's in two ways: 16-bit samples, grey ones too, become
// their high byte (Pillow clips grey ones to 255); JPEG decoders round differently, by a few
// levels.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/vision/preprocess.h"

namespace vitrun {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

// The pixels of an image, which must outlive the view.
inline PixelView view_of(const Image& image) {
  return {image.rgb.data(), image.width, image.height, int64_t{3} * image.width};
}

// Fails, naming `where` and what the file ends before.
[[noreturn]] void fail_truncated(const std::string& where, const char* format, const char* missing);

// Fails, naming `where`, on sides outside 1 to kMaxImageSide and on more than 128 Mi pixels.
void check_image_size(int64_t width, int64_t height, const std::string& where);

// Whether the orientation that a camera noted is applied (exif.h).
enum class Exif { kApply, kIgnore };

// Decodes an image in memory. Fails, naming `where`, on files above 256 MiB, other formats, damaged
// or truncated data, sides above kMaxImageSide (preprocess.h) and more than 128 Mi pixels. Memory
// is bounded by a multiple of the file size and pixel count. Many threads may call it at once.
Image decode_image(std::span<const uint8_t> bytes, const std::string& where,
                   Exif exif = Exif::kApply);

// Decodes an image file; fails also if the file cannot be read.
Image load_image(const std::string& path, Exif exif = Exif::kApply);

}  // namespace vitrun
