// NEON i8mm (ARMv8.6). usmmla makes 32 products: it multiplies 2 rows x 8 depths of u8 by 8 depths
// x 2 columns of s8 and adds them to 2 x 2 int32. A tile of 3 pairs of rows x 8 pairs of columns
// keeps its sums in 24 of the 32 registers.
#if defined(__aarch64__)

#include "kernels/arm/vec_neon-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/shared/gemm-inl.h"

#if !defined(__ARM_FEATURE_MATMUL_INT8)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

struct MatrixTile {
  static constexpr int kRows = 6, kPanels = 1, kDepthBytes = 1, kDepthStep = 8;
  static constexpr bool kSignedCodes = false, kFinishes = false;

  // Merges every two rows of a panel, depths 4r .. 4r+3 and 4r+4 .. 4r+7, so that the 8 depths of a
  // column are side by side.
  static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch) {
    const int8_t* narrow = unpack_panel(panel, bits, depth, scratch);
    for (int d = 0; d < depth; d += 8, narrow += 128, scratch += 128) {
      int32x4_t first[4], second[4];
      for (int q = 0; q < 4; q++) {
        first[q] = vreinterpretq_s32_s8(vld1q_s8(narrow + 16 * q));
        second[q] = vreinterpretq_s32_s8(vld1q_s8(narrow + 64 + 16 * q));
      }
      for (int q = 0; q < 4; q++) {
        vst1q_s8(scratch + 32 * q, vreinterpretq_s8_s32(vzip1q_s32(first[q], second[q])));
        vst1q_s8(scratch + 32 * q + 16, vreinterpretq_s8_s32(vzip2q_s32(first[q], second[q])));
      }
    }
    return scratch - depth * kColumns;
  }

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    constexpr int kPairs = (rows + 1) / 2;
    const int8_t* w = args.w[0];
    int32x4_t sum[kPairs][8];
#pragma GCC unroll 3
    for (int i = 0; i < kPairs; i++) {
#pragma GCC unroll 8
      for (int q = 0; q < 8; q++) sum[i][q] = vdupq_n_s32(0);
    }
    for (int d = 0, depth = args.depth; d < depth; d += 8, w += 8 * kColumns) {
      uint8x16_t codes[kPairs];
#pragma GCC unroll 3
      for (int i = 0; i < kPairs; i++) codes[i] = load_pair<rows>(args, i, d);
#pragma GCC unroll 8
      for (int q = 0; q < 8; q++) {
        const int8x16_t weights = vld1q_s8(w + 16 * q);
#pragma GCC unroll 3
        for (int i = 0; i < kPairs; i++) {
          sum[i][q] = vusmmlaq_s32(sum[i][q], codes[i], weights);
        }
      }
    }
    store_sums<rows>(args.sums, sum);
  }

 private:
  // The codes of rows 2i and 2i+1 at depths d .. d+7. If row 2i+1 does not exist, row 2i is taken
  // twice.
  template <int rows>
  static inline uint8x16_t load_pair(const TileArgs& args, int i, int d) {
    const uint8_t* row = args.a + 2 * i * args.a_stride + d;
    const uint8_t* next = 2 * i + 1 < rows ? row + args.a_stride : row;
    return vcombine_u8(vld1_u8(row), vld1_u8(next));
  }

  template <int rows>
  static inline void store_sums(int32_t* sums, const int32x4_t (&sum)[(rows + 1) / 2][8]) {
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
      for (int q = 0; q < 8; q++) {
        const int32x4_t both = sum[i / 2][q];
        vst1_s32(sums + i * kColumns + 2 * q, i % 2 ? vget_high_s32(both) : vget_low_s32(both));
      }
    }
  }
};

void gemm(const GemmArgs& g) {
  gemm_tiles<MatrixTile>(g, 0);
}

}  // namespace

extern const Kernels kNeonI8mm;  // isa.def lists it
const Kernels kNeonI8mm = make_kernels("neoni8mm", gemm);

}  // namespace vitrun

#endif
