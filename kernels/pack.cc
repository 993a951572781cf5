#include "kernels/pack.h"

#include <algorithm>
#include <cstring>

namespace vitrun {
namespace {

constexpr int kRow = kColumns * 4;          // values of a row: 16 columns x 4 depths
constexpr int kRows = kDepthAlign / 4;      // rows of a block
constexpr int kBlockValues = kRow * kRows;  // values of a block

// A view of a code matrix [n, k], row-major. Byte is uint8_t or const uint8_t.
template <class Byte>
struct Codes {
  Byte* data;
  int n, k;
};

// Calls visit(code, at) for each code of the block at (column, depth) except padding; `at` is its
// place in the unpacked block.
template <class Byte, class Visit>
void visit_block(const Codes<Byte>& codes, int column, int depth, Visit visit) {
  const int columns = std::min(kColumns, codes.n - column);
  const int depths = std::min(kDepthAlign, codes.k - depth);
  for (int c = 0; c < columns; c++) {
    Byte* line = codes.data + int64_t{column + c} * codes.k + depth;
    for (int d = 0; d < depths; d++) visit(line[d], d / 4 * kRow + 4 * c + d % 4);
  }
}

// Copies the codes of the block at (column, depth), which has no padding, to their places.
void gather_block(const Codes<const uint8_t>& codes, int column, int depth, uint8_t* values) {
  const uint8_t* line = codes.data + int64_t{column} * codes.k + depth;
  for (int c = 0; c < kColumns; c++, line += codes.k)
    for (int row = 0; row < kRows; row++)
      std::memcpy(values + row * kRow + 4 * c, line + 4 * row, 4);
}

// Writes bits shift .. shift + kWidth - 1 of a block's values as a plane of kWidth lines. The width
// is a constant, so that compilers make vectors of it.
template <int kWidth>
void store_plane(const uint8_t* values, int shift, uint8_t* plane) {
  constexpr int kPerByte = 8 / kWidth, kMask = (1 << kWidth) - 1;
  for (int line = 0; line < kWidth; line++) {
    const uint8_t* rows = values + line * kPerByte * kRow;
    for (int x = 0; x < kRow; x++) {
      int byte = 0;
      for (int i = 0; i < kPerByte; i++)
        byte |= ((rows[i * kRow + x] >> shift) & kMask) << (kWidth * i);
      plane[line * kRow + x] = static_cast<uint8_t>(byte);
    }
  }
}

void store_plane(const uint8_t* values, int shift, int width, uint8_t* plane) {
  if (width == 4) return store_plane<4>(values, shift, plane);
  if (width == 2) return store_plane<2>(values, shift, plane);
  store_plane<1>(values, shift, plane);
}

// Inverts store_plane() for values whose bits from `shift` on are still 0.
void load_plane(const uint8_t* plane, int shift, int width, uint8_t* values) {
  const int per_byte = 8 / width, mask = (1 << width) - 1;
  for (int row = 0; row < kRows; row++) {
    const uint8_t* line = plane + row / per_byte * kRow;
    const int position = row % per_byte * width;
    for (int x = 0; x < kRow; x++) {
      const int field = (line[x] >> position) & mask;
      values[row * kRow + x] = static_cast<uint8_t>(values[row * kRow + x] | field << shift);
    }
  }
}

// Calls visit(shift, width, offset) for each plane of a block of codes of bits < 8; the plane lies
// `offset` bytes into the block. The widths in use are the binary digits of `bits`.
template <class Visit>
void visit_planes(int bits, Visit visit) {
  int shift = 0;
  for (int width = 4; width >= 1; width /= 2) {
    if ((bits & width) == 0) continue;
    visit(shift, width, shift * kRow);
    shift += width;
  }
}

// Turns u into q' = u - 128, or back, by flipping the top bit of each byte.
void flip_sign(const uint8_t* from, uint8_t* to) {
  for (int x = 0; x < kBlockValues; x++) to[x] = static_cast<uint8_t>(from[x] ^ 0x80);
}

void store_block(const uint8_t* values, int bits, uint8_t* block) {
  if (bits == 8) return flip_sign(values, block);
  visit_planes(bits, [&](int shift, int width, int offset) {
    store_plane(values, shift, width, block + offset);
  });
}

void load_block(const uint8_t* block, int bits, uint8_t* values) {
  if (bits == 8) return flip_sign(block, values);
  std::memset(values, 0, kBlockValues);
  visit_planes(bits, [&](int shift, int width, int offset) {
    load_plane(block + offset, shift, width, values);
  });
}

}  // namespace

void pack_codes(const uint8_t* codes, int n, int k, int bits, uint8_t* panels) {
  const Codes<const uint8_t> matrix{codes, n, k};
  const int signed_zero = 1 << (bits - 1);
  uint8_t values[kBlockValues];
  for (int column = 0; column < n; column += kColumns) {
    for (int depth = 0; depth < k; depth += kDepthAlign) {
      if (column + kColumns <= n && depth + kDepthAlign <= k) {
        gather_block(matrix, column, depth, values);
      } else {
        std::memset(values, signed_zero, sizeof values);
        visit_block(matrix, column, depth, [&](uint8_t code, int at) { values[at] = code; });
      }
      store_block(values, bits, panels);
      panels += kRow * bits;
    }
  }
}

void unpack_codes(const uint8_t* panels, int n, int k, int bits, uint8_t* codes) {
  const Codes<uint8_t> matrix{codes, n, k};
  uint8_t values[kBlockValues];
  for (int column = 0; column < n; column += kColumns) {
    for (int depth = 0; depth < k; depth += kDepthAlign) {
      load_block(panels, bits, values);
      visit_block(matrix, column, depth, [&](uint8_t& code, int at) { code = values[at]; });
      panels += kRow * bits;
    }
  }
}

void sum_columns(const uint8_t* codes, int n, int k, int bits, int32_t* column_sum) {
  const int32_t signed_zero = 1 << (bits - 1);
  for (int c = 0; c < n; c++) {
    const uint8_t* line = codes + int64_t{c} * k;
    int32_t sum = 0;
    for (int d = 0; d < k; d++) sum += line[d] - signed_zero;
    column_sum[c] = sum;
  }
}

}  // namespace vitrun
