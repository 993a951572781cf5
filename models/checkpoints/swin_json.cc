// The parser of what config.json says of Swin and SwinV2 alone, in timm's and in transformers'
// form.
#include <algorithm>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/config_parsers.h"

namespace vitrun {
namespace {

using nlohmann::json;

// Returns a side n, given as n or as [n, n]; -1 for anything else.
int square_side(const json& value, int least) {
  if (value.is_array() && value.size() == 2 && value[0] == value[1])
    return square_side(value[0], least);
  if (!value.is_number_integer() || value < least || value > 1 << 20) return -1;
  return value.get<int>();
}

// Reads a list of a side for each stage.
std::vector<int> read_sides(const Object& o, const char* key, const json& list, int least) {
  std::vector<int> sides;
  for (const json& side : list) sides.push_back(square_side(side, least));
  if (sides.empty() || std::ranges::min(sides) < 0)
    o.bad(key, "the side of square windows, or a list of one for each stage");
  return sides;
}

std::vector<int> read_pretrained(const Object& o) {
  constexpr const char* kKey = "pretrained_window_sizes";
  return o.has(kKey) ? read_sides(o, kKey, o.at(kKey), 0) : std::vector<int>();
}

// SwinV2 in transformers takes the windows of a stage from the height of its map, halved downwards
// with each stage, and uses them and their shift along the width too.
void settle_v2_windows(const Object& root, ModelConfig& c) {
  int width = c.image_width / c.patch;
  for (int s = 0; s < count_of(c.depths); s++) {
    const int rows = (c.image_height / c.patch) >> s;
    int &window = at(c.windows, s), &shift = at(c.shifts, s);
    if (rows <= window) shift = 0;
    window = std::min(window, rows);
    if (rows == 0 || width < window || (shift && width == window))
      fail(root.path(), ": 'image_size' ", c.image_height, "x", c.image_width,
           " makes transformers' SwinV2 put a map that is no wider than its windows of ",
           at(c.windows, s), " into them, which is not supported");
    width = (width + 1) / 2;
  }
}

// Swin in transformers shifts along no axis where a map is one window along one.
void settle_v1_shifts(ModelConfig& c) {
  int height = c.image_height / c.patch, width = c.image_width / c.patch;
  for (int s = 0; s < count_of(c.depths); s++) {
    if (std::min(height, width) <= at(c.windows, s)) at(c.shifts, s) = 0;
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
}

}  // namespace

void read_timm_windows(const Object& args, ModelConfig& c) {
  if (args.has("pretrained_window_sizes")) c.pretrained_windows = read_pretrained(args);
  if (!args.has("window_size")) return;
  // One side for all stages or a list of one for each; two integers are a height and a width.
  const json& value = args.at("window_size");
  const bool single = !value.is_array() || (value.size() == 2 && value[0].is_number());
  c.windows = read_sides(args, "window_size", single ? json::array({value}) : value, 1);
}

void read_transformers_swin(const Object& root, ModelConfig& c) {
  c.swin_v2 = root.text("model_type") == "swinv2";
  c.pad_first = true;
  read(root, "embed_dim", c.embed_dim);
  read(root, "depths", c.depths);
  read(root, "num_heads", c.heads);
  read_mlp_ratio(root, c);
  c.windows = {7};  // transformers' default
  if (root.has("window_size")) c.windows = {root.square("window_size")};
  if (!c.swin_v2) return;
  require(root, "use_absolute_embeddings", false,
          "false, as transformers' own SwinV2 fails with it");
  c.pretrained_windows = read_pretrained(root);
  // transformers' default has four entries, whatever the number of stages is.
  if (!c.depths.empty() && c.pretrained_windows.size() > c.depths.size())
    c.pretrained_windows.resize(c.depths.size());
  if (std::ranges::count(c.pretrained_windows, 1) > 0)
    root.bad("pretrained_window_sizes", "no 1, by which transformers divides 0 by 0");
}

void finish_transformers_swin(const Object& root, ModelConfig& c) {
  if (c.image_height % c.patch || c.image_width % c.patch)
    fail(root.path(), ": 'image_size' is no multiple of the patch size ", c.patch,
         "; transformers' Swin pads such images, which is not supported");
  if (root.has("use_absolute_embeddings"))
    check_flag(root, "use_absolute_embeddings", root.flag("use_absolute_embeddings"),
               c.absolute_positions);
  c.swin_v2 ? settle_v2_windows(root, c) : settle_v1_shifts(c);
}

}  // namespace vitrun
