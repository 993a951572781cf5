// A builder for each family makes the graph of a configuration.
#pragma once

#include "models/checkpoints/config.h"
#include "models/graph/builder.h"

namespace vitrun {

// Outputs "logits" where there is a head, "embedding" and "features" (graph.md's names:
// docs/qbin.md).
Graph build_graph(const ModelConfig& config);

// Takes a tensor, which must be there, out of the weights.
Tensor take(Weights& weights, const std::string& name);
Tensor transposed(const Tensor& matrix);

// A Linear with its role.
int linear(GraphBuilder& b, int x, const std::string& name, int cols, bool has_bias, Role role);

Graph build_vit(const ModelConfig& config);
Graph build_swin(const ModelConfig& config);
// The maps of a Swin's stages, each before the merging of patches that the next begins with.
std::vector<int> build_swin_stages(GraphBuilder& b, const ModelConfig& config);

// Puts the parameters that a graph has and a checkpoint has not: RoPE's angles, the query of
// attention pooling, norms repeated for each head, SwinV2's position bias. Takes away what they are
// made of.
void derive_weights(const ModelConfig& config, Weights& weights);
void derive_vit(const ModelConfig& config, Weights& weights);
void derive_swin(const ModelConfig& config, Weights& weights);

// The parts of a block's branches beside norm, attention and MLP.
struct BlockStyle {
  float epsilon;
  bool layer_scale, qkv_bias;
  bool qk_norm = false, attn_norm = false, proj_bias = true;
  bool mlp_norm = false, gated = false, mlp_bias = true;
  bool post_norm = false;  // norm1 and norm2 end the branches instead of beginning them
  ActType act = ActType::kGelu;
  // RoPE of q and k: the Const of a block's angles, of one head or of all; -1: none.
  int rope = -1;
  bool rope_neighbours = false;
};

// x + gamma norm(y), without the scale or the norm where the style has none: the end of a block's
// branch `which`, "1" with ls1, norm1 and add1, or "2" likewise.
int close_branch(GraphBuilder& b, int x, int y, const std::string& block, const std::string& which,
                 const BlockStyle& style);
// x + proj(attention(qkv(norm1(x)))); `attention` but for heads' columns.
int attention_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
                     GraphBuilder::Attention attention);
// x + fc2(act(fc1(norm2(x)))), or x + fc2(silu(gate) value) with both from fc1.
int mlp_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
               int hidden);

}  // namespace vitrun
