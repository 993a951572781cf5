// The one weight layout, the same in a .qbin, in memory and for every ISA.
//
// A weight [N, K] of b-bit codes u = q_w in 0..2^b-1 (signed code q' = u - 2^(b-1)) is cut into
// panels of 16 output columns, a panel into blocks of 32 deep. N is padded to 16 and K to 32 with
// u = 2^(b-1), the signed 0. Panels follow one another, blocks within a panel too. A block is
// 64 * b bytes:
//
//   "row" r (r = 0..7) of a block: 64 values, 16 columns x 4 depths; value 4 * c + i is column c,
//   depth 4 r + i.
//
//   b = 8: eight 64-byte rows of signed bytes q'.
//   b < 8: u is split into bit planes, 4 = the 4 low bits, then 2, then 1 above those already taken
//     (b = 3: 2+1, 4: 4, 5: 4+1, 6: 4+2, 7: 4+2+1), stored in this order:
//
//     4-bit plane: four 64-byte lines; line j, byte x = row 2j in the low nibble, 2j+1 in the high.
//
//     2-bit plane: two 64-byte lines; line j, byte x = rows 4j .. 4j+3 from the low bits up.
//
//     1-bit plane: one 64-byte line; byte x, bit r = row r.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace vitrun {

constexpr int kMinBits = 3, kMaxBits = 8;

// Bytes of a packed [n, k] weight.
constexpr int64_t pack_bytes(int n, int k, int bits) {
  return int64_t{round_up(n, kColumns)} * round_up(k, kDepthAlign) * bits / 8;
}

// codes: [n, k] row-major, each u < 2^bits. panels: pack_bytes(n, k, bits) bytes.
void pack_codes(const uint8_t* codes, int n, int k, int bits, uint8_t* panels);

// The inverse: codes [n, k], padding dropped.
void unpack_codes(const uint8_t* panels, int n, int k, int bits, uint8_t* codes);

// column_sum[n] = sum over k of the signed codes, for the n real columns.
void sum_columns(const uint8_t* codes, int n, int k, int bits, int32_t* column_sum);

}  // namespace vitrun
