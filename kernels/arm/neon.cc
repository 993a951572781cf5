// NEON without dot product (ARMv8.0). smull and smlal make 8 products, s8 x s8 into int16 lanes. A
// lane holds products of one column. Up to products_run() of them are summed in int16 before the
// sum is widened to int32, so that few bits are faster than eight. The tiles are the short and the
// long run of gemm_pairs-inl.h.
#if defined(__aarch64__)

#include "kernels/arm/vec_neon-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/shared/gemm-inl.h"
#include "kernels/shared/rowops-inl.h"

namespace vitrun {
namespace {

constexpr int kShorts = 8;  // registers of int16 lanes for 16 columns x 4 depths, 2 columns each

// The codes of row i at depths d .. d+3, twice.
inline int8x8_t broadcast_codes(const TileArgs& args, int i, int d) {
  uint32_t four;
  std::memcpy(&four, args.a + i * args.a_stride + d, 4);
  return vreinterpret_s8_u8(veor_u8(vreinterpret_u8_u32(vdup_n_u32(four)), vdup_n_u8(args.flip)));
}

// Keeps int32 sums in registers and sums kRun steps, 1 or 2, in int16 before each widening.
template <int kRun>
struct ShortRunTile {
  static constexpr int kRows = 2, kPanels = 1, kDepthBytes = 1, kDepthStep = 4 * kRun;
  static constexpr bool kSignedCodes = true, kFinishes = false;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    // Each register holds two columns: of either, the sums over depths 0 and 1 and over 2 and 3.
    int32x4_t sum[rows][kShorts];
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
      for (int s = 0; s < kShorts; s++) sum[i][s] = vdupq_n_s32(0);
    }
    for (int d = 0, depth = args.depth; d < depth; d += 4 * kRun) {
      const int8_t* w = args.w[0] + d * kColumns;
#pragma GCC unroll 2
      for (int i = 0; i < rows; i++) add_run(args, i, d, w, sum[i]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; q++) {
        vst1q_s32(args.sums + i * kColumns + 4 * q, vpaddq_s32(sum[i][2 * q], sum[i][2 * q + 1]));
      }
    }
  }

 private:
  static inline void add_run(const TileArgs& args, int i, int d, const int8_t* w,
                             int32x4_t (&sum)[kShorts]) {
    const int8x8_t codes = broadcast_codes(args, i, d);
    const int8x8_t next = broadcast_codes(args, i, d + 4 * (kRun - 1));
#pragma GCC unroll 8
    for (int s = 0; s < kShorts; s++) {
      int16x8_t run = vmull_s8(vld1_s8(w + 8 * s), codes);
      if constexpr (kRun == 2) run = vmlal_s8(run, vld1_s8(w + 64 + 8 * s), next);
      sum[s] = vpadalq_s16(sum[s], run);
    }
  }
};

// Keeps int16 sums in registers for args.run steps, then adds them to the int32 sums in memory.
struct LongRunTile {
  static constexpr int kRows = 2, kPanels = 1, kDepthBytes = 1, kDepthStep = 4;
  static constexpr bool kSignedCodes = true, kFinishes = false;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    const int run_depth = args.run * 4;
    for (int start = 0; start < args.depth; start += run_depth) {
      int16x8_t sum[rows][kShorts];
#pragma GCC unroll 2
      for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
        for (int s = 0; s < kShorts; s++) sum[i][s] = vdupq_n_s16(0);
      }
      const int end = start + run_depth < args.depth ? start + run_depth : args.depth;
      for (int d = start; d < end; d += 4) add_step(args, d, sum);
#pragma GCC unroll 2
      for (int i = 0; i < rows; i++) widen(args.sums + i * kColumns, start == 0, sum[i]);
    }
  }

 private:
  template <int rows>
  static inline void add_step(const TileArgs& args, int d, int16x8_t (&sum)[rows][kShorts]) {
    const int8_t* w = args.w[0] + d * kColumns;
    int8x8_t codes[rows];
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) codes[i] = broadcast_codes(args, i, d);
#pragma GCC unroll 8
    for (int s = 0; s < kShorts; s++) {
      const int8x8_t weights = vld1_s8(w + 8 * s);
#pragma GCC unroll 2
      for (int i = 0; i < rows; i++) sum[i][s] = vmlal_s8(sum[i][s], weights, codes[i]);
    }
  }

  static inline void widen(int32_t* sums, bool first, const int16x8_t (&sum)[kShorts]) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
      const int32x4_t four = vpaddq_s32(vpaddlq_s16(sum[2 * q]), vpaddlq_s16(sum[2 * q + 1]));
      vst1q_s32(sums + 4 * q, first ? four : vaddq_s32(four, vld1q_s32(sums + 4 * q)));
    }
  }
};

// The largest number of products whose sum fits int16: run * max |code| * 2^(bits - 1) <= 32767.
// Codes of 8 bits are multiplied as code - 128, so that max |code| is 128 and the run is at
// least 1.
inline int products_run(int bits, int a_bits) {
  const int largest = a_bits == 8 ? 128 : (1 << a_bits) - 1;
  return 32767 / (largest << (bits - 1));
}

void gemm(const GemmArgs& g) {
  const int run = products_run(weight_range(g), g.a_bits);
  if (run == 1) {
    gemm_tiles<ShortRunTile<1>>(g, run);
  } else if (run < 4) {
    gemm_tiles<ShortRunTile<2>>(g, run);
  } else {
    gemm_tiles<LongRunTile>(g, run);
  }
}

}  // namespace

extern const Kernels kNeon;  // isa.def lists it
const Kernels kNeon = make_kernels("neon", gemm);

}  // namespace vitrun

#endif
