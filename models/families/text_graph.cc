#include "models/families/text_graph.h"

#include "models/families/families.h"

namespace vitrun {

Graph build_clip_text(const TextConfig& c) {
  GraphBuilder b;
  int x = b.map("text.input", c.width, c.positions, 1);
  b.set_role(x, Role::kEmbedding);
  BlockStyle style{c.norm_eps, false, true};
  style.act = c.act;
  for (int i = 0; i < c.depth; i++) {
    b.set_block(i);
    const std::string block = "text.blocks." + std::to_string(i);
    x = attention_branch(b, x, block, style, {.heads = c.heads, .causal = true});
    x = mlp_branch(b, x, block, style, c.hidden);
  }
  b.set_block(-1);
  x = b.layernorm(x, "text.norm", c.norm_eps);
  b.set_role(x, Role::kLastNorm);
  // All rows are projected, of which calibration sees more than of the last alone.
  x = b.linear(x, "text.projection", c.projection, false);
  b.set_role(x, Role::kHead);
  b.output("embedding", b.last_row(x, "text.end"));
  return b.finish();
}

}  // namespace vitrun
