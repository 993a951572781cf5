// The tokens of a map that attend to each other in Swin's windows (method.md section 1).
#include <algorithm>

#include "models/graph/shapes.h"

namespace vitrun {
namespace {

// Windows along one side of the map. Unless they are fixed, a window never exceeds the map, and a
// map of one window is not shifted.
struct Axis {
  int length, window, shift, padded;
  bool pad_first;

  Axis(int map, const WindowAttention& w)
      : length(map),
        window(w.fixed ? w.window : std::min(map, w.window)),
        shift(w.fixed || map > window ? w.shift : 0),
        padded((map + window - 1) / window * window),
        pad_first(w.pad_first) {}

  // Position on the map of position i after the cyclic shift; -1: padding.
  int source(int i) const {
    if (!pad_first) return i < length ? (i + shift) % length : -1;
    const int before = (i + shift) % padded;
    return before < length ? before : -1;
  }

  // Tokens that the roll brought together from opposite ends are in different regions.
  int region(int i) const {
    if (shift == 0) return 0;
    return i < padded - window ? 0 : i < padded - shift ? 1 : 2;
  }
};

// Fills index and region for window (wy, wx).
void add_window(AttentionGeometry& g, const Axis& y, const Axis& x, int wy, int wx) {
  const int pad_row = y.length * x.length;
  for (int i = wy * y.window; i < (wy + 1) * y.window; i++)
    for (int j = wx * x.window; j < (wx + 1) * x.window; j++) {
      const int row = y.source(i), col = x.source(j);
      g.index.push_back(row < 0 || col < 0 ? pad_row : row * x.length + col);
      if (y.shift || x.shift)
        g.region.push_back(static_cast<uint8_t>(3 * y.region(i) + x.region(j)));
    }
}

// Row of the table of relative positions for each pair of tokens of a window, by their offset.
std::vector<int32_t> bias_rows(int height, int width) {
  std::vector<int32_t> rows;
  for (int a = 0; a < height * width; a++)
    for (int b = 0; b < height * width; b++) {
      const int dy = a / width - b / width + height - 1;
      const int dx = a % width - b % width + width - 1;
      rows.push_back(dy * (2 * width - 1) + dx);
    }
  return rows;
}

}  // namespace

AttentionGeometry window_attention(int height, int width, const WindowAttention& windows) {
  const Axis y(height, windows), x(width, windows);
  AttentionGeometry g;
  g.windows = (y.padded / y.window) * (x.padded / x.window);
  g.height = y.window;
  g.width = x.window;
  g.queries = g.tokens = y.window * x.window;
  g.bias_index = bias_rows(y.window, x.window);
  for (int wy = 0; wy < y.padded / y.window; wy++)
    for (int wx = 0; wx < x.padded / x.window; wx++) add_window(g, y, x, wy, wx);
  return g;
}

std::vector<int32_t> token_and_map_offsets(int height, int width, bool token) {
  std::vector<int32_t> within = bias_rows(height, width);
  if (!token) return within;
  const int map = height * width, tokens = map + 1;
  const int32_t first = (2 * height - 1) * (2 * width - 1);
  std::vector<int32_t> rows(array_size(tokens, tokens), first);
  for (int a = 0; a < map; a++) {
    at(rows, int64_t{a + 1} * tokens) = first + 1;
    std::copy_n(within.begin() + int64_t{a} * map, map, rows.begin() + int64_t{a + 1} * tokens + 1);
  }
  rows[0] = first + 2;
  return rows;
}

}  // namespace vitrun
