// The GEMM of every ISA but scalar and AMX. It unpacks panels into a buffer on the stack, which
// stays in cache; multiplies them by register tiles of rows x panels over the full depth; and runs
// the epilogue on each tile. The ISA defines the tile:
//
//   struct Tile {
//     // The size of the largest tile.
//     static constexpr int kRows, kPanels;
//     // Bytes that an unpacked panel holds per column and depth, 1 or 2.
//     static constexpr int kDepthBytes;
//     // multiply() takes this many depths at a time; it divides kDepthAlign.
//     static constexpr int kDepthStep;
//     // Whether multiply() multiplies s8 x s8, which makes it take 8-bit codes as code - 128.
//     static constexpr bool kSignedCodes;
//     // Whether multiply() writes the results itself where finishes_in_registers().
//     static constexpr bool kFinishes;
//     // Returns the unpacked panel, which is in scratch or is the packed panel itself.
//     static const int8_t* unpack(const uint8_t* panel, int bits, int depth, int8_t* scratch);
//     template <int rows, int panels>
//     static void multiply(const TileArgs& args);
//   };
#pragma once

#include <utility>

#include "kernels/shared/epilogue-inl.h"
#include "kernels/shared/unpack-inl.h"

namespace vitrun {
namespace {

// A tile computes sums [rows, 16 * Tile::kPanels] = codes [rows, depth] times the unpacked
// panels w[0], w[1], each [depth, 16].
struct TileArgs {
  const uint8_t* a;
  int64_t a_stride;
  const int8_t* const* w;
  int depth;
  int run;       // number of steps of 4 depths whose sum fits int16; unused by int8 dot products
  uint8_t flip;  // kSignedCodes: xor with 128 turns 8-bit codes into s8 code - 128; else 0
  int32_t* sums;
  // A tile with kFinishes writes its results to g from (row, column) on.
  const GemmArgs* g;
  int row, column;
};
using Multiply = void (*)(const TileArgs& args);

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

// The largest depth that multiply() takes. Codes of two bytes go through the depth in two parts.
template <class Tile>
constexpr int part_depth() {
  return kMaxDepth / Tile::kDepthBytes;
}

// Adds the product over the depths from part_depth() to `depth` to the sums of a tile of one panel,
// exactly in int32. args are those of the first part.
template <class Tile>
[[gnu::noinline]] void add_parts(const TileArgs& args, int rows, int depth) {
  constexpr int kStride = Tile::kPanels * kColumns, kPart = part_depth<Tile>();
  alignas(64) int32_t sums[Tile::kRows * kStride];
  for (int start = kPart; start < depth; start += kPart) {
    const int8_t* w = args.w[0] + start * kColumns * Tile::kDepthBytes;
    TileArgs part = args;
    part.a += start;
    part.w = &w;
    part.depth = depth - start < kPart ? depth - start : kPart;
    part.sums = sums;
    choose_tile<Tile>(rows, 1)(part);
    for (int i = 0; i < rows; i++) {
      int32_t* row = args.sums + i * kStride;
      store(row, load(row, kLanes) + load(sums + i * kStride, kLanes), kLanes);
    }
  }
}

// correction [16] = 128 times the sum of each column of an unpacked panel. Added to the product
// with code - 128, it gives the product with code.
inline void flip_correction(const int8_t* w, int depth, int32_t* correction) {
  for (int c = 0; c < kColumns; c++) {
    int32_t sum = 0;
    for (int d = 0; d < depth; d += 4) {
      const int8_t* four = w + d * kColumns + 4 * c;
      sum += four[0] + four[1] + four[2] + four[3];
    }
    correction[c] = 128 * sum;
  }
}

// Adds correction [16] to each row of 16 columns of a tile's sums.
inline void add_correction(const int32_t* correction, int rows, int sum_stride, int32_t* sums) {
  const Ints term = load(correction, kLanes);
  for (int i = 0; i < rows; i++) {
    int32_t* row = sums + i * sum_stride;
    store(row, load(row, kLanes) + term, kLanes);
  }
}

// Packed panels that are multiplied next. They come from memory while others are multiplied, a
// share with each row tile.
struct NextPanels {
  const uint8_t* begin;
  int64_t bytes;

  void prefetch(int part, int parts) const {
    for (int64_t i = bytes * part / parts & -64, end = bytes * (part + 1) / parts; i < end; i += 64)
      __builtin_prefetch(begin + i, 0, 2);
  }
};

// Multiplies all rows by some unpacked panels. The row tiles have nearly equal heights, because a
// last tile of a single row would cost nearly as much as a full one.
template <class Tile>
inline void gemm_columns(const GemmArgs& g, int run, int column, int panels, const int8_t* const* w,
                         const NextPanels& next) {
  constexpr int kStride = Tile::kPanels * kColumns;
  const uint8_t flip = Tile::kSignedCodes && g.a_bits == 8 ? 128 : 0;
  const bool finished = Tile::kFinishes && finishes_in_registers(g, column + panels * kColumns);
  const int tiles = (g.m + Tile::kRows - 1) / Tile::kRows;
  alignas(64) int32_t sums[Tile::kRows * kStride], correction[kStride];
  for (int p = 0; flip && p < panels; p++) {
    flip_correction(w[p], round_up(g.k, kDepthAlign), correction + p * kColumns);
  }
  const int depth = round_up(g.k, Tile::kDepthStep);  // codes beyond k are 0
  TileArgs args = {.a = g.a,
                   .a_stride = g.a_stride,
                   .w = w,
                   .depth = depth < part_depth<Tile>() ? depth : part_depth<Tile>(),
                   .run = run,
                   .flip = flip,
                   .sums = sums,
                   .g = &g,
                   .row = 0,
                   .column = column};
  for (int t = 0, row = 0; t < tiles; t++) {
    next.prefetch(t, tiles);
    const int rows = (g.m - row) / (tiles - t);
    choose_tile<Tile>(rows, panels)(args);
    if constexpr (part_depth<Tile>() < kMaxDepth) {
      if (depth > args.depth) add_parts<Tile>(args, rows, depth);
    }
    for (int p = 0; !finished && p < panels; p++) {
      if (flip) add_correction(correction + p * kColumns, rows, kStride, sums + p * kColumns);
      finish_panel(g, row, rows, column + p * kColumns, sums + p * kColumns, kStride);
    }
    args.a += rows * g.a_stride;
    args.row = row += rows;
  }
}

// The smallest known width of the weight codes.
inline int weight_range(const GemmArgs& g) {
  return g.range_bits ? g.range_bits : g.bits;
}

// `run` is passed on to the tiles (TileArgs).
template <class Tile>
void gemm_tiles(const GemmArgs& g, int run) {
  // Each panel has room for part_depth(). A deeper one takes the room of two and is multiplied
  // alone.
  constexpr int kRoom = kMaxDepth * kColumns;
  static_assert(Tile::kDepthBytes <= Tile::kPanels);
  alignas(64) int8_t scratch[Tile::kPanels * kRoom];
  const int depth = round_up(g.k, kDepthAlign);
  const int at_once = depth <= part_depth<Tile>() ? Tile::kPanels : 1;
  for (int column = 0; column < g.n; column += at_once * kColumns) {
    const int8_t* w[Tile::kPanels];
    int panels = 0;
    for (; panels < at_once && column + panels * kColumns < g.n; panels++) {
      const uint8_t* panel = g.panels + pack_bytes(column + panels * kColumns, g.k, g.bits);
      w[panels] = Tile::unpack(panel, g.bits, depth, scratch + panels * kRoom);
    }
    const int behind = column + panels * kColumns, more = g.n - behind;
    const int64_t begin = pack_bytes(behind, g.k, g.bits);
    const int64_t end =
        pack_bytes(behind + (more < panels * kColumns ? more : panels * kColumns), g.k, g.bits);
    gemm_columns<Tile>(g, run, column, panels, w, {g.panels + begin, end - begin});
  }
  finish_codes(g, 0, g.m);
}

}  // namespace
}  // namespace vitrun
