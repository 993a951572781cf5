// A font of 5 x 8 pixels of our own, for what programs write on pictures.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace vitrun {

inline constexpr int kGlyphWidth = 5, kGlyphHeight = 8;

// Rows from the top, 5 bits each; the highest is the left pixel.
using Glyph = std::array<uint8_t, kGlyphHeight>;

// A glyph for each character of a UTF-8 text; a hollow box for those that are not printable ASCII.
std::vector<Glyph> glyphs_of(const std::string& text);

}  // namespace vitrun
