// The scalar table, in plain C++ for any CPU. It is the specification: every other table returns
// the same bits.
#include "kernels/shared/vec_scalar-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/shared/epilogue-inl.h"
#include "kernels/shared/rowops-inl.h"

namespace vitrun {

extern const Kernels kScalar;  // isa.def lists it

namespace {

// The signed code of value x of row r of a block (pack.h), gathered from the planes, lowest first.
inline int8_t signed_code(const uint8_t* block, int bits, int r, int x) {
  if (bits == 8) return static_cast<int8_t>(block[r * 64 + x]);
  int code = 0, taken = 0;
  if (bits & 4) {
    code = block[r / 2 * 64 + x] >> (r % 2 * 4) & 15;
    block += 256;
    taken = 4;
  }
  if (bits & 2) {
    code |= (block[r / 4 * 64 + x] >> (r % 4 * 2) & 3) << taken;
    block += 128;
    taken += 2;
  }
  if (bits & 1) code |= (block[x] >> r & 1) << taken;
  return static_cast<int8_t>(code - (1 << (bits - 1)));
}

// Unpacks a panel to codes [depth, column].
void unpack_panel(const uint8_t* panel, int bits, int depth, int8_t (*codes)[kColumns]) {
  for (int d = 0; d < depth; d += kDepthAlign, panel += 64 * bits) {
    for (int i = 0; i < kDepthAlign; i++) {
      for (int c = 0; c < kColumns; c++) {
        codes[d + i][c] = signed_code(panel, bits, i / 4, 4 * c + i % 4);
      }
    }
  }
}

void gemm(const GemmArgs& g) {
  const int depth = round_up(g.k, kDepthAlign);
  int8_t codes[kMaxDepth][kColumns];
  for (int column = 0; column < g.n; column += kColumns) {
    unpack_panel(g.panels + pack_bytes(column, g.k, g.bits), g.bits, depth, codes);
    for (int i = 0; i < g.m; i++) {
      const uint8_t* a = g.a + i * g.a_stride;
      int32_t sums[kColumns] = {};
      for (int d = 0; d < depth; d++) {
        for (int c = 0; c < kColumns; c++) sums[c] += a[d] * codes[d][c];
      }
      finish_panel(g, i, 1, column, sums, kColumns);
    }
  }
  finish_codes(g, 0, g.m);
}

}  // namespace

const Kernels kScalar = make_kernels("scalar", gemm);

}  // namespace vitrun
