// The parameters of a ViT's graph that are functions of others or of the configuration.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/families/families.h"
#include "models/families/position_mlp.h"
#include "models/families/resize_positions.h"

namespace vitrun {
namespace {

// Tokens and positions are [1, rows, columns], whatever the file says: CLIP has vectors and
// matrices.
void shape_tokens(int width, Weights& weights) {
  for (const char* name : {"cls_token", "dist_token", "reg_token", "pos_embed"})
    if (const auto found = weights.find(name); found != weights.end())
      found->second.dims = {1, element_count(found->second.dims) / width, width};
}

// Positions of the image's own grid, with zeros for tokens that have none.
void settle_positions(const ModelConfig& c, Weights& weights) {
  const auto found = weights.find("pos_embed");
  if (found == weights.end()) return;
  const int height = c.image_height / c.patch, width = c.image_width / c.patch;
  Tensor& pos = found->second;
  if (height != c.position_height || width != c.position_width)
    pos = resize_positions(pos, c.position_prefix,
                           {c.position_height, c.position_width, height, width}, c.position_filter);
  const int missing = c.prefix() - c.position_prefix;
  if (c.positions != Positions::kAll || missing == 0) return;
  pos.data.insert(pos.data.begin() + int64_t{c.position_prefix} * c.embed_dim,
                  array_size(missing, c.embed_dim), 0.f);
  pos.dims[1] += missing;
}

// Tables of relative positions for the image's own grid.
void settle_relative_positions(const ModelConfig& c, Weights& weights) {
  const GridChange grid{c.position_height, c.position_width, c.image_height / c.patch,
                        c.image_width / c.patch};
  if (grid.from_height == grid.to_height && grid.from_width == grid.to_width) return;
  for (auto& [name, tensor] : weights)
    if (name.ends_with("relative_position_bias_table"))
      tensor = resize_relative_positions(tensor, name, grid, c.relative_filter);
}

// timm's tables by an MLP of logarithmic offsets, with its biases. Prefix tokens have none.
Tensor logarithmic_table(const ModelConfig& c, const std::string& name, Weights& weights) {
  const std::string mlp = name + ".mlp.";
  const Tensor last = take(weights, mlp + "fc2.bias");
  const auto log_spaced = [](int offset) {
    return std::copysign(std::log1p(std::abs(offset)), offset);
  };
  Tensor table = position_table(c.image_height / c.patch, c.image_width / c.patch,
                                {take(weights, mlp + "fc1.weight"), take(weights, mlp + "fc1.bias"),
                                 take(weights, mlp + "fc2.weight")},
                                log_spaced, log_spaced, [&](double sum, size_t head) {
                                  return sum + double{last.data[head]};
                                });
  table.dims[0] += kTokenOffsets;
  table.data.resize(static_cast<size_t>(element_count(table.dims)));
  return table;
}

void make_relative_positions(const ModelConfig& c, Weights& weights) {
  const std::string table = ".relative_position_bias_table";
  if (c.shared_bias) {
    weights["rel_pos_bias" + table] = logarithmic_table(c, "shared_rel_pos", weights);
    return;
  }
  for (int i = 0; i < c.depths[0]; i++) {
    const std::string attn = cat("blocks.", i, ".attn");
    weights[attn + table] = logarithmic_table(c, attn + ".rel_pos", weights);
  }
}

// Rows [rows, d] normalised as LayerNorm does, in double.
std::vector<double> normalised(const Tensor& rows, const Tensor& gamma, const Tensor& beta,
                               double eps) {
  const size_t d = gamma.data.size();
  std::vector<double> out(rows.data.begin(), rows.data.end());
  for (size_t first = 0; first < out.size(); first += d) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < d; i++) mean += out[first + i] / static_cast<double>(d);
    for (size_t i = 0; i < d; i++)
      square += std::pow(out[first + i] - mean, 2) / static_cast<double>(d);
    for (size_t i = 0; i < d; i++) {
      const double scale = double{gamma.data[i]} / std::sqrt(square + eps);
      out[first + i] = (out[first + i] - mean) * scale + double{beta.data[i]};
    }
  }
  return out;
}

// Parts attention pooling's q, k and v, which a file has together or apart, into q and kv.
void part_pooling(int64_t d, Weights& weights) {
  if (weights.contains("attn_pool.k.weight")) {
    Tensor kv = take(weights, "attn_pool.k.weight");
    const Tensor v = take(weights, "attn_pool.v.weight");
    kv.data.insert(kv.data.end(), v.data.begin(), v.data.end());
    kv.dims[0] += v.dims[0];
    weights["attn_pool.kv.weight"] = std::move(kv);
  }
  for (const char* part : {"weight", "bias"}) {
    if (!weights.contains(cat("attn_pool.qkv.", part))) continue;
    const Tensor qkv = take(weights, cat("attn_pool.qkv.", part));
    weights[cat("attn_pool.q.", part)] = slice(qkv, 0, d);
    weights[cat("attn_pool.kv.", part)] = slice(qkv, d, 2 * d);
  }
}

// The queries of attention pooling, W latent + b, are the same for all images. OpenCLIP's are
// normalised before.
void fix_queries(const ModelConfig& c, Weights& weights) {
  const int64_t d = c.pool_queries ? c.pool_width : c.embed_dim;
  part_pooling(d, weights);
  const Tensor latent = take(weights, "attn_pool.latent"),
               weight = take(weights, "attn_pool.q.weight"),
               bias = take(weights, "attn_pool.q.bias");
  std::vector<double> rows(latent.data.begin(), latent.data.end());
  if (c.pool_queries)
    rows = normalised(latent, take(weights, "attn_pool.norm_q.weight"),
                      take(weights, "attn_pool.norm_q.bias"), double{c.norm_eps});
  Tensor query({count_of(rows) / d, d});
  for (int64_t i = 0; i < count_of(rows); i++) {
    double sum = double{at(bias.data, i % d)};
    for (int64_t j = 0; j < d; j++)
      sum += double{at(weight.data, i % d * d + j)} * at(rows, i / d * d + j);
    at(query.data, i) = static_cast<float>(sum);
  }
  weights["attn_pool.query"] = std::move(query);
}

// A norm of one head's columns, for all heads.
void repeat_norms(const ModelConfig& c, Weights& weights) {
  for (auto& [name, tensor] : weights) {
    if (name.find(".attn.q_norm.") == name.npos && name.find(".attn.k_norm.") == name.npos)
      continue;
    const std::vector<float> head = tensor.data;
    for (int h = 1; h < c.heads[0]; h++)
      tensor.data.insert(tensor.data.end(), head.begin(), head.end());
    tensor.dims = {static_cast<int64_t>(tensor.data.size())};
  }
}

// A norm that OpenCLIP applies to what is pooled has the name of one of all tokens; CLIP's
// classifier of transformers has one and does not use it.
void move_last_norm(const ModelConfig& c, Weights& weights) {
  for (const char* part : {"weight", "bias"}) {
    const std::string from = cat("norm.", part), to = cat("fc_norm.", part);
    if (!weights.contains(from)) continue;
    Tensor norm = take(weights, from);
    if (c.fc_norm && !weights.contains(to)) weights[to] = std::move(norm);
  }
}

// --- RoPE -------------------------------------------------------------------------------------

// A patch's position along one axis of `side` patches.
double coordinate(const RopeConfig& rope, int i, int side) {
  if (rope.grid == RopeConfig::Grid::kCentred)
    return 2 * std::numbers::pi * (2 * (i + 0.5) / side - 1);
  const double x = i + rope.offset;
  return rope.reference ? x / side * rope.reference : x;
}

// Cosines and sines of a row's angles, half of the row each.
template <class Angle>
Tensor angle_table(const ModelConfig& c, int width, const Angle& angle) {
  const int across = c.image_width / c.patch;
  Tensor table({c.patches(), width});
  const int head_dim = c.embed_dim / c.heads[0], half = head_dim / 2;
  for (int p = 0; p < c.patches(); p++)
    for (int head = 0; head < width / head_dim; head++)
      for (int i = 0; i < half; i++) {
        const double a = angle(p / across, p % across, head, i);
        const int64_t at_cosine = int64_t{p} * width + head * head_dim + i;
        at(table.data, at_cosine) = static_cast<float>(std::cos(a));
        at(table.data, at_cosine + half) = static_cast<float>(std::sin(a));
      }
  return table;
}

Tensor axial_angles(const ModelConfig& c) {
  const int head_dim = c.embed_dim / c.heads[0], bands = head_dim / 4;
  const int height = c.image_height / c.patch, width = c.image_width / c.patch;
  return angle_table(c, head_dim, [&](int y, int x, int, int i) {
    const bool along_width = (i >= bands) != c.rope.width_first;
    const double band = std::pow(c.rope.temperature, -static_cast<double>(i % bands) / bands);
    return band * (along_width ? coordinate(c.rope, x, width) : coordinate(c.rope, y, height));
  });
}

// Learned frequencies [2, blocks, heads, head_dim / 2]: those along the width first.
void mixed_angles(const ModelConfig& c, Weights& weights) {
  const Tensor freqs = take(weights, "rope.freqs");
  const int half = c.embed_dim / c.heads[0] / 2, blocks = c.depths[0];
  for (int block = 0; block < blocks; block++)
    weights[cat("blocks.", block, ".attn.rope.angles")] =
        angle_table(c, c.embed_dim, [&](int y, int x, int head, int i) {
          const int64_t of_axis = int64_t{blocks} * c.heads[0] * half,
                        first = (int64_t{block} * c.heads[0] + head) * half + i;
          const double along_first = double{at(freqs.data, first)},
                       along_second = double{at(freqs.data, of_axis + first)};
          return c.rope.width_first ? x * along_first + y * along_second
                                    : y * along_first + x * along_second;
        });
}

}  // namespace

void derive_vit(const ModelConfig& c, Weights& weights) {
  if (c.registers == 0) weights.erase("reg_token");  // may be there without rows
  shape_tokens(c.embed_dim, weights);
  settle_positions(c, weights);
  if (c.relative_mlp)
    make_relative_positions(c, weights);
  else if (c.relative_bias)
    settle_relative_positions(c, weights);
  if (c.pool == Pool::kMap || c.pool_queries) fix_queries(c, weights);
  if (c.qk_norm) repeat_norms(c, weights);
  if (!c.last_norm) move_last_norm(c, weights);
  if (weights.contains("visual_projection.transposed"))
    weights["visual_projection.weight"] = transposed(take(weights, "visual_projection.transposed"));
  if (c.rope.grid == RopeConfig::Grid::kMixed)
    mixed_angles(c, weights);
  else if (c.rope.grid != RopeConfig::Grid::kNone)
    weights["rope.angles"] = axial_angles(c);
}

}  // namespace vitrun
