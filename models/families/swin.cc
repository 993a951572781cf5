// Swin, Swin S3 and SwinV2, as timm's swin_transformer.py and swin_transformer_v2.py define them
// (method.md section 1).
#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/families/families.h"
#include "models/families/position_mlp.h"
#include "models/families/resize_positions.h"

namespace vitrun {
namespace {

// Norms outside of blocks always have PyTorch's own epsilon, also in transformers.
constexpr float kOuterEpsilon = 1e-5f;
constexpr float kLengthEpsilon = 1e-12f;  // of torch.nn.functional.normalize

struct Stage {
  std::string name;
  int height, width;  // of its map
  int dim, depth, heads, hidden, window, shift;
  int pretrained;   // side of the windows of the pretraining; 0: as now
  int first_block;  // counted over all stages
  bool fixed;       // windows keep their side

  std::string block(int i) const { return name + ".blocks." + std::to_string(i); }
  int window_height() const { return fixed ? window : std::min(height, window); }
  int window_width() const { return fixed ? window : std::min(width, window); }
  int bias_entries() const { return (2 * window_height() - 1) * (2 * window_width() - 1); }
};

// The stages for an image of height x width patches.
std::vector<Stage> stages_for(const ModelConfig& c, int height, int width) {
  std::vector<Stage> stages;
  int blocks = 0;
  for (size_t s = 0; s < c.depths.size(); s++) {
    stages.push_back({"layers." + std::to_string(s), height, width, c.embed_dim << s, c.depths[s],
                      c.heads[s], c.mlp_hidden << s, c.windows[s], c.shifts[s],
                      c.pretrained_windows.empty() ? 0 : c.pretrained_windows[s], blocks,
                      c.fixed_windows});
    height = (height + 1) / 2;
    width = (width + 1) / 2;
    blocks += c.depths[s];
  }
  return stages;
}

std::vector<Stage> stages_of(const ModelConfig& c) {
  return stages_for(c, c.image_height / c.patch, c.image_width / c.patch);
}

// SwinV2's attention compares q and k by their cosine, times a factor for each head, which is in
// the norm's weight.
int cosine_attention_branch(GraphBuilder& b, int x, const std::string& block,
                            const BlockStyle& style, GraphBuilder::Attention attention) {
  const int dim = b.cols(x);
  const int qkv = linear(b, x, block + ".attn.qkv", 3 * dim, style.qkv_bias, Role::kQkv);
  b.set(qkv, Attribute::kPadToWindow, attention.window);
  attention.head_dim = dim / attention.heads;
  attention.key_begin = dim;
  attention.value_begin = 2 * dim;
  attention.scale = 1;
  const int cosines = b.norm_columns(qkv, block + ".attn.qk_norm", NormType::kL2, kLengthEpsilon,
                                     attention.head_dim, 0, 2 * dim);
  const int mixed = b.attention(cosines, cosines, qkv, block + ".attn", attention);
  const int proj = linear(b, mixed, block + ".attn.proj", dim, true, Role::kProj);
  return close_branch(b, x, proj, block, "1", style);
}

int build_stage(GraphBuilder& b, int x, const Stage& s, const BlockStyle& style,
                const ModelConfig& c) {
  for (int i = 0; i < s.depth; i++) {
    b.set_block(s.first_block + i);
    const std::string block = s.block(i);
    const GraphBuilder::Attention attention{.heads = s.heads,
                                            .window = s.window,
                                            .shift = i % 2 ? s.shift : 0,
                                            .pad_first = c.pad_first,
                                            .fixed_window = c.fixed_windows,
                                            .bias_entries = s.bias_entries()};
    x = c.swin_v2 ? cosine_attention_branch(b, x, block, style, attention)
                  : attention_branch(b, x, block, style, attention);
    x = mlp_branch(b, x, block, style, s.hidden);
  }
  b.set_block(-1);
  return x;
}

// 2 x 2 neighbours side by side, in the order (0,0) (1,0) (0,1) (1,1) as (row, col), normalised and
// halved, or in SwinV2 halved and normalised. An odd map is padded with zeros.
int merge_patches(GraphBuilder& b, int x, const std::string& name, int dim, bool norm_last) {
  const auto norm = [&](int y) { return b.layernorm(y, name + ".norm", kOuterEpsilon); };
  x = b.window(x, name + ".merge", 2, 2, ElementOrder::kColumnsFirst, 0, true);
  if (!norm_last) {
    x = norm(x);
    b.set_role(x, Role::kPreNorm);
  }
  x = linear(b, x, name + ".reduction", dim, false, Role::kReduction);
  return norm_last ? norm(x) : x;
}

int embed_patches(GraphBuilder& b, const ModelConfig& c) {
  const int image = b.image(3, c.image_height, c.image_width);
  int x = b.window(image, "patch_embed.patches", c.patch, c.patch, ElementOrder::kChannelsFirst);
  x = linear(b, x, "patch_embed.proj", c.embed_dim, true, Role::kEmbedding);
  b.set_unit(x, "patch_embed");
  x = b.layernorm(x, "patch_embed.norm", kOuterEpsilon);
  if (!c.absolute_positions) return x;
  const int pos = b.constant("absolute_pos_embed", {1, c.patches(), c.embed_dim});
  return b.add(x, pos, "pos_embed.add");
}

// --- parameters of SwinV2 ---------------------------------------------------------------------

// A relative position along an axis, between -1 and 1 where the windows are those of the
// pretraining, on a logarithmic scale.
double log_spaced(int offset, int side) {
  const double x = 8.0 * offset / std::max(side - 1, 1);
  return std::copysign(std::log2(std::abs(x) + 1) / 3, x);
}

// 16 sigmoid of what the MLP makes of a relative position.
Tensor position_bias(const Stage& s, const PositionMlp& mlp) {
  const int h = s.window_height(), w = s.window_width();
  return position_table(
      h, w, mlp, [&](int i) { return log_spaced(i, s.pretrained ? s.pretrained : h); },
      [&](int j) { return log_spaced(j, s.pretrained ? s.pretrained : w); },
      [](double sum, size_t) { return 16 / (1 + std::exp(-sum)); });
}

// The factors of the cosines, exp(min(logit_scale, log 100)) for each head's columns of q, and 1
// for k's.
Tensor cosine_weight(const Stage& s, const Tensor& logit_scale) {
  Tensor weight({2 * s.dim});
  std::ranges::fill(weight.data, 1.f);
  for (int i = 0; i < s.dim; i++) {
    const double scale = double{at(logit_scale.data, i / (s.dim / s.heads))};
    at(weight.data, i) = static_cast<float>(std::exp(std::min(scale, std::numbers::ln10 * 2)));
  }
  return weight;
}

void derive_block(const Stage& s, int block, Weights& weights) {
  const std::string attn = s.block(block) + ".attn.", mlp = attn + "cpb_mlp.";
  weights[attn + "relative_position_bias_table"] =
      position_bias(s, {take(weights, mlp + "0.weight"), take(weights, mlp + "0.bias"),
                        take(weights, mlp + "2.weight")});
  weights[attn + "qk_norm.weight"] = cosine_weight(s, take(weights, attn + "logit_scale"));
}

// The tables of a stage's blocks for its windows, from those of the windows that the image of the
// weights has there.
void settle_tables(const Stage& from, const Stage& to, PositionFilter filter, Weights& weights) {
  const GridChange windows{from.window_height(), from.window_width(), to.window_height(),
                           to.window_width()};
  if (windows.from_height == windows.to_height && windows.from_width == windows.to_width) return;
  for (int i = 0; i < to.depth; i++) {
    const std::string name = to.block(i) + ".attn.relative_position_bias_table";
    if (const auto found = weights.find(name); found != weights.end())
      found->second = resize_relative_positions(found->second, name, windows, filter);
  }
}

}  // namespace

void derive_swin(const ModelConfig& c, Weights& weights) {
  const std::vector<Stage> stages = stages_of(c);
  const std::vector<Stage> saved =
      c.position_height ? stages_for(c, c.position_height, c.position_width) : stages;
  for (size_t s = 0; s < stages.size(); s++) {
    if (!c.swin_v2) settle_tables(saved[s], stages[s], c.relative_filter, weights);
    for (int i = 0; c.swin_v2 && i < stages[s].depth; i++) derive_block(stages[s], i, weights);
  }
}

std::vector<int> build_swin_stages(GraphBuilder& b, const ModelConfig& c) {
  int x = embed_patches(b, c);
  BlockStyle style{c.norm_eps, false, c.qkv_bias};
  style.act = c.act;
  style.post_norm = c.swin_v2;
  std::vector<int> maps;
  for (const Stage& s : stages_of(c)) {
    if (s.first_block > 0) x = merge_patches(b, x, s.name + ".downsample", s.dim, c.swin_v2);
    maps.push_back(x = build_stage(b, x, s, style, c));
  }
  return maps;
}

Graph build_swin(const ModelConfig& c) {
  GraphBuilder b;
  const int x = b.layernorm(build_swin_stages(b, c).back(), "norm", c.norm_eps);
  b.set_role(x, Role::kLastNorm);
  const int embedding = b.pool(x, "pool");
  if (c.num_classes > 0) {
    const int logits = linear(b, embedding, "head.fc", c.num_classes, true, Role::kHead);
    b.set_unit(logits, "head");
    b.output("logits", logits);
  }
  b.output("embedding", embedding);
  b.output("features", x);
  return b.finish();
}

}  // namespace vitrun
