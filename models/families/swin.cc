// Swin, as timm's swin_transformer.py defines it (method.md section 1).
#include <cmath>

#include "models/graph/builder.h"

namespace vitrun {
namespace {

// Windows along one side of the map. A window never exceeds the map, and a map of one window is not
// shifted.
struct Axis {
  int length, window, shift, padded;

  Axis(int map, int nominal_window, bool shifted) {
    length = map;
    window = std::min(map, nominal_window);
    shift = shifted && map > window ? nominal_window / 2 : 0;
    padded = round_up(map, window);
  }

  // Position on the map of position i after the cyclic shift; -1: padding, which comes after it.
  int source(int i) const { return i < length ? (i + shift) % length : -1; }

  // Tokens that the roll brought together from opposite ends are in different regions.
  int region(int i) const {
    if (shift == 0) return 0;
    return i < padded - window ? 0 : i < padded - shift ? 1 : 2;
  }

 private:
  static int round_up(int x, int to) { return (x + to - 1) / to * to; }
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

// Row of the bias table for each pair of tokens of a window, by their offset.
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

AttentionGeometry window_attention(const Axis& y, const Axis& x, int heads, int head_dim) {
  AttentionGeometry g;
  g.heads = heads;
  g.head_dim = head_dim;
  g.windows = (y.padded / y.window) * (x.padded / x.window);
  g.tokens = y.window * x.window;
  g.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  g.bias_index = bias_rows(y.window, x.window);
  for (int wy = 0; wy < y.padded / y.window; wy++)
    for (int wx = 0; wx < x.padded / x.window; wx++) add_window(g, y, x, wy, wx);
  return g;
}

int stage(GraphBuilder& b, int x, const std::string& name, int height, int width, int depth,
          int heads, int hidden, int window) {
  const int head_dim = b.node(x).cols / heads;
  int geometry[2];  // even blocks, odd (shifted) blocks
  for (bool odd : {false, true})
    if (!odd || depth > 1)
      geometry[odd] = b.add_geometry(
          window_attention({height, window, odd}, {width, window, odd}, heads, head_dim));
  const Axis y(height, window, false), w(width, window, false);
  const int entries = (2 * y.window - 1) * (2 * w.window - 1);
  for (int i = 0; i < depth; i++) {
    const std::string block = name + ".blocks." + std::to_string(i);
    x = b.attention_branch(x, block, geometry[i % 2], entries);
    x = b.mlp_branch(x, block, hidden);
  }
  return x;
}

}  // namespace

Graph build_swin(const ModelConfig& c) {
  GraphBuilder b(c);
  int x = b.linear(b.patches(), "patch_embed.proj", c.embed_dim);
  x = b.layernorm(x, "patch_embed.norm");
  int height = c.image_height / c.patch, width = c.image_width / c.patch;
  for (size_t s = 0; s < c.depths.size(); s++) {
    const std::string name = "layers." + std::to_string(s);
    if (s > 0) {
      x = b.merge(x, name + ".downsample.merge", height, width);
      x = b.layernorm(x, name + ".downsample.norm");
      x = b.linear(x, name + ".downsample.reduction", c.embed_dim << s, false);
      height = (height + 1) / 2;
      width = (width + 1) / 2;
    }
    x = stage(b, x, name, height, width, c.depths[s], c.heads[s], c.mlp_hidden << s, c.window);
  }
  x = b.layernorm(x, "norm");
  b.linear(b.mean(x, "pool"), "head.fc", c.num_classes);
  return b.finish();
}

}  // namespace vitrun
