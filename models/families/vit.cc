// ViT, DeiT (also distilled) and DeiT-III, as timm's vision_transformer.py defines them (method.md
// section 1).
#include "models/families/families.h"

namespace vitrun {
namespace {

// [cls, (dist,) patches] + pos_embed; where positions are those of the patches alone they are added
// before.
int embed_tokens(GraphBuilder& b, int patches, int count, const ModelConfig& c) {
  const int prefix = int{c.class_token} + int{c.distilled};
  std::vector<int> tokens;
  if (c.class_token) tokens.push_back(b.constant("cls_token", {1, 1, c.embed_dim}));
  if (c.distilled) tokens.push_back(b.constant("dist_token", {1, 1, c.embed_dim}));
  const int rows = c.pos_embed_has_prefix ? count + prefix : count;
  const int pos = b.constant("pos_embed", {1, rows, c.embed_dim});
  const auto concat = [&](int x) {
    tokens.push_back(x);
    return prefix ? b.concat(tokens, "tokens") : x;
  };
  const int x = c.pos_embed_has_prefix ? b.add(concat(patches), pos, "pos_embed.add")
                                       : concat(b.add(patches, pos, "pos_embed.add"));
  b.set_role(x, Role::kEmbedding);
  return x;
}

int head(GraphBuilder& b, int x, const std::string& name, int classes) {
  const int logits = b.linear(x, name, classes);
  b.set_role(logits, Role::kHead);
  return logits;
}

// The class token, or the mean of the patches: timm leaves prefix tokens out.
int pool(GraphBuilder& b, int x, int patches, const ModelConfig& c) {
  if (c.pool != Pool::kAverage && c.class_token) return b.slice(x, "pool", 0, 1);
  return b.pool(c.class_token ? b.slice(x, "pool.patches", 1, 1 + patches) : x, "pool");
}

// The outputs of the normalised tokens.
void classify(GraphBuilder& b, int x, int patches, const ModelConfig& c) {
  int embedding = pool(b, x, patches, c), logits;
  if (!c.head_dist) {
    logits = head(b, embedding, "head", c.num_classes);
  } else {
    const int first = head(b, embedding, "head", c.num_classes);
    const int dist = b.slice(x, "pool_dist", 1, 2);
    embedding = b.add(embedding, dist, "pool_mean", 0.5f);
    logits = b.add(first, head(b, dist, "head_dist", c.num_classes), "logits", 0.5f);
  }
  b.output("logits", logits);
  b.output("embedding", embedding);
  b.output("features", x);
}

}  // namespace

Graph build_vit(const ModelConfig& c) {
  GraphBuilder b;
  const int image = b.image(3, c.image_height, c.image_width);
  int x = b.window(image, "patch_embed.patches", c.patch, c.patch, ElementOrder::kChannelsFirst);
  x = b.linear(x, "patch_embed.proj", c.embed_dim);
  b.set_role(x, Role::kPatchEmbed);
  b.set_unit(x, "patch_embed");
  const int patches = (c.image_height / c.patch) * (c.image_width / c.patch);
  x = embed_tokens(b, x, patches, c);
  const BlockStyle style{c.norm_eps, c.layer_scale, c.qkv_bias};
  for (int i = 0; i < c.depths[0]; i++) {
    b.set_block(i);
    const std::string block = "blocks." + std::to_string(i);
    x = attention_branch(b, x, block, style, {.heads = c.heads[0]});
    x = mlp_branch(b, x, block, style, c.mlp_hidden);
  }
  b.set_block(-1);
  x = b.layernorm(x, "norm", c.norm_eps);
  b.set_role(x, Role::kLastNorm);
  classify(b, x, patches, c);
  return b.finish();
}

}  // namespace vitrun
