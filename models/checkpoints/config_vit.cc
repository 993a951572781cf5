// Completes the configuration of a ViT, or of another model with ViT's blocks, from its weights.
#include <algorithm>

#include "models/base/index.h"
#include "models/checkpoints/shape_reader.h"

namespace vitrun {
namespace {

constexpr int kMaxRegisters = 64;
constexpr int kMaxPositionHidden = 4096;

// The number of a tensor's rows, behind dimensions of 1.
int rows_of(const ShapeReader& in, const std::string& name) {
  const auto found = in.shapes.find(name);
  if (found == in.shapes.end()) return 0;
  const Dims& dims = found->second;
  if (element_count(dims) == 0) return 0;
  return in.side(name, dims.size(), dims.size() < 2 ? 0 : dims.size() - 2);
}

void settle_head(ModelConfig& c, const ShapeReader& in) {
  const int classes = in.has("head.weight") ? in.side("head.weight", 2, 0) : 0;
  if (classes == 0 && c.num_classes > 0)
    c.guesses.push_back(
        cat("no classes: the configuration says ", c.num_classes, ", the weights have no head"));
  if (classes == 0) c.num_classes = 0;
  settle(c.num_classes, classes, "number of classes", in.where);
  if (classes == 0) c.labels.clear();
  c.head_bias = in.has("head.bias");
  c.projection = in.has("visual_projection.weight") ? in.side("visual_projection.weight", 2, 0)
                 : in.has("visual_projection.transposed")
                     ? in.side("visual_projection.transposed", 2, 1)
                     : 0;
  c.projection_bias = in.has("visual_projection.bias");
}

// Fails unless a tensor, where there is one, has these dimensions behind ones; 0 is any.
void expect(const ShapeReader& in, const std::string& name, Dims want) {
  const auto found = in.shapes.find(name);
  if (found == in.shapes.end()) return;
  Dims dims = found->second;
  while (dims.size() > want.size() && dims.front() == 1) dims.erase(dims.begin());
  for (size_t i = 0; i < want.size() && dims.size() == want.size(); i++)
    if (at(want, i) == 0) at(want, i) = at(dims, i);
  if (dims == want) return;
  fail(in.file, ": tensor '", name, "' is ", to_string(found->second), ", the model needs ",
       to_string(want));
}

// Tokens and positions are rows of the model's width.
void check_tokens(const ModelConfig& c, const ShapeReader& in) {
  expect(in, "cls_token", {c.embed_dim});
  expect(in, "dist_token", {c.embed_dim});
  const auto registers = in.shapes.find("reg_token");
  if (registers != in.shapes.end() && element_count(registers->second) > 0)
    expect(in, "reg_token", {0, c.embed_dim});
  expect(in, "pos_embed", {0, c.embed_dim});
}

// The MLP that makes a block's table of relative positions.
std::string position_mlp(bool shared, int block) {
  return shared ? "shared_rel_pos.mlp" : cat("blocks.", block, ".attn.rel_pos.mlp");
}

// The flags, which are always those of the weights.
void read_parts(ModelConfig& c, const ShapeReader& in) {
  const std::string attn = "blocks.0.attn.", mlp = "blocks.0.mlp.";
  c.class_token = in.has("cls_token");
  c.distilled = in.has("dist_token");
  c.head_dist = in.has("head_dist.weight");
  c.registers = rows_of(in, "reg_token");
  c.norm_pre = in.has("norm_pre.weight");
  const bool wanted = c.last_norm;  // InternViT has none
  c.last_norm = in.has("norm.weight");
  c.fc_norm = in.has("fc_norm.weight");
  if (wanted && !c.last_norm && !c.fc_norm) fail(in.file, ": tensor 'norm.weight' is missing");
  c.layer_scale = in.has("blocks.0.ls1.gamma");
  c.qkv_bias = in.has(attn + "qkv.bias");
  c.qk_norm = in.has(attn + "q_norm.weight");
  c.attn_norm = in.has(attn + "norm.weight");
  c.proj_bias = in.has(attn + "proj.bias");
  const bool shared_mlp = in.has(position_mlp(true, 0) + ".fc1.weight");
  c.relative_mlp = shared_mlp || in.has(position_mlp(false, 0) + ".fc1.weight");
  c.shared_bias = shared_mlp || in.has("rel_pos_bias.relative_position_bias_table");
  c.relative_bias =
      c.relative_mlp || c.shared_bias || in.has(attn + "relative_position_bias_table");
  c.mlp_norm = in.has(mlp + "norm.weight");
  c.mlp_bias = in.has(mlp + "fc2.bias");
  c.pooler = in.has("pooler.dense.weight");
  if (c.registers > kMaxRegisters)
    fail(in.file, ": ", c.registers, " register tokens, expected at most ", kMaxRegisters);
}

// timm's DeiT with a distillation token has two heads, or without any the mean of two tokens.
// transformers' classifier of one head ignores that token.
void check_distilled(ModelConfig& c, const ShapeReader& in, const Given& given) {
  if (c.distilled && !c.head_dist && c.num_classes == 0 && !given.transformers) c.head_dist = true;
  if (c.distilled == c.head_dist || (c.distilled && given.transformers)) return;
  fail(in.file, ": not supported: a distillation token without a head of its own, or the reverse");
}

// Fails unless side `axis` of a matrix is the model's width.
void check_width(const ModelConfig& c, const ShapeReader& in, const std::string& name,
                 size_t axis) {
  Dims found = {in.side(name, 2, 0), in.side(name, 2, 1)}, want = found;
  want[axis] = c.embed_dim;
  if (found[1 - axis] == c.embed_dim) want[1 - axis] = found[axis];  // it is transposed
  if (found[axis] != c.embed_dim)
    fail(in.file, ": tensor '", name, "' is ", to_string(found), ", the model needs ",
         to_string(want));
}

void settle_mlp(ModelConfig& c, const ShapeReader& in) {
  check_width(c, in, "blocks.0.mlp.fc1.weight", 1);
  check_width(c, in, "blocks.0.mlp.fc2.weight", 0);
  const int rows = in.side("blocks.0.mlp.fc1.weight", 2, 0);
  const int hidden = in.side("blocks.0.mlp.fc2.weight", 2, 1);
  c.gated = rows == 2 * hidden;
  if (!c.gated && rows != hidden)
    fail(in.file, ": 'blocks.0.mlp.fc1.weight' has ", rows, " rows, 'blocks.0.mlp.fc2.weight' ",
         hidden, " columns");
  // A configuration gives a gated MLP's width in one of several ways; the weights are right.
  if (c.gated) c.mlp_hidden = hidden;
  settle(c.mlp_hidden, hidden, "MLP width", in.where);
}

// Takes the number of prefix tokens with a position of their own: all, the class token alone, where
// registers come later (transformers' DINOv2), or none.
void settle_grid(ModelConfig& c, const ShapeReader& in, int rows) {
  const int64_t patches = int64_t{c.image_height / c.patch} * (c.image_width / c.patch);
  for (int prefix : {c.prefix(), int{c.class_token}, 0})
    if (rows == patches + prefix) {
      c.positions = prefix ? Positions::kAll : Positions::kPatches;
      c.position_prefix = prefix;
      c.position_height = c.image_height / c.patch;
      c.position_width = c.image_width / c.patch;
      return;
    }
  fail(in.where, ": the configuration says an image of ", c.image_height, "x", c.image_width,
       ", which is ", patches, " patches and ", c.prefix(),
       " tokens; pos_embed in the weights has ", rows, " rows");
}

// A size that nobody states follows from the rows where the patches form a square. Only DeiT-III
// (LayerScale) and models with registers may have rows for the patches alone: elsewhere 15 x 15
// rows may be 14 x 16 patches and a class token.
void guess_size(ModelConfig& c, const ShapeReader& in, int rows) {
  int side = 0;
  for (int prefix : {c.prefix(), int{c.class_token}, 0})
    if (const bool sure = prefix == c.prefix() || c.layer_scale || c.registers; side == 0 && sure)
      side = exact_root(rows - prefix);
  if (side == 0)
    fail(in.where, ": pos_embed has ", rows, " rows, which is no square grid of patches and ",
         c.prefix(), " tokens: the image size must come from config.json");
  c.image_height = c.image_width = side * c.patch;
}

// Takes the size that a user wants. transformers' BEiT confuses the sides of an oblong table of
// relative positions when it resizes it.
void settle_size(ModelConfig& c, const ShapeReader& in, const Given& given) {
  if (c.image_height == 0) c.image_height = given.image_height, c.image_width = given.image_width;
  if (c.relative_bias) {
    c.position_height = c.image_height / c.patch;
    c.position_width = c.image_width / c.patch;
    if (given.transformers) c.relative_filter = PositionFilter::kBilinear;
  }
  if (given.image_height == 0) return;
  const bool other = c.image_height != given.image_height || c.image_width != given.image_width;
  if (c.relative_bias && given.transformers && other && c.position_height != c.position_width)
    fail(in.where, ": --image-size: the tables of relative positions are those of oblong images, ",
         c.image_height, "x", c.image_width, ", and are not resized");
  c.image_height = given.image_height;
  c.image_width = given.image_width;
}

// Checks the rows of pos_embed against the size of the image.
void settle_positions(ModelConfig& c, const ShapeReader& in, const Given& given) {
  if (in.has("pos_embed")) {
    const int rows = rows_of(in, "pos_embed");
    if (c.image_height == 0) guess_size(c, in, rows);
    settle_grid(c, in, rows);
  } else {
    if (!c.relative_bias && c.rope.grid == RopeConfig::Grid::kNone)
      fail(in.file, ": tensor 'pos_embed' is missing; RoPE, which needs none, must be named by ",
           "config.json or --arch");
    c.positions = Positions::kNone;
    if (c.image_height == 0 && given.image_height == 0)
      fail(in.where, ": the weights do not tell the image size: it must come from config.json or ",
           "--image-size");
  }
  settle_size(c, in, given);
}

// Fails where a block has fewer query, key and value rows than its width: heads were pruned.
void check_unpruned(const ModelConfig& c, const ShapeReader& in) {
  for (int i = 0; i < c.depths[0]; i++) {
    const std::string name = cat("blocks.", i, ".attn.qkv.weight");
    if (const int rows = in.side(name, 2, 0); rows != 3 * c.embed_dim)
      fail(in.file, ": '", name, "' has ", rows, " rows, expected ", 3 * c.embed_dim,
           "; pruned heads are not supported");
  }
}

void settle_heads(ModelConfig& c, const ShapeReader& in, const Given& given) {
  if (given.heads && c.heads.empty()) c.heads = {given.heads};
  if (given.heads && c.heads.front() != given.heads)
    fail(in.where, ": the configuration says heads ", c.heads.front(), ", --heads ", given.heads);
  if (!c.heads.empty()) return;
  if (c.relative_mlp) {
    c.heads = {in.side(position_mlp(c.shared_bias, 0) + ".fc2.weight", 2, 0)};
    return;
  }
  if (c.relative_bias) {
    const std::string table = c.shared_bias ? "rel_pos_bias" : "blocks.0.attn";
    c.heads = {in.side(table + ".relative_position_bias_table", 2, 1)};
    return;
  }
  if (c.embed_dim % 64)
    fail(in.where, ": the weights do not tell the number of heads (embed_dim ", c.embed_dim,
         " is no multiple of 64): it must come from config.json, --arch or --heads");
  c.heads = {c.embed_dim / 64};
  c.guesses.push_back(cat("heads ", c.heads[0], " (embed_dim / 64)"));
}

// Fails unless the tensor is there and has these dimensions.
void need(const ShapeReader& in, const std::string& name, const Dims& dims) {
  if (!in.has(name)) fail(in.file, ": tensor '", name, "' is missing");
  expect(in, name, dims);
}

void check_linear(const ShapeReader& in, const std::string& name, int rows, int cols) {
  need(in, name + ".weight", {rows, cols});
  need(in, name + ".bias", {rows});
}

void check_pool_heads(const ModelConfig& c, const ShapeReader& in, int width) {
  if (c.pool_heads < 1 || width % c.pool_heads)
    fail(in.where, ": the width ", width, " is no multiple of the ", c.pool_heads,
         " heads of attention pooling");
}

// OpenCLIP's attentional pooling. Its queries are computed of these before check_weights() sees
// them.
void settle_pool_queries(ModelConfig& c, const ShapeReader& in) {
  if (c.pool_queries == 0)
    fail(in.where, ": the weights have attentional pooling, the configuration has none");
  const int d = c.pool_width = in.side("attn_pool.latent", 2, 1);
  settle(c.pool_queries, in.side("attn_pool.latent", 2, 0), "number of pooling queries", in.where);
  need(in, "attn_pool.norm_q.weight", {d});
  need(in, "attn_pool.norm_q.bias", {d});
  if (in.has("attn_pool.qkv.weight")) {
    check_linear(in, "attn_pool.qkv", 3 * d, d);
  } else {
    need(in, "attn_pool.q.weight", {d, d});
    need(in, "attn_pool.k.weight", {d, c.embed_dim});
    need(in, "attn_pool.v.weight", {d, c.embed_dim});
    need(in, "attn_pool.qkv.bias", {3 * d});
  }
  check_pool_heads(c, in, d);
}

// Attention pooling's query is computed of these before check_weights() sees them.
void settle_attention_pool(ModelConfig& c, const ShapeReader& in) {
  if (in.has("attn_pool.norm_q.weight") || c.pool_queries) return settle_pool_queries(c, in);
  if (in.has("attn_pool.latent") != (c.pool == Pool::kMap))
    fail(in.where, c.pool == Pool::kMap ? ": pooling is 'map', but the weights have no attn_pool"
                                        : ": the weights have attn_pool, but pooling is not 'map'");
  if (c.pool != Pool::kMap) return;
  const int d = c.embed_dim;
  if (in.has("attn_pool.qkv.weight")) {
    check_linear(in, "attn_pool.qkv", 3 * d, d);
  } else {
    check_linear(in, "attn_pool.q", d, d);
    check_linear(in, "attn_pool.kv", 2 * d, d);
  }
  expect(in, "attn_pool.latent", {d});
  c.pool_hidden = in.side("attn_pool.mlp.fc1.weight", 2, 0);
  if (c.pool_heads == 0) c.pool_heads = c.heads.front();
  check_pool_heads(c, in, d);
}

// The tables are computed of these before check_weights() sees them. timm's blocks with relative
// positions have LayerScale where norms begin the branches, and none where norms end them.
void check_position_mlps(const ModelConfig& c, const ShapeReader& in) {
  if (!c.relative_mlp) return;
  if (!c.layer_scale && !c.post_norm)
    fail(in.where, ": the weights do not tell whether norms begin or end the branches of a block ",
         "with relative positions: config.json or --arch must name the architecture");
  for (int i = 0; i < (c.shared_bias ? 1 : c.depths[0]); i++) {
    const std::string mlp = position_mlp(c.shared_bias, i);
    const int hidden = in.side(mlp + ".fc1.weight", 2, 0);
    check_range("hidden width of the MLP of relative positions", hidden, 1, kMaxPositionHidden);
    check_linear(in, mlp + ".fc1", hidden, 2);
    check_linear(in, mlp + ".fc2", c.heads[0], hidden);
  }
}

// The angles of RoPE are computed before check_weights() sees the frequencies.
void check_rope(const ModelConfig& c, const ShapeReader& in) {
  using Grid = RopeConfig::Grid;
  const int head = c.embed_dim / c.heads[0], pairs = head / 2;
  const bool mixed = c.rope.grid == Grid::kMixed;
  if (in.has("rope.freqs") != mixed)
    mixed ? fail(in.file, ": tensor 'rope.freqs' is missing")
          : fail(in.where, ": the weights have rope.freqs, so the configuration must name RoPE");
  if (mixed) expect(in, "rope.freqs", {2, c.depths[0], c.heads[0], pairs});
  if (c.rope.grid != Grid::kNone && (c.embed_dim % c.heads[0] || head % (mixed ? 2 : 4)))
    fail(in.where, ": RoPE of ", c.heads[0], " heads in a width of ", c.embed_dim);
}

}  // namespace

void complete_vit(ModelConfig& c, const ShapeReader& in, const Given& given) {
  settle_patch_embedding(c, in);
  read_parts(c, in);
  check_tokens(c, in);
  settle_mlp(c, in);
  settle_head(c, in);
  check_distilled(c, in, given);
  settle(c.depths, {in.count("blocks.", ".norm1.weight")}, "depth", in.where);
  settle_positions(c, in, given);
  settle_heads(c, in, given);
  if (c.pool == Pool::kOpen && given.pool == Pool::kOpen && in.has("attn_pool.latent") &&
      !c.pool_queries)
    c.pool = Pool::kMap;
  settle_pool(c, given, in.where);
  settle_attention_pool(c, in);
  validate(c);  // bounds the depth, over which the next loops
  check_unpruned(c, in);
  check_position_mlps(c, in);
  check_rope(c, in);
}

}  // namespace vitrun
