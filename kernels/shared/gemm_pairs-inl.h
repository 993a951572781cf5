// Register tiles for ISAs that multiply u8 x s8 pairs into int16 lanes (vpmaddubsw), which
// saturates: exact while pairs_run() steps are summed before widening, so the fewer the bits, the
// fewer the widenings. Three tiles by that run:
//
//   0     8 x 8 bits: operands are widened to int16 first; vpmaddwd multiplies those exactly
//   1..3  int32 sums in registers; the int16 sum of 1 or 2 steps is a temporary
//   4..   int16 sums in registers, widened into int32 sums in memory once a run
//
// The ISA gives Words, a register of int16 or int32 lanes; kWords of them hold 16 columns of one
// step:
//
//   load_words(p), store_words(p, w), broadcast_four(p): the same 4 bytes in every int32 lane
//   multiply_codes(u8, s8): pairs to int16, saturating;  multiply_words(a, b): int16 pairs to int32
//   add_words16, add_words32;  even_bytes, odd_bytes: every other s8 as int16 lanes
#pragma once

#include "kernels/shared/gemm-inl.h"

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

// To rows of 16 * kPanels int32.
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

// Adds what store_sums() stored before.
template <int kPanels, int rows>
inline void add_sums(const int32_t* sums, Words (&sum)[rows][kWords]) {
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int h = 0; h < kWords; h++) {
      const int32_t* before = sums + i * kPanels * kColumns + h * (kColumns / kWords);
      sum[i][h] = add_words32(sum[i][h], load_words(before));
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

// Int32 sums in registers; kRun steps share one widening.
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

// Int16 sums in registers for args.run steps (at least 4; taken down to a multiple of 4).
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

// 8 x 8 bits. A step's weights are kept as two lines of int16: depths 0 and 2 of every column, then
// 1 and 3; the codes of a tile are split the same way, once for all its panels.
struct WideTile {
  static constexpr int kRows = kWideRows, kPanels = 2, kDepthBytes = 2, kDepthStep = 4;
  static constexpr bool kSignedCodes = false, kFinishes = false;
  // Codes are split this many depths at a time, so that their buffer does not grow with kMaxDepth;
  // the sums of the parts add exactly in int32.
  static constexpr int kSplitDepth = 8192;
  // Bytes from row to row of split codes; the 64 spread the rows over the cache sets.
  static constexpr int kSplitStride = 2 * kSplitDepth + 64;

  static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch) {
    // Narrow rows go into the upper half, which the wide ones overwrite only after they are read.
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
    for (int start = 0; start < args.depth; start += kSplitDepth) {
      const int depth = args.depth - start < kSplitDepth ? args.depth - start : kSplitDepth;
      for (int i = 0; i < rows; i++) {
        split_codes(args.a + i * args.a_stride + start, depth, split + i * kSplitStride);
      }
      for (int p = 0; p < panels; p++) {
        const int8_t* w = args.w[p] + start * kColumns * kDepthBytes;
        multiply_panel<rows>(split, w, depth / 2, start == 0, args.sums + p * kColumns);
      }
    }
  }

 private:
  // Each 4 bytes become two pairs of 16-bit values: bytes 0 and 2, then 1 and 3.
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

  template <int rows>
  static void multiply_panel(const uint8_t* split, const int8_t* w, int lines, bool first,
                             int32_t* sums) {
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
    if (!first) add_sums<kPanels>(sums, sum);
    store_sums<kPanels>(sums, sum);
  }
};

// The largest number of steps whose sums stay in int16, where a step adds a pair of products:
// run * 2 * (2^a_bits - 1) * 2^(bits - 1) <= 32767. 0: not even one pair.
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
