// The transformer block that the families share.
#include "models/families/families.h"

namespace vitrun {
namespace {

int with_role(GraphBuilder& b, int node, Role role) {
  b.set_role(node, role);
  return node;
}

// A branch begins with its norm, but where the norm ends it.
int open_branch(GraphBuilder& b, int x, const std::string& norm, const BlockStyle& style) {
  if (style.post_norm) return x;
  return with_role(b, b.layernorm(x, norm, style.epsilon), Role::kPreNorm);
}

// The values whose columns are q, k and v, which may be one.
struct Operands {
  int q, k, v;
};

// q and k normalised by head. They become values of their own.
Operands normalized(GraphBuilder& b, int qkv, const std::string& name, const BlockStyle& style,
                    GraphBuilder::Attention& a) {
  const int dim = a.heads * a.head_dim;
  const auto part = [&](const char* what, int begin) {
    const int x = b.slice(qkv, name + "." + what, begin, begin + dim, 1);
    return b.norm(x, name + "." + what + "_norm", NormType::kLayer, style.epsilon, a.head_dim);
  };
  const int q = part("q", 0), k = part("k", dim);
  a.key_begin = 0;
  return {q, k, qkv};
}

// q and k turned by their positions: one node where both are columns of one value.
void rotate(GraphBuilder& b, Operands& x, const std::string& name, const BlockStyle& style,
            const GraphBuilder::Attention& a) {
  const int dim = a.heads * a.head_dim;
  const bool by_head = b.cols(style.rope) != a.head_dim;
  const auto turn = [&](int node, const char* what, int begin, int end) {
    return b.rope(node, style.rope, name + what, a.head_dim, style.rope_neighbours, begin, end);
  };
  if (x.q != x.k) {
    x.q = turn(x.q, ".q_rope", 0, dim);
    x.k = turn(x.k, ".k_rope", 0, dim);
  } else if (by_head) {
    x.q = turn(x.q, ".q_rope", 0, dim);
    x.q = x.k = x.v = turn(x.q, ".k_rope", dim, 2 * dim);
  } else {
    x.q = x.k = x.v = turn(x.q, ".rope", 0, 2 * dim);
  }
}

int gate(GraphBuilder& b, int x, const std::string& name, int hidden, ActType act) {
  const int open = b.act(b.slice(x, name + ".gate", 0, hidden, 1), name + ".act", act);
  return b.mul(open, b.slice(x, name + ".value", hidden, 2 * hidden, 1), name + ".gated");
}

}  // namespace

int close_branch(GraphBuilder& b, int x, int y, const std::string& block, const std::string& which,
                 const BlockStyle& style) {
  const std::string scale = block + ".ls" + which;
  if (style.post_norm) y = b.layernorm(y, block + ".norm" + which, style.epsilon);
  if (style.layer_scale) {
    const int gamma = b.constant(scale + ".gamma", {b.cols(x)});
    y = with_role(b, b.mul(y, gamma, scale), Role::kLayerScale);
  }
  return with_role(b, b.add(x, y, block + ".add" + which), Role::kResidual);
}

int attention_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
                     GraphBuilder::Attention attention) {
  const int dim = b.cols(x);
  const std::string name = block + ".attn";
  const int in = open_branch(b, x, block + ".norm1", style);
  const int qkv = linear(b, in, name + ".qkv", 3 * dim, style.qkv_bias, Role::kQkv);
  if (attention.window) b.set(qkv, Attribute::kPadToWindow, attention.window);
  if (attention.fixed_window) b.set(qkv, Attribute::kFixedWindow, 1);
  attention.head_dim = dim / attention.heads;
  attention.key_begin = dim;
  attention.value_begin = 2 * dim;
  Operands operands{qkv, qkv, qkv};
  if (style.qk_norm) operands = normalized(b, qkv, name, style, attention);
  if (style.rope >= 0) rotate(b, operands, name, style, attention);
  int mixed = b.attention(operands.q, operands.k, operands.v, name, attention);
  if (style.attn_norm) mixed = b.layernorm(mixed, name + ".norm", style.epsilon);
  const int proj = linear(b, mixed, name + ".proj", dim, style.proj_bias, Role::kProj);
  return close_branch(b, x, proj, block, "1", style);
}

int mlp_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
               int hidden) {
  const std::string name = block + ".mlp";
  int y = open_branch(b, x, block + ".norm2", style);
  y = linear(b, y, name + ".fc1", style.gated ? 2 * hidden : hidden, style.mlp_bias, Role::kFc1);
  y = style.gated ? gate(b, y, name, hidden, style.act) : b.act(y, name + ".act", style.act);
  if (style.mlp_norm) y = b.layernorm(y, name + ".norm", style.epsilon);
  y = linear(b, y, name + ".fc2", b.cols(x), style.mlp_bias, Role::kFc2);
  return close_branch(b, x, y, block, "2", style);
}

Graph build_graph(const ModelConfig& config) {
  validate(config);
  return config.family == Family::kVit ? build_vit(config) : build_swin(config);
}

int linear(GraphBuilder& b, int x, const std::string& name, int cols, bool has_bias, Role role) {
  return with_role(b, b.linear(x, name, cols, has_bias), role);
}

Tensor transposed(const Tensor& matrix) {
  const int64_t rows = matrix.dims[0], cols = matrix.dims[1];
  Tensor out({cols, rows});
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) at(out.data, j * rows + i) = at(matrix.data, i * cols + j);
  return out;
}

Tensor take(Weights& weights, const std::string& name) {
  Tensor tensor = std::move(weights.at(name));
  weights.erase(name);
  return tensor;
}

void derive_weights(const ModelConfig& config, Weights& weights) {
  config.family == Family::kVit ? derive_vit(config, weights) : derive_swin(config, weights);
}

}  // namespace vitrun
