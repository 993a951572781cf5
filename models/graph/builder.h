// What the family builders share: appending nodes and declaring parameters. Private to models/.
#pragma once

#include <string>

#include "models/graph/graph.h"

namespace vitrun {

class GraphBuilder {
 public:
  explicit GraphBuilder(const ModelConfig& config) { graph_.config = config; }

  // Each returns the index of the new node. `x` and `y` are earlier nodes.
  int patches();
  int linear(int x, const std::string& name, int out_cols, bool has_bias = true);
  int layernorm(int x, const std::string& name);
  int layer_scale(int x, const std::string& name);
  int gelu(int x, const std::string& name);
  int add(int x, int y, const std::string& name, float alpha = 1);
  int select(int x, const std::string& name, int token);
  int mean(int x, const std::string& name);
  int tokens(int x);
  int merge(int x, const std::string& name, int map_height, int map_width);

  // QK^T, softmax and attn V of the attention module `name` over the qkv value; the bias table has
  // `bias_entries` rows, 0 for none.
  int attention(int qkv, const std::string& name, int geometry, int bias_entries);
  // Registers a geometry once per stage and shift.
  int add_geometry(AttentionGeometry geometry);
  // norm2, fc1, GELU, fc2, LayerScale where the model has it, and the residual.
  int mlp_branch(int x, const std::string& block, int hidden);
  // norm1, qkv, attention, proj, LayerScale and the residual.
  int attention_branch(int x, const std::string& block, int geometry, int bias_entries);

  const Node& node(int index) const { return graph_.nodes[static_cast<size_t>(index)]; }
  Graph finish() { return std::move(graph_); }

 private:
  int append(Node node);
  Node like(int x, NodeKind kind, const std::string& name) const;  // same shape as x
  std::string param(const std::string& name, Dims dims);

  Graph graph_;
  size_t mlps_ = 0;  // so far
};

Graph build_vit(const ModelConfig& config);
Graph build_swin(const ModelConfig& config);

}  // namespace vitrun
