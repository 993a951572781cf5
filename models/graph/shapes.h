// The shape of every value of a graph, for given sizes of its inputs. infer_shapes() is the one
// judge of a graph that comes from a file: what it returns can be computed, and every index it
// holds lies within its value. It computes in 64 bits and allocates little before all sizes are
// known.
#pragma once

#include "models/graph/graph.h"

namespace vitrun {

struct Shape {
  int groups = 1, rows = 0, cols = 0;  // per image
  int height = 0, width = 0;           // of the map whose positions the rows are; 0: no map
  bool pad_row = false;                // a last row, that of a row of zeros, stands for padding
  bool planar = false;                 // an image as its channels, [cols, height, width]

  int64_t size() const { return int64_t{groups} * rows * cols; }
  int tokens() const { return rows - int{pad_row}; }  // rows that are no padding
};

struct MapSize {
  int height = 0, width = 0;
  bool operator==(const MapSize&) const = default;
};

// An attention's geometry says which rows attend to which. A window (all rows are one where the map
// does not fall into windows) has `queries` rows of q and `tokens` rows of k and v; with windows
// both are the same rows.
struct AttentionGeometry {
  int heads = 0, head_dim = 0;
  int windows = 1, queries = 0, tokens = 0;
  float scale = 1;
  int query_begin = 0, key_begin = 0;  // columns of q and k where the first head starts
  bool causal = false;
  int height = 0, width = 0;        // of a window; 0: no windows
  std::vector<int32_t> index;       // [windows * tokens] -> row of k and v, with windows also of q
  int bias_rows = 0;                // of a table of relative positions; 0: there can be none
  std::vector<int32_t> bias_index;  // [tokens * tokens] -> row of that table
  // [windows * tokens]; pairs of rows in different regions get -100; empty: no mask.
  std::vector<uint8_t> region;

  bool whole() const { return height == 0; }  // no windows: rows of q are 0.. in order
  int32_t query_row(int window, int query) const {
    return whole() ? query : at(index, int64_t{window} * tokens + query);
  }
};

struct Shapes {
  std::vector<Shape> values;  // of the nodes
  std::vector<AttentionGeometry> attention;
  std::vector<int>
      attention_of;  // of a Scores, its Softmax, Mix and Quantize between: into `attention`

  const Shape& operator[](int node) const { return at(values, node); }
  const AttentionGeometry& geometry(int node) const {
    return at(attention, at(attention_of, node));
  }
};

// `sizes`: one for each Input that is a map or an image, in node order; none: their default sizes.
// Fails with the node and the reason, before anything of the size in question is allocated.
Shapes infer_shapes(const Graph& graph, const std::vector<MapSize>& sizes = {});

// The first row or column that a Slice of a value takes.
int slice_begin(const Node& slice, const Shape& x);

// The default sizes of a graph's inputs.
std::vector<MapSize> default_sizes(const Graph& graph);

// How many positions along one side a window of `kernel` takes; 64 bits, not yet judged.
int64_t window_positions(int64_t side, int64_t kernel, int64_t stride, int64_t padding, bool ceil);

// Swin's windows, `window` a side and, unless they are fixed, no larger than the map; shifted
// cyclically by `shift` where the map is larger, or always. Positions after the map's are padding,
// which the shift moves too if `pad_first`.
struct WindowAttention {
  int window, shift;
  bool pad_first = false, fixed = false;
};
// The windows of a map [height, width]; the index of padding is height * width.
AttentionGeometry window_attention(int height, int width, const WindowAttention& windows);

// Rows of a table of relative positions for a map, behind a token or not, [tokens * tokens]: as in
// a window of the map, then kTokenOffsets rows: token to map, map to token, token to itself (BEiT).
constexpr int kTokenOffsets = 3;
std::vector<int32_t> token_and_map_offsets(int height, int width, bool token);

}  // namespace vitrun
