#include "models/graph/graph.h"

#include <algorithm>

#include "models/base/error.h"
#include "models/graph/builder.h"

namespace vitrun {
namespace {

Node make(NodeKind kind, std::string name) {
  Node n;
  n.kind = kind;
  n.name = std::move(name);
  return n;
}

}  // namespace

int GraphBuilder::append(Node node) {
  graph_.nodes.push_back(std::move(node));
  return static_cast<int>(graph_.nodes.size()) - 1;
}

Node GraphBuilder::like(int x, NodeKind kind, const std::string& name) const {
  Node n = make(kind, name);
  n.in[0] = x;
  n.groups = node(x).groups;
  n.rows = node(x).rows;
  n.cols = node(x).cols;
  return n;
}

std::string GraphBuilder::param(const std::string& name, Dims dims) {
  graph_.params.push_back({name, std::move(dims)});
  return name;
}

int GraphBuilder::patches() {
  const ModelConfig& c = graph_.config;
  Node n = make(NodeKind::kPatches, "patch_embed.patches");
  n.map_height = c.image_height / c.patch;
  n.map_width = c.image_width / c.patch;
  n.rows = n.map_height * n.map_width;
  n.cols = 3 * c.patch * c.patch;
  return append(std::move(n));
}

int GraphBuilder::linear(int x, const std::string& name, int out_cols, bool has_bias) {
  Node n = like(x, NodeKind::kLinear, name);
  n.cols = out_cols;
  const int p = graph_.config.patch;
  const bool conv = node(x).kind == NodeKind::kPatches;  // the same elements in the same order
  n.weight = param(name + ".weight", conv ? Dims{out_cols, 3, p, p} : Dims{out_cols, node(x).cols});
  if (has_bias) n.bias = param(name + ".bias", {out_cols});
  return append(std::move(n));
}

int GraphBuilder::layernorm(int x, const std::string& name) {
  Node n = like(x, NodeKind::kLayerNorm, name);
  n.weight = param(name + ".weight", {n.cols});
  n.bias = param(name + ".bias", {n.cols});
  return append(std::move(n));
}

int GraphBuilder::layer_scale(int x, const std::string& name) {
  Node n = like(x, NodeKind::kLayerScale, name);
  n.weight = param(name + ".gamma", {n.cols});
  return append(std::move(n));
}

int GraphBuilder::gelu(int x, const std::string& name) {
  return append(like(x, NodeKind::kGelu, name));
}

int GraphBuilder::add(int x, int y, const std::string& name, float alpha) {
  Node n = like(x, NodeKind::kAdd, name);
  n.in[1] = y;
  n.alpha = alpha;
  return append(std::move(n));
}

int GraphBuilder::select(int x, const std::string& name, int token) {
  Node n = like(x, NodeKind::kSelect, name);
  n.rows = 1;
  n.select = token;
  return append(std::move(n));
}

int GraphBuilder::mean(int x, const std::string& name) {
  Node n = like(x, NodeKind::kMean, name);
  n.rows = 1;
  return append(std::move(n));
}

int GraphBuilder::tokens(int x) {
  const ModelConfig& c = graph_.config;
  const int prefix = int{c.class_token} + int{c.distilled};
  const int patches = node(x).rows;
  Node n = like(x, NodeKind::kTokens, "pos_embed");
  n.rows = patches + prefix;
  if (c.class_token) param("cls_token", {1, 1, n.cols});
  if (c.distilled) param("dist_token", {1, 1, n.cols});
  n.weight = param("pos_embed", {1, c.pos_embed_has_prefix ? n.rows : patches, n.cols});
  return append(std::move(n));
}

int GraphBuilder::merge(int x, const std::string& name, int map_height, int map_width) {
  Node n = like(x, NodeKind::kMerge, name);
  n.map_height = map_height;
  n.map_width = map_width;
  n.rows = ((map_height + 1) / 2) * ((map_width + 1) / 2);
  n.cols = 4 * node(x).cols;
  return append(std::move(n));
}

int GraphBuilder::add_geometry(AttentionGeometry geometry) {
  graph_.attention.push_back(std::move(geometry));
  return static_cast<int>(graph_.attention.size()) - 1;
}

int GraphBuilder::attention(int qkv, const std::string& name, int geometry, int bias_entries) {
  const AttentionGeometry& g = graph_.attention[static_cast<size_t>(geometry)];
  Node scores = make(NodeKind::kScores, name + ".matmul1");
  scores.in[0] = qkv;
  scores.groups = g.windows * g.heads;
  scores.rows = scores.cols = g.tokens;
  scores.attention = geometry;

  Node softmax = scores;
  softmax.kind = NodeKind::kSoftmax;
  softmax.name = name + ".attn";
  if (bias_entries)
    softmax.weight = param(name + ".relative_position_bias_table", {bias_entries, g.heads});

  Node mix = like(qkv, NodeKind::kMix, name + ".matmul2");
  mix.rows -= int{node(qkv).pad_row};
  mix.cols = node(qkv).cols / 3;
  mix.attention = geometry;

  softmax.in[0] = append(std::move(scores));
  mix.in[0] = append(std::move(softmax));
  mix.in[1] = qkv;
  return append(std::move(mix));
}

int GraphBuilder::attention_branch(int x, const std::string& block, int geometry,
                                   int bias_entries) {
  const AttentionGeometry& g = graph_.attention[static_cast<size_t>(geometry)];
  const int tokens = node(x).rows, dim = node(x).cols;
  int y = layernorm(x, block + ".norm1");
  const int qkv = linear(y, block + ".attn.qkv", 3 * dim, graph_.config.qkv_bias);
  if (*std::max_element(g.index.begin(), g.index.end()) == tokens) {
    graph_.nodes[static_cast<size_t>(qkv)].pad_row = true;
    graph_.nodes[static_cast<size_t>(qkv)].rows++;
  }
  y = attention(qkv, block + ".attn", geometry, bias_entries);
  y = linear(y, block + ".attn.proj", dim);
  if (graph_.config.layer_scale) y = layer_scale(y, block + ".ls1");
  return add(x, y, block + ".add1");
}

int GraphBuilder::mlp_branch(int x, const std::string& block, int hidden) {
  int y = layernorm(x, block + ".norm2");
  const std::vector<int>& extra = graph_.config.mlp_extra;
  y = linear(y, block + ".mlp.fc1", extra.empty() ? hidden : hidden + extra[mlps_++]);
  y = gelu(y, block + ".mlp.act");
  y = linear(y, block + ".mlp.fc2", node(x).cols);
  if (graph_.config.layer_scale) y = layer_scale(y, block + ".ls2");
  return add(x, y, block + ".add2");
}

int Graph::find(const std::string& name) const {
  for (size_t i = 0; i < nodes.size(); i++)
    if (nodes[i].name == name) return static_cast<int>(i);
  return -1;
}

Graph build_graph(const ModelConfig& config) {
  validate(config);
  return config.family == Family::kVit ? build_vit(config) : build_swin(config);
}

void check_weights(const Graph& graph, const Weights& weights, const std::string& where) {
  for (const Param& p : graph.params) {
    auto found = weights.find(p.name);
    if (found == weights.end())
      fail(where, ": tensor '", p.name, "' ", to_string(p.dims), " is missing");
    if (found->second.dims != p.dims)
      fail(where, ": tensor '", p.name, "' is ", to_string(found->second.dims),
           ", the model needs ", to_string(p.dims));
  }
  if (weights.size() == graph.params.size()) return;
  for (const auto& [name, tensor] : weights) {
    auto same = [&name = name](const Param& p) { return p.name == name; };
    if (std::none_of(graph.params.begin(), graph.params.end(), same))
      fail(where, ": tensor '", name, "' ", to_string(tensor.dims),
           " has no place in a model of family '", graph.config.arch, "'");
  }
}

}  // namespace vitrun
