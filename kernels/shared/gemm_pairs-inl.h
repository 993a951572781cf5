// Register tiles for ISAs that multiply u8 x s8 and add the products of each pair into int16 lanes
// (vpmaddubsw). That instruction saturates. It is exact as long as at most pairs_run() steps of 4
// depths are summed before the sums are widened to int32; the fewer the bits, the longer the run.
// The run chooses one of three tiles:
//
//   0         WideTile, for 8 x 8 bits: operands are widened to int16, which vpmaddwd multiplies
//             exactly into int32
//   1 .. 3    ShortRunTile: int32 sums stay in registers, and 1 or 2 steps are summed in int16
//   4 and up  LongRunTile: int16 sums stay in registers and are added to int32 sums in memory once
//             per run
//
// The ISA defines Words, a register of int8, int16 or int32 lanes (words_*-inl.h). kWords of them
// hold 16 columns of one step.
//
//   load_words(p), store_words(p, w)
//   broadcast_four(p): the 4 bytes at p in every int32 lane
//   splat_words(x): x in every int16 lane
//   multiply_codes(u8, s8): sums of pairs of products in int16 lanes, saturating
//   multiply_words(a, b): sums of pairs of int16 products in int32 lanes
//   add_words16(a, b), add_words32(a, b)
//   even_bytes(x), odd_bytes(x): the s8 at even or odd places, as int16 lanes
#pragma once

#include "kernels/shared/gemm-inl.h"

namespace vitrun {
namespace {

constexpr int kWords = 64 / kWordBytes;

// The operands of a tile. They are copied out of TileArgs, because the compiler must assume that a
// store of Words changes TileArgs.
struct Operands {
  const uint8_t* a;
  int64_t a_stride;
  const int8_t* w;

  explicit Operands(const TileArgs& args) : a(args.a), a_stride(args.a_stride), w(args.w[0]) {}

  // Depths d .. d+3 of row i.
  Words codes(int i, int d) const { return broadcast_four(a + i * a_stride + d); }
};

// sums [rows, 16 * kPanels] = sum, 16 columns of each row.
template <int kPanels, int rows>
inline void store_sums(int32_t* sums, const Words (&sum)[rows][kWords]) {
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) {
      store_words(sums + i * kPanels * kColumns + h * (kColumns / kWords), sum[i][h]);
    }
  }
}

template <int rows>
inline void clear(Words (&sum)[rows][kWords]) {
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) sum[i][h] = Words{};
  }
}

// Keeps int32 sums in registers and sums kRun steps, 1 or 2, in int16 before each widening.
template <int kRun>
struct ShortRunTile {
  static constexpr int kRows = kShortRunRows, kPanels = 1, kDepthBytes = 1, kDepthStep = 4 * kRun;
  static constexpr bool kSignedCodes = false, kFinishes = false;
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
#pragma GCC unroll 12
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
    store_sums<kPanels>(args.sums, sum);
  }
};

// Keeps int16 sums in registers for args.run steps, rounded down to a multiple of 4; args.run >= 4.
struct LongRunTile {
  static constexpr int kRows = kLongRunRows, kPanels = 1, kDepthBytes = 1, kDepthStep = 4;
  static constexpr bool kSignedCodes = false, kFinishes = false;
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
#pragma GCC unroll 12
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
#pragma GCC unroll 12
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

// Multiplies 8 x 8 bits. An unpacked panel keeps the weights of a step as two lines of int16:
// depths 0 and 2 of every column, then depths 1 and 3. The codes of a tile are split in the same
// order, once for all its panels.
struct WideTile {
  static constexpr int kRows = kWideRows, kPanels = 2, kDepthBytes = 2, kDepthStep = 4;
  static constexpr bool kSignedCodes = false, kFinishes = false;
  // Bytes from row to row of split codes: room for part_depth() codes of two bytes, and 64 bytes
  // that spread the rows over the cache sets.
  static constexpr int kSplitStride = kMaxDepth + 64;

  static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch) {
    // Bytes are unpacked into the upper half; int16 lines overwrite them only after they are read.
    const int8_t* narrow = unpack_panel(panel, bits, depth, scratch + depth * kColumns);
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
    alignas(64) uint8_t split[rows * kSplitStride];
    for (int i = 0; i < rows; i++) {
      split_codes(args.a + i * args.a_stride, args.depth, split + i * kSplitStride);
    }
    for (int p = 0; p < panels; p++) {
      multiply_panel<rows>(split, args.w[p], args.depth / 2, args.sums + p * kColumns);
    }
  }

 private:
  // Turns each 4 codes into two pairs of 16-bit values: codes 0 and 2, then codes 1 and 3.
  static inline void split_codes(const uint8_t* a, int depth, uint8_t* split) {
    for (int d = 0; d < depth; d += 16) {
      const __m256i codes =
          _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + d)));
      const __m256i order =
          _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,  //
                           0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(split + 2 * d),
                          _mm256_shuffle_epi8(codes, order));
    }
  }

  // 16 columns of sums [rows, 16 * kPanels] = the split codes times `lines` lines of w.
  template <int rows>
  static void multiply_panel(const uint8_t* split, const int8_t* w, int lines, int32_t* sums) {
    Words sum[rows][kWords];
    clear(sum);
    for (int line = 0; line < lines; line++) {
      Words weights[kWords];
#pragma GCC unroll 2
      for (int h = 0; h < kWords; h++) weights[h] = load_words(w + line * 64 + h * kWordBytes);
#pragma GCC unroll 12
      for (int i = 0; i < rows; i++) {
        const Words pair = broadcast_four(split + i * kSplitStride + line * 4);
#pragma GCC unroll 2
        for (int h = 0; h < kWords; h++) {
          sum[i][h] = add_words32(sum[i][h], multiply_words(pair, weights[h]));
        }
      }
    }
    store_sums<kPanels>(sums, sum);
  }
};

// The largest number of steps whose sum fits int16. A step adds a pair of products to each lane, so
// the condition is run * 2 * (2^a_bits - 1) * 2^(bits - 1) <= 32767. At 0 not even one pair fits.
inline int pairs_run(int bits, int a_bits) {
  return 32767 / (((1 << a_bits) - 1) << bits);
}

void gemm_pairs(const GemmArgs& g) {
  const int run = pairs_run(weight_range(g), g.a_bits);
  if (run == 0) {
    gemm_tiles<WideTile>(g, run);
  } else if (run == 1) {
    gemm_tiles<ShortRunTile<1>>(g, run);
  } else if (run < 4) {
    gemm_tiles<ShortRunTile<2>>(g, run);
  } else {
    gemm_tiles<LongRunTile>(g, run);
  }
}

}  // namespace
}  // namespace vitrun
