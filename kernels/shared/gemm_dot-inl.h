// The register tile of x86 ISAs with vpdpbusd, which adds four u8 x s8 products to each int32 lane
// without saturating. The ISA file defines that instruction as dot_codes(sum, u8, s8), over the
// Words of words_*-inl.h.
#pragma once

#include "kernels/shared/gemm-inl.h"

namespace vitrun {
namespace {

template <int kTileRows, int kTilePanels>
struct DotTile {
  static constexpr int kRows = kTileRows, kPanels = kTilePanels, kDepthBytes = 1, kDepthStep = 4;
  static constexpr bool kSignedCodes = false, kFinishes = true;
  static constexpr int kWords = 64 / kWordBytes;  // number of Words in a step of a panel
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    Words sum[rows][panels * kWords];
    add_products(args, sum);
    if (finishes_in_registers(*args.g, args.column + panels * kColumns)) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; p++) finish(args, p, sum);
    } else {
      store_sums(args.sums, sum);
    }
  }

 private:
  template <int rows, int vectors>
  static inline void add_products(const TileArgs& args, Words (&sum)[rows][vectors]) {
    const uint8_t* a = args.a;
    const int64_t a_stride = args.a_stride;
    const int8_t* w0 = args.w[0];
    const int8_t* w1 = args.w[vectors / kWords - 1];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] = Words{};
    }
    for (int d = 0, depth = args.depth; d < depth; d += 4) {
      Words w[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        w[v] = load_words((v < kWords ? w0 : w1) + d * kColumns + v % kWords * kWordBytes);
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        const Words codes = broadcast_four(a + i * a_stride + d);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = dot_codes(sum[i][v], codes, w[v]);
      }
    }
  }

  // Does what finish_panel() does, for panel p of the tile, without storing the sums first.
  template <int rows, int vectors>
  static inline void finish(const TileArgs& args, int p, const Words (&sum)[rows][vectors]) {
    const GemmArgs& g = *args.g;
    const int column = args.column + p * kColumns;
    // Locals, because the compiler must assume that a store of a vector changes g.
    if (g.epilogue == Epilogue::kInt32) {
      const int64_t stride = g.raw_stride;
      int32_t* raw = g.raw + args.row * stride + column;
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) store(raw + i * stride, to_lanes(sum[i] + p * kWords), kLanes);
      return;
    }
    const ColumnTerms terms(g, column);
    const int32_t* row_sum = g.row_sum + args.row;
    if (!g.row_scale) {
      finish_floats<rows>(args, column, [&](int i) {
        return terms.value(to_lanes(sum[i] + p * kWords), row_sum[i]);
      });
      return;
    }
    const float* row_scale = g.row_scale + args.row;
    const int32_t* row_zero = g.row_zero + args.row;
    finish_floats<rows>(args, column, [&](int i) {
      return terms.value(to_lanes(sum[i] + p * kWords), row_sum[i], row_scale[i], row_zero[i]);
    });
  }

  template <int rows, class Value>
  static inline void finish_floats(const TileArgs& args, int column, Value value) {
    const GemmArgs& g = *args.g;
    const int64_t stride = g.y_stride;
    float* y = g.y + args.row * stride + column;
    if (g.epilogue == Epilogue::kFloat) {
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) store(y + i * stride, value(i), kLanes);
      return;
    }
    const float* residual = g.residual + args.row * stride + column;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      store(y + i * stride, value(i) + load(residual + i * stride, kLanes), kLanes);
    }
  }

  template <int rows, int vectors>
  static inline void store_sums(int32_t* sums, const Words (&sum)[rows][vectors]) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        store_words(sums + i * kPanels * kColumns + v * kWordBytes / 4, sum[i][v]);
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
