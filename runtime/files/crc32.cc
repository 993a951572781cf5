#include "runtime/files/crc32.h"

#include <array>
#include <cstddef>

namespace vitrun {
namespace {

// Slicing-by-8 (Kounavis and Berry, 2005): tables[s][b] is the effect of byte b followed by s zero
// bytes, so that eight bytes take eight independent look-ups.
constexpr int kSlices = 8;
using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

constexpr Tables make_tables() {
  constexpr uint32_t kPolynomial = 0xEDB88320;  // reflected 0x04C11DB7
  Tables tables{};
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][b] = crc;
  }
  for (size_t s = 1; s < kSlices; s++) {
    for (size_t b = 0; b < 256; b++) {
      const uint32_t crc = tables[s - 1][b];
      tables[s][b] = (crc >> 8) ^ tables[0][crc & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

uint32_t load_u32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

uint32_t add_eight(uint32_t crc, const uint8_t* p) {
  const uint32_t a = crc ^ load_u32(p), b = load_u32(p + 4);
  return kTables[7][a & 255] ^ kTables[6][a >> 8 & 255] ^ kTables[5][a >> 16 & 255] ^
         kTables[4][a >> 24] ^ kTables[3][b & 255] ^ kTables[2][b >> 8 & 255] ^
         kTables[1][b >> 16 & 255] ^ kTables[0][b >> 24];
}

}  // namespace

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t previous) {
  uint32_t crc = ~previous;
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  for (; left >= kSlices; left -= kSlices, p += kSlices) crc = add_eight(crc, p);
  for (; left > 0; left--, p++) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 255];
  return ~crc;
}

}  // namespace vitrun
