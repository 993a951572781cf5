// NEON dot product (ARMv8.2). sdot makes 16 products, s8 x s8, and adds four to each int32 lane. A
// tile of 6 rows x 16 columns keeps its sums in 24 of the 32 registers.
#if defined(__aarch64__)

#include "kernels/arm/vec_neon-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/shared/gemm-inl.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

struct SdotTile {
  static constexpr int kRows = 6, kPanels = 1, kDepthBytes = 1, kDepthStep = 16;
  static constexpr bool kSignedCodes = true, kFinishes = false;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    const uint8_t* a = args.a;
    const int8_t* w = args.w[0];
    const uint8x16_t flip = vdupq_n_u8(args.flip);
    int32x4_t sum[rows][4];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; q++) sum[i][q] = vdupq_n_s32(0);
    }
    for (int d = 0, depth = args.depth; d < depth; d += 16, w += 16 * kColumns) {
      int8x16_t codes[rows];
#pragma GCC unroll 6
      for (int i = 0; i < rows; i++) {
        codes[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(a + i * args.a_stride + d), flip));
      }
      add_step<0>(w, codes, sum);
      add_step<1>(w + 64, codes, sum);
      add_step<2>(w + 128, codes, sum);
      add_step<3>(w + 192, codes, sum);
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; q++) vst1q_s32(args.sums + i * kColumns + 4 * q, sum[i][q]);
    }
  }

 private:
  // Adds the products of the 4 depths in lane `step` of the codes.
  template <int step, int rows>
  static inline void add_step(const int8_t* w, const int8x16_t (&codes)[rows],
                              int32x4_t (&sum)[rows][4]) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
      const int8x16_t weights = vld1q_s8(w + 16 * q);
#pragma GCC unroll 6
      for (int i = 0; i < rows; i++) {
        sum[i][q] = vdotq_laneq_s32(sum[i][q], weights, codes[i], step);
      }
    }
  }
};

void gemm(const GemmArgs& g) {
  gemm_tiles<SdotTile>(g, 0);
}

}  // namespace

extern const Kernels kNeonDot;  // isa.def lists it
const Kernels kNeonDot = make_kernels("neondot", gemm);

}  // namespace vitrun

#endif
