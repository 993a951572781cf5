// Unpacks weights (pack.h) to signed bytes, over Bytes, the register of kByteLanes bytes that
// vec_*-inl.h defines. move_bits<from, width, to>(x) moves `width` bits of every byte from bit
// `from` to bit `to` and clears the others.
#pragma once

#include "kernels/pack.h"

namespace vitrun {
namespace {

// Values x .. x + kByteLanes of row kRow of a block of kBits < 8, as signed codes.
template <int kBits, int kRow>
inline Bytes unpack_row(const uint8_t* block, int x) {
  // The 2-bit and the 1-bit plane lie so: the place of their lowest bit in a code, and their
  // offset in the block.
  constexpr int kTwoAt = kBits & 4, kOneAt = kBits & 6;
  constexpr int kTwoPlane = kBits & 4 ? 256 : 0, kOnePlane = kTwoPlane + (kBits & 2 ? 128 : 0);
  Bytes code{};
  if constexpr (kBits & 4) {
    code = move_bits<kRow % 2 * 4, 4, 0>(load_line(block + kRow / 2 * 64 + x));
  }
  if constexpr (kBits & 2) {
    const Bytes line = load_line(block + kTwoPlane + kRow / 4 * 64 + x);
    code = code | move_bits<kRow % 4 * 2, 2, kTwoAt>(line);
  }
  if constexpr (kBits & 1) {
    code = code | move_bits<kRow, 1, kOneAt>(load_line(block + kOnePlane + x));
  }
  return minus(code, 1 << (kBits - 1));
}

// Unpacks one block to rows [8, 64].
template <int kBits>
inline void unpack_block(const uint8_t* block, int8_t* rows) {
  for (int x = 0; x < 64; x += kByteLanes) {
    store_line(rows + x, unpack_row<kBits, 0>(block, x));
    store_line(rows + x + 64, unpack_row<kBits, 1>(block, x));
    store_line(rows + x + 128, unpack_row<kBits, 2>(block, x));
    store_line(rows + x + 192, unpack_row<kBits, 3>(block, x));
    store_line(rows + x + 256, unpack_row<kBits, 4>(block, x));
    store_line(rows + x + 320, unpack_row<kBits, 5>(block, x));
    store_line(rows + x + 384, unpack_row<kBits, 6>(block, x));
    store_line(rows + x + 448, unpack_row<kBits, 7>(block, x));
  }
}

// Unpacks the blocks of a panel to rows [depth / 4, 64].
template <int kBits>
void unpack_blocks(const uint8_t* panel, int depth, int8_t* rows) {
  for (int d = 0; d < depth; d += kDepthAlign) {
    unpack_block<kBits>(panel, rows);
    panel += 64 * kBits;
    rows += kDepthAlign * kColumns;
  }
}

// Returns the rows of a panel, [depth / 4, 64]. At 8 bits these are the panel itself; else they are
// unpacked into `scratch`.
inline const int8_t* unpack_panel(const uint8_t* panel, int bits, int depth, int8_t* scratch) {
  switch (bits) {
    case 3:
      unpack_blocks<3>(panel, depth, scratch);
      break;
    case 4:
      unpack_blocks<4>(panel, depth, scratch);
      break;
    case 5:
      unpack_blocks<5>(panel, depth, scratch);
      break;
    case 6:
      unpack_blocks<6>(panel, depth, scratch);
      break;
    case 7:
      unpack_blocks<7>(panel, depth, scratch);
      break;
    default:
      return reinterpret_cast<const int8_t*>(panel);
  }
  return scratch;
}

}  // namespace
}  // namespace vitrun
