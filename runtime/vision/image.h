// Image files to RGB8 pixels, for the programs: JPEG (baseline and progressive), PNG, BMP and the
// first frame of a GIF.
//
// The pixels are those of Pillow's Image.open(f).convert("RGB"), which timm uses: alpha is dropped,
// not blended; grey is repeated; Adobe's CMYK JPEGs are converted; EXIF orientation is ignored. The
// differences: of 16-bit samples the high byte is taken, also for grey; JPEG decoders round
// differently, by a few levels; transparent pixels of a GIF take its background colour.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace vitrun {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

// Fails, naming `where`, on files above 256 MiB, other formats, damaged or truncated data, sides
// above kMaxImageSide (preprocess.h) and more than 128 Mi pixels. Memory is bounded by a multiple
// of the file size and pixel count. Safe from many threads.
Image decode_image(std::span<const uint8_t> bytes, const std::string& where);

// The same for a file; fails also if it cannot be read.
Image load_image(const std::string& path);

}  // namespace vitrun
