// Reads numbers and names from the bytes of an image file. The caller checks the bounds.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace vitrun {

using Bytes = std::span<const uint8_t>;

inline uint32_t big16(Bytes bytes, size_t at) {
  return uint32_t{bytes[at]} << 8 | bytes[at + 1];
}

inline uint32_t big32(Bytes bytes, size_t at) {
  return big16(bytes, at) << 16 | big16(bytes, at + 2);
}

inline uint32_t little16(Bytes bytes, size_t at) {
  return uint32_t{bytes[at + 1]} << 8 | bytes[at];
}

inline uint32_t little32(Bytes bytes, size_t at) {
  return little16(bytes, at + 2) << 16 | little16(bytes, at);
}

// Whether `magic` stands at a place of the file; false where the file ends before.
inline bool stands_at(Bytes bytes, size_t at, std::string_view magic) {
  return bytes.size() >= at && bytes.size() - at >= magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

inline bool starts_with(Bytes bytes, std::string_view magic) {
  return stands_at(bytes, 0, magic);
}

}  // namespace vitrun
