// The transformer block that the families share.
#include "models/families/families.h"

namespace vitrun {
namespace {

int with_role(GraphBuilder& b, int node, Role role) {
  b.set_role(node, role);
  return node;
}

// The end of a branch: LayerScale where the model has it, and the residual.
int close_branch(GraphBuilder& b, int x, int y, const std::string& scale, const std::string& add,
                 const BlockStyle& style) {
  if (style.layer_scale) {
    const int gamma = b.constant(scale + ".gamma", {b.cols(x)});
    y = with_role(b, b.mul(y, gamma, scale), Role::kLayerScale);
  }
  return with_role(b, b.add(x, y, add), Role::kResidual);
}

}  // namespace

int attention_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
                     GraphBuilder::Attention attention) {
  const int dim = b.cols(x);
  const int norm = with_role(b, b.layernorm(x, block + ".norm1", style.epsilon), Role::kPreNorm);
  const int qkv =
      with_role(b, b.linear(norm, block + ".attn.qkv", 3 * dim, style.qkv_bias), Role::kQkv);
  if (attention.window) b.set(qkv, Attribute::kPadToWindow, attention.window);
  attention.head_dim = dim / attention.heads;
  attention.key_begin = dim;
  attention.value_begin = 2 * dim;
  const int mixed = b.attention(qkv, qkv, qkv, block + ".attn", attention);
  const int proj = with_role(b, b.linear(mixed, block + ".attn.proj", dim), Role::kProj);
  return close_branch(b, x, proj, block + ".ls1", block + ".add1", style);
}

int mlp_branch(GraphBuilder& b, int x, const std::string& block, const BlockStyle& style,
               int hidden) {
  int y = with_role(b, b.layernorm(x, block + ".norm2", style.epsilon), Role::kPreNorm);
  y = with_role(b, b.linear(y, block + ".mlp.fc1", hidden), Role::kFc1);
  y = b.act(y, block + ".mlp.act", ActType::kGelu);
  y = with_role(b, b.linear(y, block + ".mlp.fc2", b.cols(x)), Role::kFc2);
  return close_branch(b, x, y, block + ".ls2", block + ".add2", style);
}

Graph build_graph(const ModelConfig& config) {
  validate(config);
  return config.family == Family::kVit ? build_vit(config) : build_swin(config);
}

}  // namespace vitrun
