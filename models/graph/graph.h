// The graph of a model: one flat list of nodes in execution order, the same list for the float
// engine, calibration, LRP, allocation and the integer engine. A node has one output; its inputs
// are earlier nodes. An architecture is a builder of this list (vit.cc, swin.cc), nothing else.
//
// A value holds, per image, [groups, rows, cols] floats; groups is 1 but for attention scores
// (windows * heads). Tokens of a Swin map are in row-major order in every value; windows, shifts
// and padding exist only in AttentionGeometry.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "models/checkpoints/config.h"

namespace vitrun {

enum class NodeKind {
  kPatches,     // image [3, H, W] -> [patches, 3*P*P], elements in the order channel, row, column;
                // of its pixels over 255 with ModelConfig::pixel_patches
  kLinear,      // x W^T + b; weight [N, K]
  kTokens,      // [cls, (dist,) patches] + pos_embed
  kLayerNorm,   // over cols
  kLayerScale,  // x * gamma (DeiT-III); folded away before quantization
  kScores,      // per window and head: scale * Q K^T                              unit "matmul1"
  kSoftmax,     // of scores + relative position bias + shift mask, over cols      unit "attn"
  kMix,         // attn V, heads concatenated, windows put back in token order     unit "matmul2"
  kGelu,        // x/2 (1 + erf(x / sqrt 2)), at most Node::limit
  kAdd,         // alpha * (a + b): residual (alpha 1), mean of the two heads (alpha 1/2)
  kMerge,       // Swin: 2x2 neighbours side by side, order (0,0) (1,0) (0,1) (1,1) as (row, col)
  kSelect,      // one token
  kMean,        // mean over tokens
};

// Which tokens attend to which. `index` gathers windows from the rows of the qkv value and kMix
// scatters back through it. A map that is no multiple of the window is padded: the padding's q, k
// and v are those of a zero token, the qkv bias, which the qkv value then carries as one extra last
// row (Node::pad_row).
struct AttentionGeometry {
  int heads = 0, head_dim = 0;
  int windows = 1, tokens = 0;      // tokens per window
  float scale = 1;                  // head_dim^-1/2
  std::vector<int32_t> index;       // [windows * tokens] -> row of qkv
  std::vector<int32_t> bias_index;  // [tokens * tokens] -> row of the bias table; empty without one
  std::vector<uint8_t>
      region;  // [windows * tokens]; pairs in different regions get -100; empty: no mask
};

struct Node {
  NodeKind kind = NodeKind::kPatches;
  std::string name;  // timm's module ("blocks.0.attn.qkv") or the unit ("blocks.0.attn.matmul1")
  int in[2] = {-1,
               -1};  // kMix: {softmax, qkv}; kScores: {qkv}; -1: none (kPatches reads the image)
  int groups = 1, rows = 0, cols = 0;  // of the output, per image
  int attention = -1;                  // kScores, kSoftmax, kMix: index into Graph::attention
  bool pad_row = false;                // kLinear: the last row is the output for a zero input row
  int select = 0;                      // kSelect: which token
  float alpha = 1;                     // kAdd
  float limit = INFINITY;              // kGelu
  std::string weight,
      bias;  // parameter names; empty: none (kLayerNorm: gamma, beta; kTokens: weight = pos_embed;
             // kSoftmax: weight = bias table [entries, heads]; kLayerScale: gamma)
  int map_height = 0, map_width = 0;  // kMerge: of the input map; kPatches: of the patch grid

  int64_t size() const { return int64_t{groups} * rows * cols; }
};

// A tensor the graph needs and its shape.
struct Param {
  std::string name;
  Dims dims;
};

struct Graph {
  ModelConfig config;
  std::vector<Node> nodes;  // the last one gives the logits, [1, classes]
  std::vector<AttentionGeometry> attention;
  std::vector<Param> params;

  int find(const std::string& name) const;  // index of the node with that name; -1 if none
};

Graph build_graph(const ModelConfig& config);

// Takes from `weights` exactly what the graph needs; a missing, surplus or wrongly shaped tensor
// fails with its name and both shapes. `where` names the file in messages.
void check_weights(const Graph& graph, const Weights& weights, const std::string& where);

}  // namespace vitrun
