#include "runtime/vision/gif.h"

#include <algorithm>

#include "models/base/error.h"
#include "runtime/vision/image.h"

namespace vitrun {
namespace {

constexpr size_t kHeader = 13;      // signature, canvas and flags
constexpr size_t kColours = 256;    // the most that a palette holds
constexpr uint8_t kPalette = 0x80;  // a flag of the canvas and of a frame: a palette follows
constexpr uint8_t kInterlaced = 0x40;

// Reads a GIF block by block; every byte is checked to be there.
class Blocks {
 public:
  Blocks(Bytes bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  uint8_t byte(size_t at) const { return part(at, 1)[0]; }
  Bytes part(size_t at, size_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at)
      fail_truncated(where_, "GIF", "the first frame ends after the file");
    return bytes_.subspan(at, count);
  }
  // Returns where a row of blocks, each with its length before it, has ended.
  size_t after_blocks(size_t at) const {
    while (byte(at) != 0) at += size_t{byte(at)} + 1;
    return at + 1;
  }

 private:
  Bytes bytes_;
  const std::string& where_;
};

size_t palette_bytes(uint8_t flags) {
  return (flags & kPalette) != 0 ? size_t{3} << ((flags & 7) + 1) : 0;
}

// Returns 256 colours: those of `stored`, then greys.
std::vector<uint8_t> full_palette(Bytes stored) {
  std::vector<uint8_t> palette(stored.begin(), stored.end());
  for (size_t i = stored.size() / 3; i < kColours; i++)
    palette.insert(palette.end(), 3, static_cast<uint8_t>(i));
  return palette;
}

void put16(int value, std::vector<uint8_t>& file) {
  file.push_back(static_cast<uint8_t>(value & 255));
  file.push_back(static_cast<uint8_t>(value >> 8));
}

// Writes the frame as a file of its own around the coded pixels `data`.
std::vector<uint8_t> lone_frame(const GifFrame& frame, const std::vector<uint8_t>& palette,
                                uint8_t interlaced, Bytes data) {
  constexpr std::string_view kSignature = "GIF89a";
  std::vector<uint8_t> file(kSignature.begin(), kSignature.end());
  put16(frame.width, file), put16(frame.height, file);
  file.insert(file.end(), {kPalette | 7, 0, 0});
  file.insert(file.end(), palette.begin(), palette.end());
  file.push_back(0x2C);
  put16(0, file), put16(0, file), put16(frame.width, file), put16(frame.height, file);
  file.push_back(interlaced);
  file.insert(file.end(), data.begin(), data.end());
  file.push_back(0x3B);
  return file;
}

}  // namespace

GifFrame first_gif_frame(Bytes bytes, const std::string& where) {
  const Blocks blocks(bytes, where);
  const uint8_t canvas_flags = blocks.part(0, kHeader)[10];
  size_t at = kHeader + palette_bytes(canvas_flags), transparent = 0;
  for (; blocks.byte(at) == 0x21; at = blocks.after_blocks(at + 2)) {  // 0x21 begins an extension
    const bool control = blocks.byte(at + 1) == 0xF9 && blocks.byte(at + 2) >= 4;
    if (control && (blocks.byte(at + 3) & 1) != 0) transparent = blocks.byte(at + 6);
  }
  if (blocks.byte(at) != 0x2C) fail(where, ": GIF file without a frame");
  const Bytes place = blocks.part(at + 1, 9);
  const uint8_t flags = place[8];
  const size_t data = at + 10 + palette_bytes(flags);
  GifFrame frame;
  frame.x = static_cast<int>(little16(place, 0)), frame.y = static_cast<int>(little16(place, 2));
  frame.width = static_cast<int>(little16(place, 4));
  frame.height = static_cast<int>(little16(place, 6));
  frame.canvas_width = std::max(static_cast<int>(little16(bytes, 6)), frame.x + frame.width);
  frame.canvas_height = std::max(static_cast<int>(little16(bytes, 8)), frame.y + frame.height);
  const std::vector<uint8_t> palette =
      full_palette((flags & kPalette) != 0 ? blocks.part(at + 10, palette_bytes(flags))
                                           : blocks.part(kHeader, palette_bytes(canvas_flags)));
  std::copy_n(palette.begin() + static_cast<ptrdiff_t>(3 * transparent), 3, frame.outside.begin());
  frame.file = lone_frame(frame, palette, flags & kInterlaced,
                          blocks.part(data, blocks.after_blocks(data + 1) - data));
  return frame;
}

}  // namespace vitrun
