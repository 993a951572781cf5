// The layout of packed weights. It is the same in a .qbin, in memory and for every ISA.
//
// A weight is [N, K] codes u of b bits, 0 <= u < 2^b; the signed code is q' = u - 2^(b-1). N is
// padded to a multiple of 16 and K to a multiple of 32 with u = 2^(b-1), which is the signed 0. The
// weight is cut into panels of 16 output columns, and a panel into blocks of 32 depths. Panels lie
// one after another, and so do the blocks of a panel. A block is 64 * b bytes.
//
// A block has eight rows. Row r holds 64 values, 16 columns x 4 depths: value 4 c + i is that of
// column c at depth 4 r + i.
//
//   b = 8: the block is eight 64-byte rows of signed bytes q'.
//
//   b < 8: u is split into planes of 4, 2 and 1 bits, as the binary digits of b say: 3 = 2 + 1,
//     4 = 4, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1. The first plane has the lowest bits of u, the
//     next those above. The planes are stored in this order:
//
//     4-bit plane: four 64-byte lines; byte x of line j holds value x of row 2j in its low nibble
//       and value x of row 2j+1 in its high nibble.
//
//     2-bit plane: two 64-byte lines; byte x of line j holds value x of rows 4j .. 4j+3, from the
//       low bits up.
//
//     1-bit plane: one 64-byte line; bit r of byte x is value x of row r.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace vitrun {

constexpr int kMinBits = 3, kMaxBits = 8;

// The size of a packed [n, k] weight in bytes.
constexpr int64_t pack_bytes(int n, int k, int bits) {
  return int64_t{round_up(n, kColumns)} * round_up(k, kDepthAlign) * bits / 8;
}

// Packs codes u [n, k], row-major, into pack_bytes(n, k, bits) bytes of panels.
void pack_codes(const uint8_t* codes, int n, int k, int bits, uint8_t* panels);

// Inverts pack_codes(): writes codes u [n, k] without the padding.
void unpack_codes(const uint8_t* panels, int n, int k, int bits, uint8_t* codes);

// column_sum[n] = the sum over k of the signed codes q', from codes u [n, k].
void sum_columns(const uint8_t* codes, int n, int k, int bits, int32_t* column_sum);

}  // namespace vitrun
