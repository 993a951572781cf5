// Intel AMX-INT8 (Sapphire Rapids and later). tdpbusd adds a [16, 64] tile of u8 codes times a
// [64, 16] tile of s8 weights to a [16, 16] tile of int32, at eight times the rate of vpdpbusd.
// Sixteen rows of an unpacked panel (pack.h) already have the layout of a weight tile. Everything
// but the GEMM is AVX-512.
#if defined(__x86_64__)

#include "kernels/x86/vec_avx512-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/shared/epilogue-inl.h"
#include "kernels/shared/unpack-inl.h"

#if !defined(__AMX_INT8__) && !defined(__AMXINT8__)  // GCC, clang
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

constexpr int kTileRows = 16, kTileDepth = 64;
constexpr int kTileBytes = kTileRows * kTileDepth;
constexpr int kBlock = 2;                      // row tiles, and panels, of a block
constexpr int kSumStride = kBlock * kColumns;  // int32 from row to row of sums on the stack

// The memory that LDTILECFG reads. Tile register 2 r + p holds the sums of row tile r and panel p,
// registers 4 and 5 hold codes, and 6 and 7 hold weights. If m < 16, sums and codes have m rows.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16];

  explicit TileConfig(int m) : rows{} {
    for (int i = 0; i < 8; i++) rows[i] = static_cast<uint8_t>(i < 6 && m < 16 ? m : 16);
  }
};

// Makes the compiler finish its stores before this point. GCC 12 does not know that _tile_loadd
// reads memory and would otherwise move or drop the stores.
inline void settle_memory() {
  __asm__ volatile("" : : : "memory");
}

// An unpacked panel as weight tiles. If the depth ends with half a tile, `tail` holds that half,
// followed by 32 depths of zeros.
struct PanelTiles {
  const int8_t* w;
  const int8_t* tail;
};

// The operands of a block: row tiles begin at a[0] and a[1], panels at w[0] and w[1], and the sums
// of row tile i, [16, 32], at sums[i].
struct TileBlock {
  const uint8_t* a[kBlock];
  int64_t a_stride;
  const int8_t* w[kBlock];
  const int8_t* tail[kBlock];
  int32_t* sums[kBlock];
  int64_t sum_stride;  // int32 from row to row
};

// Adds the products of 64 depths to the tiles of sums: those of the row tiles at a0 and a1 and of
// the panels at w0 and w1.
template <int kRowTiles, int kPanels>
inline void multiply_step(const uint8_t* a0, const uint8_t* a1, int64_t a_stride, const int8_t* w0,
                          const int8_t* w1) {
  _tile_loadd(6, w0, kTileDepth);
  if constexpr (kPanels == 2) _tile_loadd(7, w1, kTileDepth);
  _tile_loadd(4, a0, a_stride);
  _tile_dpbusd(0, 4, 6);
  if constexpr (kPanels == 2) _tile_dpbusd(1, 4, 7);
  if constexpr (kRowTiles == 2) {
    _tile_loadd(5, a1, a_stride);
    _tile_dpbusd(2, 5, 6);
    if constexpr (kPanels == 2) _tile_dpbusd(3, 5, 7);
  }
}

// Copies the last 32 depths of a row tile and appends 32 zeros, because a tile must not read past
// the codes.
inline void copy_half(const uint8_t* a, int64_t a_stride, int rows, uint8_t* to) {
  for (int i = 0; i < rows; i++) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i * a_stride));
    _mm512_store_si512(to + i * kTileDepth, _mm512_zextsi256_si512(half));
  }
}

// The epilogues of the tiles of a block that has been multiplied. They are run between the steps of
// the next block, because the tiles' unit multiplies while others compute.
class Epilogues {
 public:
  explicit Epilogues(const GemmArgs& g) : g_(g) {}

  // Adds the tile of rows row .. row + rows and the 16 columns from `column` on, whose sums begin
  // at `sums`. A block has kBlock^2 tiles at most.
  void add(int row, int rows, int column, const int32_t* sums) {
    tiles_[count_++] = {row, rows, column, sums};
  }
  // Runs one of them, if any is left.
  void run_one() {
    if (next_ == count_) return;
    const Tile& t = tiles_[next_++];
    finish_panel(g_, t.row, t.rows, t.column, t.sums, kSumStride);
  }
  void finish() {
    while (next_ < count_) run_one();
    next_ = count_ = 0;
  }

 private:
  struct Tile {
    int row, rows, column;
    const int32_t* sums;
  };
  const GemmArgs& g_;
  Tile tiles_[kBlock * kBlock];
  int count_ = 0, next_ = 0;
};

// The sums [kRowTiles * 16, kPanels * 16] of one block; each row tile has `rows` rows. `before` are
// the epilogues of the last block.
template <int kRowTiles, int kPanels>
void multiply_block(const TileBlock& b, int depth, int rows, Epilogues& before) {
  const uint8_t *a0 = b.a[0], *a1 = b.a[kRowTiles - 1];
  const int8_t *w0 = b.w[0], *w1 = b.w[kPanels - 1];
  const int64_t a_stride = b.a_stride;
  settle_memory();
  _tile_zero(0);
  if constexpr (kPanels == 2) _tile_zero(1);
  if constexpr (kRowTiles == 2) _tile_zero(2);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_zero(3);
  for (; depth >= kTileDepth; depth -= kTileDepth) {
    multiply_step<kRowTiles, kPanels>(a0, a1, a_stride, w0, w1);
    a0 += kTileDepth, a1 += kTileDepth;
    w0 += kTileBytes, w1 += kTileBytes;
    before.run_one();
  }
  if (depth > 0) {
    alignas(64) uint8_t half[kBlock][kTileBytes];
    copy_half(a0, a_stride, rows, half[0]);
    copy_half(a1, a_stride, rows, half[kRowTiles - 1]);
    settle_memory();
    multiply_step<kRowTiles, kPanels>(half[0], half[kRowTiles - 1], kTileDepth, b.tail[0],
                                      b.tail[kPanels - 1]);
  }
  before.finish();
  const int64_t stride = b.sum_stride * 4;
  _tile_stored(0, b.sums[0], stride);
  if constexpr (kPanels == 2) _tile_stored(1, b.sums[0] + kColumns, stride);
  if constexpr (kRowTiles == 2) _tile_stored(2, b.sums[1], stride);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_stored(3, b.sums[1] + kColumns, stride);
}

// The sums of two blocks, in turns.
struct alignas(64) BlockSums {
  int32_t sums[2][kBlock][kTileRows * kSumStride];
  int turn = 0;
};

// Multiplies all rows by one or two unpacked panels. The last row tile is moved back so that it
// ends with the last row; rows that it computes a second time are not written again.
inline void gemm_block_columns(const GemmArgs& g, int column, int panels, const PanelTiles* w,
                               BlockSums& sums, Epilogues& epilogues) {
  const int depth = round_up(g.k, kDepthAlign), rows = g.m < kTileRows ? g.m : kTileRows;
  const bool raw = g.epilogue == Epilogue::kInt32;
  for (int row = 0; row < g.m; row += kBlock * kTileRows) {
    const int row_tiles = g.m - row > kTileRows ? 2 : 1;
    TileBlock b{.a = {}, .a_stride = g.a_stride, .w = {}, .tail = {}, .sums = {}, .sum_stride = 0};
    b.sum_stride = raw ? g.raw_stride : kSumStride;
    for (int i = 0; i < panels; i++) {
      b.w[i] = w[i].w;
      b.tail[i] = w[i].tail;
    }
    int begin[kBlock];
    for (int i = 0; i < row_tiles; i++) {
      begin[i] = row + i * kTileRows < g.m - rows ? row + i * kTileRows : g.m - rows;
      b.a[i] = g.a + begin[i] * g.a_stride;
      b.sums[i] = raw ? g.raw + begin[i] * g.raw_stride + column : sums.sums[sums.turn][i];
    }
    if (row_tiles == 2) {
      panels == 2 ? multiply_block<2, 2>(b, depth, rows, epilogues)
                  : multiply_block<2, 1>(b, depth, rows, epilogues);
    } else {
      panels == 2 ? multiply_block<1, 2>(b, depth, rows, epilogues)
                  : multiply_block<1, 1>(b, depth, rows, epilogues);
    }
    for (int i = 0; i < row_tiles && !raw; i++) {
      const int first = row + i * kTileRows, again = first - begin[i];
      for (int p = 0; p < panels; p++)
        epilogues.add(first, rows - again, column + p * kColumns,
                      b.sums[i] + again * kSumStride + p * kColumns);
    }
    sums.turn ^= 1;
  }
}

void gemm_amx(const GemmArgs& g) {
  const TileConfig config(g.m);
  _tile_loadconfig(&config);
  const int depth = round_up(g.k, kDepthAlign), whole = depth / kTileDepth * kTileDepth;
  alignas(64) int8_t scratch[kBlock][kMaxDepth * kColumns], tail[kBlock][kTileBytes];
  std::memset(tail, 0, sizeof tail);
  BlockSums sums;
  Epilogues epilogues(g);
  for (int column = 0; column < g.n; column += kBlock * kColumns) {
    PanelTiles w[kBlock];
    int panels = 0;
    for (; panels < kBlock && column + panels * kColumns < g.n; panels++) {
      const uint8_t* panel = g.panels + pack_bytes(column + panels * kColumns, g.k, g.bits);
      w[panels] = {unpack_panel(panel, g.bits, depth, scratch[panels]), tail[panels]};
      if (whole < depth) std::memcpy(tail[panels], w[panels].w + whole * kColumns, kTileBytes / 2);
    }
    gemm_block_columns(g, column, panels, w, sums, epilogues);
  }
  epilogues.finish();
  _tile_release();
  finish_codes(g, 0, g.m);
}

}  // namespace

extern const Kernels kAmx;  // isa.def lists it
const Kernels kAmx = make_kernels("amx", gemm_amx);

}  // namespace vitrun

#endif
