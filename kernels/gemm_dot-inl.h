// The register tile of x86 ISAs with vpdpbusd, which adds four u8 x s8 products to each int32 lane
// without saturating: dot_codes(sum, u8, s8) of the ISA file. Words as in gemm_pairs-inl.h.
#pragma once

#include "kernels/gemm-inl.h"

namespace vitrun {
namespace {

template <int kTileRows, int kTilePanels>
struct DotTile {
  static constexpr int kRows = kTileRows, kPanels = kTilePanels, kDepthBytes = 1;
  static constexpr bool kSignedCodes = false;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    constexpr int kVectors = panels * 64 / kWordBytes;
    const uint8_t* a = args.a;
    const int64_t a_stride = args.a_stride;
    const int8_t* w0 = args.w[0];
    const int8_t* w1 = args.w[panels - 1];
    Words sum[rows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) sum[i][v] = Words{};
    }
    for (int d = 0, depth = args.depth; d < depth; d += 4) {
      Words w[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) {
        w[v] = load_words((v * kWordBytes < 64 ? w0 : w1) + d * kColumns + v * kWordBytes % 64);
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        const Words codes = broadcast_four(a + i * a_stride + d);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) sum[i][v] = dot_codes(sum[i][v], codes, w[v]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) {
        store_words(args.sums + i * kPanels * kColumns + v * kWordBytes / 4, sum[i][v]);
      }
    }
  }
};

template <int kRows, int kPanels>
void gemm_dot(const GemmArgs& g) {
  gemm_tiles<DotTile<kRows, kPanels>>(g, 0);
}

}  // namespace
}  // namespace vitrun
