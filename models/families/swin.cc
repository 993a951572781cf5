// Swin, as timm's swin_transformer.py defines it (method.md section 1).
#include <algorithm>

#include "models/families/families.h"

namespace vitrun {
namespace {

struct Stage {
  std::string name;
  int height, width;  // of its map
  int depth, heads, hidden, window;
  int first_block;  // counted over all stages
};

int build_stage(GraphBuilder& b, int x, const Stage& s, const BlockStyle& style) {
  const int entries =
      (2 * std::min(s.height, s.window) - 1) * (2 * std::min(s.width, s.window) - 1);
  for (int i = 0; i < s.depth; i++) {
    b.set_block(s.first_block + i);
    const std::string block = s.name + ".blocks." + std::to_string(i);
    x = attention_branch(b, x, block, style,
                         {.heads = s.heads,
                          .window = s.window,
                          .shift = i % 2 ? s.window / 2 : 0,
                          .bias_entries = entries});
    x = mlp_branch(b, x, block, style, s.hidden);
  }
  b.set_block(-1);
  return x;
}

// 2 x 2 neighbours side by side, in the order (0,0) (1,0) (0,1) (1,1) as (row, col), normalised and
// halved. An odd map is padded with zeros.
int merge_patches(GraphBuilder& b, int x, const std::string& name, int dim, float epsilon) {
  x = b.window(x, name + ".merge", 2, 2, ElementOrder::kColumnsFirst, 0, true);
  x = b.layernorm(x, name + ".norm", epsilon);
  b.set_role(x, Role::kPreNorm);
  x = b.linear(x, name + ".reduction", dim, false);
  b.set_role(x, Role::kReduction);
  return x;
}

}  // namespace

Graph build_swin(const ModelConfig& c) {
  GraphBuilder b;
  const int image = b.image(3, c.image_height, c.image_width);
  int x = b.window(image, "patch_embed.patches", c.patch, c.patch, ElementOrder::kChannelsFirst);
  x = b.linear(x, "patch_embed.proj", c.embed_dim);
  b.set_role(x, Role::kEmbedding);
  b.set_unit(x, "patch_embed");
  x = b.layernorm(x, "patch_embed.norm", c.norm_eps);
  int height = c.image_height / c.patch, width = c.image_width / c.patch, blocks = 0;
  for (size_t s = 0; s < c.depths.size(); s++) {
    const std::string name = "layers." + std::to_string(s);
    if (s > 0) {
      x = merge_patches(b, x, name + ".downsample", c.embed_dim << s, c.norm_eps);
      height = (height + 1) / 2;
      width = (width + 1) / 2;
    }
    x = build_stage(
        b, x, {name, height, width, c.depths[s], c.heads[s], c.mlp_hidden << s, c.window, blocks},
        {c.norm_eps, false, c.qkv_bias});
    blocks += c.depths[s];
  }
  x = b.layernorm(x, "norm", c.norm_eps);
  b.set_role(x, Role::kLastNorm);
  const int embedding = b.pool(x, "pool");
  const int logits = b.linear(embedding, "head.fc", c.num_classes);
  b.set_unit(logits, "head");
  b.set_role(logits, Role::kHead);
  b.output("logits", logits);
  b.output("embedding", embedding);
  b.output("features", x);
  return b.finish();
}

}  // namespace vitrun
