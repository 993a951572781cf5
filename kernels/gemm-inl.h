// The GEMM of every ISA: panels unpacked into a stack buffer that stays in cache, then register tiles
// of rows x panels over the full depth, then the epilogue. An ISA gives
//
//   struct Tile {
//     static constexpr int kRows, kPanels;  // of the largest tile
//     static constexpr int kDepthBytes;     // of a column of an unpacked panel, for each depth
//     static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch);
//     template <int rows, int panels>
//     static void multiply(const TileArgs& args);
//   };
#pragma once

#include <utility>

#include "kernels/epilogue-inl.h"
#include "kernels/unpack-inl.h"

namespace vitrun {
namespace {

// sums [rows][16 * Tile::kPanels] = codes times the unpacked panels w[0..panels).
struct TileArgs {
  const uint8_t* a;
  int64_t a_stride;
  const int8_t* const* w;
  int depth;
  int run;  // how many steps of 4 depths pairs_run() allows to sum in int16
  int32_t* sums;
};
using Multiply = void (*)(const TileArgs& args);

// The largest number of steps whose sums stay in int16, where a step adds a pair of products u8 x s8:
// run * 2 * (2^a_bits - 1) * 2^(bits - 1) <= 32767. 0: not even one pair.
inline int pairs_run(int bits, int a_bits) { return 32767 / (((1 << a_bits) - 1) << bits); }

template <class Tile, int kPanels, int... kRowsLessOne>
inline Multiply choose_rows(int rows, std::integer_sequence<int, kRowsLessOne...>) {
  static constexpr Multiply kChoices[] = {Tile::template multiply<kRowsLessOne + 1, kPanels>...};
  return kChoices[rows - 1];
}

template <class Tile>
inline Multiply choose_tile(int rows, int panels) {
  constexpr std::make_integer_sequence<int, Tile::kRows> kAllRows;
  if constexpr (Tile::kPanels == 2) {
    if (panels == 2) return choose_rows<Tile, 2>(rows, kAllRows);
  }
  return choose_rows<Tile, 1>(rows, kAllRows);
}

// All rows of the columns of `panels` unpacked panels, in row tiles of nearly equal height: a last tile
// of one row would cost nearly as much as a full one.
// A panel pair's worth of rows of the result, in row tiles of nearly equal height: a last tile of one row
// would cost nearly as much as a full one.
template <class Tile>
inline void gemm_columns(const GemmArgs& g, int column, int panels, const int8_t* const* w) {
  const int tiles = (g.m + Tile::kRows - 1) / Tile::kRows;
  alignas(64) int32_t sums[Tile::kRows * Tile::kPanels * kColumns];
  TileArgs args = {.a = g.a,
                   .a_stride = g.a_stride,
                   .w = w,
                   .depth = round_up(g.k, kDepthAlign),
                   .run = pairs_run(g.bits, g.a_bits),
                   .sums = sums};
  for (int t = 0, row = 0; t < tiles; t++) {
    const int rows = (g.m - row) / (tiles - t);
    choose_tile<Tile>(rows, panels)(args);
    for (int p = 0; p < panels; p++) {
      finish_panel(g, row, rows, column + p * kColumns, sums + p * kColumns,
                   Tile::kPanels * kColumns);
    }
    args.a += rows * g.a_stride;
    row += rows;
  }
}

template <class Tile>
void gemm_tiles(const GemmArgs& g) {
  const int depth = round_up(g.k, kDepthAlign);
  alignas(64) int8_t scratch[Tile::kPanels][kMaxDepth * kColumns * Tile::kDepthBytes];
  for (int column = 0; column < g.n; column += Tile::kPanels * kColumns) {
    const int8_t* w[Tile::kPanels];
    int panels = 0;
    for (; panels < Tile::kPanels && column + panels * kColumns < g.n; panels++) {
      const uint8_t* panel = g.panels + pack_bytes(column + panels * kColumns, g.k, g.bits);
      w[panels] = Tile::unpack(panel, g.bits, depth, scratch[panels]);
    }
    gemm_columns<Tile>(g, column, panels, w);
  }
  finish_codes(g, 0, g.m);
}

}  // namespace
}  // namespace vitrun
