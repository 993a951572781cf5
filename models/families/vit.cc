// ViT, DeiT (also distilled) and DeiT-III, as timm's vision_transformer.py defines them (method.md
// section 1).
#include <cmath>
#include <numeric>

#include "models/graph/builder.h"

namespace vitrun {
namespace {

// Every token attends to every token.
AttentionGeometry global_attention(int tokens, int heads, int head_dim) {
  AttentionGeometry g;
  g.heads = heads;
  g.head_dim = head_dim;
  g.tokens = tokens;
  g.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  g.index.resize(static_cast<size_t>(tokens));
  std::iota(g.index.begin(), g.index.end(), 0);
  return g;
}

int classifier(GraphBuilder& b, int x, const ModelConfig& c) {
  if (!c.class_token) return b.linear(b.mean(x, "pool"), "head", c.num_classes);
  const int head = b.linear(b.select(x, "pool", 0), "head", c.num_classes);
  if (!c.distilled) return head;
  const int dist = b.linear(b.select(x, "pool_dist", 1), "head_dist", c.num_classes);
  return b.add(head, dist, "logits", 0.5f);
}

}  // namespace

Graph build_vit(const ModelConfig& c) {
  GraphBuilder b(c);
  int x = b.linear(b.patches(), "patch_embed.proj", c.embed_dim);
  x = b.tokens(x);
  const int heads = c.heads[0];
  const int geometry = b.add_geometry(global_attention(b.node(x).rows, heads, c.embed_dim / heads));
  for (int i = 0; i < c.depths[0]; i++) {
    const std::string block = "blocks." + std::to_string(i);
    x = b.attention_branch(x, block, geometry, 0);
    x = b.mlp_branch(x, block, c.mlp_hidden);
  }
  x = b.layernorm(x, "norm");
  classifier(b, x, c);
  return b.finish();
}

}  // namespace vitrun
