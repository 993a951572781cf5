// Decodes image files to RGB8 pixels, for the programs: JPEG (baseline and progressive), PNG, BMP
// and the first frame of a GIF.
//
// The pixels are those of Pillow's Image.open(f).convert("RGB"), which timm uses: alpha is dropped,
// not blended; grey is repeated; Adobe's CMYK JPEGs are converted; EXIF orientation is ignored.
// They differ from Pillow's in three ways: 16-bit samples, grey ones too, become their high byte;
// JPEG decoders round differently, by a few levels; transparent pixels of a GIF take its background
// colour.
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

// Decodes an image in memory. Fails, naming `where`, on files above 256 MiB, other formats, damaged
// or truncated data, sides above kMaxImageSide (preprocess.h) and more than 128 Mi pixels. Memory
// is bounded by a multiple of the file size and pixel count. Many threads may call it at once.
Image decode_image(std::span<const uint8_t> bytes, const std::string& where);

// Decodes an image file; fails also if the file cannot be read.
Image load_image(const std::string& path);

}  // namespace vitrun
