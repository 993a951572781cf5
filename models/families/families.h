// A builder for each family makes the graph of a configuration.
#pragma once

#include "models/checkpoints/config.h"
#include "models/graph/builder.h"

namespace vitrun {

// Outputs "logits", "embedding" and "features" (graph.md's names: docs/qbin.md).
Graph build_graph(const ModelConfig& config);

Graph build_vit(const ModelConfig& config);
Graph build_swin(const ModelConfig& config);

// Replaces the weights of SwinV2 that the graph's parameters are computed from: its position bias
// by a table, logit scales by a norm's weight, q's and v's bias by one of q, k and v. Leaves those
// of Swin as they are. A failure names `where`.
void derive_swin(const ModelConfig& config, Weights& weights, const std::string& where);

// Whether a block's branches end in LayerScale, and what its norms add to the variance.
struct BlockStyle {
  float epsilon;
  bool layer_scale, qkv_bias;
};

// x + proj(attention(qkv(norm1(x)))); `attention` but for heads' columns.
int attention_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
                     GraphBuilder::Attention attention);
// x + fc2(gelu(fc1(norm2(x)))).
int mlp_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
               int hidden);

}  // namespace vitrun
