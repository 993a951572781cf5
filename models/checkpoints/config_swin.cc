// The configurations of Swin, Swin S3 and SwinV2.
#include <algorithm>

#include "models/base/index.h"
#include "models/checkpoints/shape_reader.h"

namespace vitrun {
namespace {

constexpr int kMaxWindow = 64;

struct SwinSize {
  const char* name;
  int embed, third_depth, heads;
};
constexpr SwinSize kSwinSizes[] = {
    {"tiny", 96, 6, 3},
    {"small", 96, 18, 3},
    {"base", 128, 18, 4},
    {"large", 192, 18, 6},
};

ModelConfig swin_arch(const std::string& arch, const SwinSize& size,
                      const std::vector<int>& windows, int side) {
  ModelConfig c;
  c.arch = arch;
  c.family = Family::kSwin;
  c.norm_eps = 1e-5f;
  c.patch = 4;
  c.embed_dim = size.embed;
  c.mlp_hidden = 4 * size.embed;
  c.depths = {2, 2, size.third_depth, 2};
  c.heads = {size.heads, 2 * size.heads, 4 * size.heads, 8 * size.heads};
  set_windows(c, windows);
  c.image_height = c.image_width = side;
  c.preprocess.crop_pct = side == 384 ? 1.0f : 0.9f;
  return c;
}

void add_s3(std::vector<ModelConfig>& all) {
  all.push_back(swin_arch("swin_s3_tiny_224", kSwinSizes[0], {7, 7, 14, 7}, 224));
  all.push_back(swin_arch("swin_s3_small_224", kSwinSizes[1], {14, 14, 14, 7}, 224));
  all.push_back(swin_arch("swin_s3_base_224", {"base", 96, 30, 3}, {7, 7, 14, 7}, 224));
}

void add_v2(std::vector<ModelConfig>& all, const SwinSize& size, const std::string& windows,
            int window, int side, std::vector<int> pretrained = {}) {
  const std::string arch = cat("swinv2_", size.name, "_window", windows);
  all.push_back(swin_arch(arch, size, {window, window, window, window}, side));
  all.back().swin_v2 = true;
  all.back().pretrained_windows = std::move(pretrained);
}

std::string block_of(int stage) {
  return cat("layers.", stage, ".blocks.0");
}

std::string bias_table(int stage) {
  return block_of(stage) + ".attn.relative_position_bias_table";
}

// Returns the side w of the square window whose bias table has (2w - 1)^2 = rows; 0 if there is
// none.
int window_of_table(int rows) {
  const int root = exact_root(rows);
  return root % 2 ? (root + 1) / 2 : 0;
}

// Takes the windows from the bias tables. A stage whose table is that of no square is a map smaller
// than the first stage's window.
std::vector<int> windows_of_tables(const ModelConfig& c, const ShapeReader& in) {
  if (c.swin_v2)
    fail(in.where, ": the weights of SwinV2 do not tell the window: it must come from config.json ",
         "or --arch");
  std::vector<int> windows;
  for (int s = 0; s < count_of(c.depths); s++) {
    const int rows = in.side(bias_table(s), 2, 0), side = window_of_table(rows);
    if (s == 0 && side == 0)
      fail(in.where, ": the weights do not tell the window (", rows, " rows of '", bias_table(0),
           "'): it must come from config.json or --arch");
    windows.push_back(side ? side : windows[0]);
  }
  return windows;
}

// Sets the image size so that the last map is one window, as in every published Swin: no shape
// tells the size.
void guess_image(ModelConfig& c, const ShapeReader& in) {
  const int stages = count_of(c.depths), window = c.windows[0];
  for (int s = 0; s < stages; s++)
    if (c.swin_v2 || window_of_table(in.side(bias_table(s), 2, 0)) != window)
      fail(in.where, ": the weights do not tell the image size: it must come from config.json or ",
           "--arch");
  check_range("window", window, 1, kMaxWindow);
  check_range("number of stages", stages, 1, kMaxStages);
  c.image_height = c.image_width = (c.patch * window) << (stages - 1);
}

// Checks each stage's bias table against the window of timm's rule, min(map, nominal side) along
// each axis.
void check_windows(const ModelConfig& c, const ShapeReader& in) {
  int height = c.image_height / c.patch, width = c.image_width / c.patch;
  for (int s = 0; s < count_of(c.depths); s++) {
    const int window = at(c.windows, s);
    const int h = std::min(height, window), w = std::min(width, window);
    const int rows = in.side(bias_table(s), 2, 0), expected = (2 * h - 1) * (2 * w - 1);
    if (rows != expected)
      fail(in.where, ": the configuration says window ", window, " on an image of ", c.image_height,
           "x", c.image_width, ", so ", expected, " rows of '", bias_table(s),
           "'; the weights have ", rows);
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
}

void check_positions(const ModelConfig& c, const ShapeReader& in) {
  if (!c.absolute_positions) return;
  const int rows = in.side("absolute_pos_embed", 3, 1);
  const int patches = c.patches();
  if (rows != patches)
    fail(in.where, ": the configuration says an image of ", c.image_height, "x", c.image_width,
         ", which is ", patches, " patches; absolute_pos_embed in the weights has ", rows, " rows");
}

void settle_common(ModelConfig& c, const ShapeReader& in) {
  const std::string head = "head.fc", first_block = block_of(0);
  settle_patch_embedding(c, in);
  settle(c.mlp_hidden, in.side(first_block + ".mlp.fc1.weight", 2, 0), "MLP width", in.where);
  if (in.has(head + ".weight")) {
    settle(c.num_classes, in.side(head + ".weight", 2, 0), "number of classes", in.where);
  } else {  // a base model, whose configuration may still have the classes of another
    c.num_classes = 0;
    c.labels.clear();
  }
  c.qkv_bias = in.has(first_block + ".attn.qkv.bias");
}

// Checks the tensors of which SwinV2's parameters are made (derive_swin()).
void check_v2_tensors(const ModelConfig& c, const ShapeReader& in) {
  for (int s = 0; s < count_of(c.depths); s++)
    for (int i = 0; i < at(c.depths, s); i++) {
      const std::string attn = cat("layers.", s, ".blocks.", i, ".attn."), mlp = attn + "cpb_mlp.";
      const int hidden = in.side(mlp + "0.weight", 2, 0);
      const auto expect = [&](const std::string& name, size_t rank, size_t axis, int size) {
        if (const int found = in.side(name, rank, axis); found != size)
          fail(in.where, ": side ", axis, " of tensor '", name, "' is ", found, ", expected ",
               size);
      };
      expect(attn + "logit_scale", 3, 0, at(c.heads, s));
      expect(attn + "logit_scale", 3, 1, 1);
      expect(attn + "logit_scale", 3, 2, 1);
      expect(mlp + "0.weight", 2, 1, 2);
      expect(mlp + "0.bias", 1, 0, hidden);
      expect(mlp + "2.weight", 2, 0, at(c.heads, s));
      expect(mlp + "2.weight", 2, 1, hidden);
    }
}

// The windows of transformers' SwinV2 stay those of the configuration's image: where a map was one
// window, windows do not grow with the map and are not shifted.
void keep_windows(ModelConfig& c) {
  const int side = std::min(c.image_height, c.image_width) / c.patch;
  for (int s = 0; s < count_of(c.windows); s++) {
    const int map = (side + (1 << s) - 1) >> s;
    if (map > at(c.windows, s)) continue;
    at(c.windows, s) = map;
    at(c.shifts, s) = 0;
  }
}

// Takes the size that a user wants. The tables of relative positions are those of the
// configuration's.
void settle_size(ModelConfig& c, const Given& given, const std::string& where) {
  c.position_height = c.image_height / c.patch;
  c.position_width = c.image_width / c.patch;
  if (given.image_height == 0 ||
      (given.image_height == c.image_height && given.image_width == c.image_width))
    return;
  if (c.absolute_positions)
    fail(where, ": --image-size ", given.image_height, "x", given.image_width,
         ": a Swin's absolute positions, those of images of ", c.image_height, "x", c.image_width,
         ", are not resized");
  if (given.transformers && c.swin_v2) keep_windows(c);
  c.image_height = given.image_height;
  c.image_width = given.image_width;
  validate(c);
}

// Brings lists that stand for all stages to one entry for each.
void expand(std::vector<int>& list, int stages) {
  if (list.size() == 1) list.assign(static_cast<size_t>(stages), list[0]);
}

}  // namespace

void set_windows(ModelConfig& c, const std::vector<int>& windows) {
  c.windows = c.shifts = windows;
  for (int& shift : c.shifts) shift /= 2;
}

bool is_swin_v2(const ShapeMap& shapes) {
  return shapes.contains(block_of(0) + ".attn.logit_scale");
}

void add_swin_archs(std::vector<ModelConfig>& all, int side) {
  const int window = side / 32;
  for (const SwinSize& size : kSwinSizes)
    all.push_back(swin_arch(cat("swin_", size.name, "_patch4_window", window, "_", side), size,
                            {window, window, window, window}, side));
  if (side != 224) return;
  add_s3(all);
  for (const SwinSize& size : kSwinSizes) {
    if (size.embed <= 128)
      for (const int v2_window : {8, 16}) add_v2(all, size, cat(v2_window, "_256"), v2_window, 256);
    if (size.embed < 128) continue;
    add_v2(all, size, "12_192", 12, 192);
    add_v2(all, size, "12to16_192to256", 16, 256, {12, 12, 12, 6});
    add_v2(all, size, "12to24_192to384", 24, 384, {12, 12, 12, 6});
  }
}

void complete_swin(ModelConfig& c, const ShapeReader& in, const Given& given) {
  if (given.heads) fail(in.where, ": --heads is for ViT; Swin's weights tell its heads");
  settle_common(c, in);
  const bool v2 = is_swin_v2(in.shapes);
  if (c.swin_v2 != v2)
    fail(in.where, ": the configuration says ", c.swin_v2 ? "SwinV2" : "Swin",
         ", the tensor names say ", v2 ? "SwinV2" : "Swin");
  c.absolute_positions = in.has("absolute_pos_embed");
  std::vector<int> depths, heads;
  for (int s = 0; s < in.count("layers.", ".blocks.0.norm1.weight"); s++) {
    depths.push_back(in.count(cat("layers.", s, ".blocks."), ".norm1.weight"));
    heads.push_back(v2 ? in.side(block_of(s) + ".attn.logit_scale", 3, 0)
                       : in.side(bias_table(s), 2, 1));
  }
  settle(c.depths, depths, "depths", in.where);
  settle(c.heads, heads, "heads", in.where);
  expand(c.windows, count_of(depths));
  expand(c.pretrained_windows, count_of(depths));
  set_windows(c, c.windows.empty() ? windows_of_tables(c, in) : c.windows);
  if (c.image_height == 0) guess_image(c, in);
  settle_pool(c, given, in.where);
  validate(c);  // bounds the sizes, which check_windows() multiplies
  v2 ? check_v2_tensors(c, in) : check_windows(c, in);
  check_positions(c, in);
  settle_size(c, given, in.where);
}

void validate_swin(const ModelConfig& c) {
  const size_t stages = c.depths.size();
  if (c.windows.size() != stages || c.shifts.size() != stages)
    fail("configuration: windows of ", c.windows.size(), " stages but depths of ", stages);
  if (!c.pretrained_windows.empty() && c.pretrained_windows.size() != stages)
    fail("configuration: windows of the pretraining of ", c.pretrained_windows.size(),
         " stages but depths of ", stages);
  for (const int window : c.windows) check_range("window", window, 1, kMaxWindow);
  for (const int window : c.pretrained_windows)
    check_range("window of the pretraining", window, 0, kMaxWindow);
}

}  // namespace vitrun
