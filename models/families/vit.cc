// ViT and all models whose blocks are ViT's: DeiT, DeiT-III, DINO, DINOv2, DINOv3, CLIP, SigLIP,
// BEiT, EVA and others, as timm's vision_transformer.py, eva.py and beit.py define them (method.md
// section 1).
#include "models/families/families.h"

namespace vitrun {
namespace {

// Prefix tokens and patches, with what positions there are added to both or to the patches alone.
int embed_tokens(GraphBuilder& b, int patches, const ModelConfig& c) {
  const Dims one = {1, 1, c.embed_dim};
  std::vector<int> tokens;
  if (c.class_token) tokens.push_back(b.constant("cls_token", one));
  if (c.distilled) tokens.push_back(b.constant("dist_token", one));
  if (c.registers) tokens.push_back(b.constant("reg_token", {1, c.registers, c.embed_dim}));
  const auto concat = [&](int x) {
    tokens.push_back(x);
    return tokens.size() > 1 ? b.concat(tokens, "tokens") : x;
  };
  if (c.positions == Positions::kNone) return concat(patches);
  const bool all = c.positions == Positions::kAll;
  const int rows = all ? c.prefix() + c.patches() : c.patches();
  const int pos = b.constant("pos_embed", {1, rows, c.embed_dim});
  return all ? b.add(concat(patches), pos, "pos_embed.add")
             : concat(b.add(patches, pos, "pos_embed.add"));
}

// The first value inside the network: tokens, normalised where a norm comes before the blocks.
int embed(GraphBuilder& b, const ModelConfig& c) {
  const int image = b.image(3, c.image_height, c.image_width);
  int x = b.window(image, "patch_embed.patches", c.patch, c.patch, ElementOrder::kChannelsFirst);
  x = b.linear(x, "patch_embed.proj", c.embed_dim, c.patch_bias);
  b.set_role(x, Role::kPatchEmbed);
  b.set_unit(x, "patch_embed");
  x = embed_tokens(b, x, c);
  if (c.norm_pre) x = b.layernorm(x, "norm_pre", c.norm_eps);
  b.set_role(x, Role::kEmbedding);
  return x;
}

BlockStyle style_of(const ModelConfig& c) {
  BlockStyle style{c.norm_eps, c.layer_scale, c.qkv_bias};
  style.qk_norm = c.qk_norm;
  style.attn_norm = c.attn_norm;
  style.proj_bias = c.proj_bias;
  style.mlp_norm = c.mlp_norm;
  style.gated = c.gated;
  style.mlp_bias = c.mlp_bias;
  style.post_norm = c.post_norm;
  style.act = c.act;
  style.rope_neighbours = c.rope.neighbours;
  return style;
}

// RoPE's angles [patches, head_dim]; mixed ones differ by block and head: [patches, embed_dim].
int angles(GraphBuilder& b, const ModelConfig& c, const std::string& block) {
  const bool mixed = c.rope.grid == RopeConfig::Grid::kMixed;
  return b.constant(mixed ? block + ".attn.rope.angles" : "rope.angles",
                    {c.patches(), mixed ? c.embed_dim : c.embed_dim / c.heads[0]});
}

int build_blocks(GraphBuilder& b, int x, const ModelConfig& c) {
  BlockStyle style = style_of(c);
  GraphBuilder::Attention attention{.heads = c.heads[0]};
  if (c.relative_bias) {
    attention.grid_height = c.image_height / c.patch;
    attention.grid_width = c.image_width / c.patch;
    if (c.shared_bias) attention.bias_table = "rel_pos_bias.relative_position_bias_table";
  }
  for (int i = 0; i < c.depths[0]; i++) {
    b.set_block(i);
    const std::string block = "blocks." + std::to_string(i);
    const bool own = c.rope.grid == RopeConfig::Grid::kMixed;
    if (c.rope.grid != RopeConfig::Grid::kNone && (own || i == 0)) style.rope = angles(b, c, block);
    x = attention_branch(b, x, block, style, attention);
    x = mlp_branch(b, x, block, style, c.mlp_hidden);
  }
  b.set_block(-1);
  return x;
}

int head(GraphBuilder& b, int x, const std::string& name, const ModelConfig& c) {
  return linear(b, x, name, c.num_classes, c.head_bias, Role::kHead);
}

// Attention with a learned query, and an MLP: x + mlp(norm(x)) (timm's AttentionPoolLatent).
int pool_by_attention(GraphBuilder& b, int x, const ModelConfig& c) {
  const int dim = c.embed_dim;
  if (c.prefix() && !c.pool_prefix)
    x = b.slice(x, "attn_pool.patches", c.prefix(), c.prefix() + c.patches());
  const int query = b.constant("attn_pool.query", {1, dim});
  const int kv = b.linear(x, "attn_pool.kv", 2 * dim);
  int y = b.attention(query, kv, kv, "attn_pool",
                      {.heads = c.pool_heads, .head_dim = dim / c.pool_heads, .value_begin = dim});
  const int pooled = b.linear(y, "attn_pool.proj", dim);
  y = b.layernorm(pooled, "attn_pool.norm", c.norm_eps);
  y = b.linear(y, "attn_pool.mlp.fc1", c.pool_hidden);
  const ActType act = c.pool_prefix ? ActType::kGelu : c.act;  // EVA's has GELU whatever its blocks
  y = b.act(y, "attn_pool.mlp.act", act);
  y = b.linear(y, "attn_pool.mlp.fc2", dim);
  return b.add(pooled, y, "attn_pool.add");
}

// Learned queries attend to all tokens and take their place (OpenCLIP).
int attend_by_queries(GraphBuilder& b, int x, const ModelConfig& c) {
  const int width = c.pool_width;
  x = b.layernorm(x, "attn_pool.norm_k", c.norm_eps);
  const int query = b.constant("attn_pool.query", {c.pool_queries, width});
  const int kv = b.linear(x, "attn_pool.kv", 2 * width);
  x = b.attention(query, kv, kv, "attn_pool",
                  {.heads = c.pool_heads, .head_dim = width / c.pool_heads, .value_begin = width});
  return b.linear(x, "attn_pool.proj", width);
}

int mean_of_patches(GraphBuilder& b, int x, const std::string& name, const ModelConfig& c) {
  const int prefix = c.prefix();
  return b.pool(prefix ? b.slice(x, "pool.patches", prefix, prefix + c.patches()) : x, name);
}

int pool(GraphBuilder& b, int x, const ModelConfig& c) {
  switch (c.pool) {
    case Pool::kMap:
      return pool_by_attention(b, x, c);
    case Pool::kAverage:
      return mean_of_patches(b, x, "pool", c);
    case Pool::kTokenAndAverage:
      return b.concat({b.slice(x, "pool", 0, 1), mean_of_patches(b, x, "pool.mean", c)},
                      "pool.both", 1);
    default:
      return c.class_token ? b.slice(x, "pool", 0, 1) : mean_of_patches(b, x, "pool", c);
  }
}

// The embedding is what is pooled.
int embedding_of(GraphBuilder& b, int x, const ModelConfig& c) {
  int y = pool(b, x, c);
  if (c.fc_norm) {
    y = b.layernorm(y, "fc_norm", c.norm_eps);
    b.set_role(y, Role::kLastNorm);
  }
  if (c.pooler)
    y = b.act(b.linear(y, "pooler.dense", c.embed_dim), "pooler.activation", c.pooler_act);
  if (c.projection) y = b.linear(y, "visual_projection", c.projection, c.projection_bias);
  return y;
}

// DeiT's class and distillation tokens have a head each; the logits are the mean.
void classify_distilled(GraphBuilder& b, int tokens, const ModelConfig& c) {
  const int cls = b.slice(tokens, "pool", 0, 1), dist = b.slice(tokens, "pool_dist", 1, 2);
  int embedding = b.add(cls, dist, "pool_mean", 0.5f);
  if (c.num_classes) {
    const int first = head(b, cls, "head", c);
    b.output("logits", b.add(first, head(b, dist, "head_dist", c), "logits", 0.5f));
  }
  b.output("embedding", embedding);
}

}  // namespace

Graph build_vit(const ModelConfig& c) {
  GraphBuilder b;
  int stream = build_blocks(b, embed(b, c), c);
  if (c.pool_queries) stream = attend_by_queries(b, stream, c);
  int tokens = stream;
  if (c.last_norm) {
    tokens = b.layernorm(stream, "norm", c.norm_eps);
    b.set_role(tokens, Role::kLastNorm);
  }
  if (c.head_dist) {
    classify_distilled(b, tokens, c);
  } else {
    const int embedding = embedding_of(b, tokens, c);
    if (c.num_classes) b.output("logits", head(b, embedding, "head", c));
    b.output("embedding", embedding);
  }
  b.output("features", c.raw_features ? stream : tokens);
  return b.finish();
}

}  // namespace vitrun
