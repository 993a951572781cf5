// Register tiles for ISAs that multiply u8 x s8 pairs into int16 lanes (vpmaddubsw), which saturates: exact
// while pairs_run() steps are summed before widening (gemm-inl.h), so the fewer the bits, the fewer
// the widenings. Three tiles by that run:
//   0    (8 x 8 bits): the operands are widened to int16 first and multiplied by vpmaddwd, which is exact.
//   1..3 (W7, W6 with 8-bit codes): int32 sums in registers, the int16 sum of 1 or 2 steps is a temporary.
//   4..  int16 sums in registers, widened into int32 sums in memory once a run.
//
// The ISA gives Words, a register of int16 or int32 lanes; kWords of them hold 16 columns of one step:
//   load_words(p), store_words(p, w), broadcast_four(p): the same 4 bytes in every int32 lane
//   multiply_codes(u8, s8): pairs to int16, saturating;  multiply_words(a, b): int16 pairs to int32
//   add_words16, add_words32;  even_bytes, odd_bytes (s8) / even_codes, odd_codes (u8): as int16 lanes
#pragma once

#include "kernels/gemm-inl.h"

namespace vitrun {
namespace {

constexpr int kWords = 64 / kWordBytes;

// The operands, copied out of TileArgs: the compiler must assume that storing Words changes those.
struct Operands {
  const uint8_t* a;
  int64_t a_stride;
  const int8_t* w;

  explicit Operands(const TileArgs& args) : a(args.a), a_stride(args.a_stride), w(args.w[0]) {}

  // Depths d .. d+3 of row i.
  Words codes(int i, int d) const { return broadcast_four(a + i * a_stride + d); }
};

template <int rows>
inline void store_sums(const TileArgs& args, const Words (&sum)[rows][kWords]) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) {
      store_words(args.sums + i * kColumns + h * (kColumns / kWords), sum[i][h]);
    }
  }
}

template <int rows>
inline void clear(Words (&sum)[rows][kWords]) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) sum[i][h] = Words{};
  }
}

// Int32 sums in registers; kRun steps share one widening.
template <int kRun>
struct ShortRunTile {
  static constexpr int kRows = kShortRunRows, kPanels = 1, kDepthBytes = 1;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    const Operands in(args);
    const int depth = args.depth;
    Words sum[rows][kWords];
    clear(sum);
    const Words ones = splat_words(1);
    for (int d = 0; d < depth; d += 4 * kRun) {
      const int8_t* w = in.w + d * kColumns;
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int h = 0; h < kWords; h++) {
          Words run = multiply_codes(in.codes(i, d), load_words(w + h * kWordBytes));
          if constexpr (kRun == 2) {
            const Words next = load_words(w + 64 + h * kWordBytes);
            run = add_words16(run, multiply_codes(in.codes(i, d + 4), next));
          }
          sum[i][h] = add_words32(sum[i][h], multiply_words(run, ones));
        }
      }
    }
    store_sums(args, sum);
  }
};

// Int16 sums in registers for args.run steps (at least 4; taken down to a multiple of 4).
struct LongRunTile {
  static constexpr int kRows = kLongRunRows, kPanels = 1, kDepthBytes = 1;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    const Operands in(args);
    const int depth = args.depth;
    int32_t* out = args.sums;
    const int run_depth = args.run / 4 * 16;
    for (int start = 0; start < depth; start += run_depth) {
      Words sum[rows][kWords];
      clear(sum);
      const int end = start + run_depth < depth ? start + run_depth : depth;
      for (int d = start; d < end; d += 4) add_step(in, d, sum);
      widen(out, start == 0, sum);
    }
  }

 private:
  template <int rows>
  static inline void add_step(const Operands& in, int d, Words (&sum)[rows][kWords]) {
    Words w[kWords];
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) w[h] = load_words(in.w + d * kColumns + h * kWordBytes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const Words codes = in.codes(i, d);
#pragma GCC unroll 2
      for (int h = 0; h < kWords; h++) {
        sum[i][h] = add_words16(sum[i][h], multiply_codes(codes, w[h]));
      }
    }
  }

  template <int rows>
  static inline void widen(int32_t* out, bool first, const Words (&sum)[rows][kWords]) {
    const Words ones = splat_words(1);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int h = 0; h < kWords; h++) {
        int32_t* to = out + i * kColumns + h * (kColumns / kWords);
        const Words wide = multiply_words(sum[i][h], ones);
        store_words(to, first ? wide : add_words32(wide, load_words(to)));
      }
    }
  }
};

// 8 x 8 bits. A step's weights are kept as two lines of int16: depths 0 and 2 of every column, then 1 and 3;
// its codes are split the same way.
struct WideTile {
  static constexpr int kRows = kWideRows, kPanels = 1, kDepthBytes = 2;

  static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch) {
    // The narrow rows go into the upper half, which the wide ones overwrite only after they are read.
    int8_t* upper = scratch + depth * kColumns;
    const int8_t* narrow = unpack_panel(panel, bits, depth, upper);
    for (int step = 0; step < depth / 4; step++) {
      Words w[kWords];
      for (int h = 0; h < kWords; h++) w[h] = load_words(narrow + step * 64 + h * kWordBytes);
      for (int h = 0; h < kWords; h++) {
        store_words(scratch + step * 128 + h * kWordBytes, even_bytes(w[h]));
        store_words(scratch + step * 128 + 64 + h * kWordBytes, odd_bytes(w[h]));
      }
    }
    return scratch;
  }

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    const Operands in(args);
    const int depth = args.depth;
    Words sum[rows][kWords];
    clear(sum);
    for (int d = 0; d < depth; d += 4) {
      const int8_t* w = in.w + d * kColumns * kDepthBytes;
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        const Words codes = in.codes(i, d);
        const Words even = even_codes(codes), odd = odd_codes(codes);
#pragma GCC unroll 2
        for (int h = 0; h < kWords; h++) {
          const Words a = multiply_words(even, load_words(w + h * kWordBytes));
          const Words b = multiply_words(odd, load_words(w + 64 + h * kWordBytes));
          sum[i][h] = add_words32(sum[i][h], add_words32(a, b));
        }
      }
    }
    store_sums(args, sum);
  }
};

void gemm_pairs(const GemmArgs& g) {
  const int run = pairs_run(g.bits, g.a_bits);
  if (run == 0) {
    gemm_tiles<WideTile>(g);
  } else if (run == 1) {
    gemm_tiles<ShortRunTile<1>>(g);
  } else if (run < 4) {
    gemm_tiles<ShortRunTile<2>>(g);
  } else {
    gemm_tiles<LongRunTile>(g);
  }
}

}  // namespace
}  // namespace vitrun
