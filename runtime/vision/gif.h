// Takes the first frame of a GIF apart, so that it can be decoded as Pillow does: transparent
// pixels and those outside the frame have colours of the palette.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "runtime/vision/image_bytes.h"

namespace vitrun {

struct GifFrame {
  int canvas_width = 0, canvas_height = 0;  // both at least 1, and hold the frame
  int x = 0, y = 0, width = 0, height = 0;  // the frame in the canvas
  std::array<uint8_t, 3> outside = {};      // the colour of pixels outside the frame
  // The frame as a GIF of its own, opaque, with a palette of 256 colours.
  std::vector<uint8_t> file;
};

// Fails, naming `where`, on a file that ends before the frame does or has none. Where Pillow would
// enlarge the canvas to hold the frame, it is enlarged. The pixels are not looked at.
GifFrame first_gif_frame(Bytes bytes, const std::string& where);

}  // namespace vitrun
