#include "models/detect/detector_config.h"

#include <algorithm>
#include <cmath>

#include "models/checkpoints/json_object.h"
#include "models/checkpoints/shape_reader.h"

namespace vitrun {
namespace {

constexpr int kPyramidMaps = 4, kStages = 3;  // of a cascade
constexpr int kDefaultSide = 512;
constexpr std::array<float, 4> kStds[kStages] = {
    {0.1f, 0.1f, 0.2f, 0.2f}, {0.05f, 0.05f, 0.1f, 0.1f}, {0.033f, 0.033f, 0.067f, 0.067f}};

// --- config.json ------------------------------------------------------------------------------

void read(const Object& o, const char* key, float& out) {
  if (!o.has(key)) return;
  const double value = o.number(key);
  if (!(value >= 0 && value < 1e6)) o.bad(key, "a number that is not negative");
  out = static_cast<float>(value);
}

void read(const Object& o, const char* key, std::vector<float>& out) {
  if (!o.has(key)) return;
  if (!o.at(key).is_array() || o.at(key).empty()) o.bad(key, "a list of numbers");
  out.clear();
  for (const auto& item : o.at(key)) {
    if (!item.is_number() || !(item.get<double>() > 0)) o.bad(key, "a list of positive numbers");
    out.push_back(item.get<float>());
  }
}

void read_labels(const Object& o, std::vector<std::string>& labels) {
  if (!o.has("labels")) return;
  if (!o.at("labels").is_array()) o.bad("labels", "a list of names");
  for (const auto& item : o.at("labels")) {
    if (!item.is_string()) o.bad("labels", "a list of names");
    labels.push_back(item.get<std::string>());
  }
}

// Mean and standard deviation are those of pixels of 0..255, or of 0..1 if all are at most 1.
void read_normalization(const Object& o, PreprocessConfig& p) {
  float mean[3] = {123.675f, 116.28f, 103.53f}, std[3] = {58.395f, 57.12f, 57.375f};
  if (o.has("image_mean") != o.has("image_std"))
    o.bad(o.has("image_mean") ? "image_mean" : "image_std", "to come with the other of the two");
  if (o.has("image_mean")) o.read_rgb("image_mean", mean), o.read_rgb("image_std", std);
  float most = 0;
  for (int i = 0; i < 3; i++) most = std::max({most, mean[i], std[i]});
  for (int i = 0; i < 3; i++) {
    p.mean[i] = most > 1 ? mean[i] / 255 : mean[i];
    p.std[i] = most > 1 ? std[i] / 255 : std[i];
  }
}

void refuse_unknown(const Object& o, std::initializer_list<const char*> known) {
  for (const auto& item : o.json_value().items())
    if (std::ranges::find(known, item.key()) == known.end())
      o.bad(item.key().c_str(), "no such key: nobody knows what it changes");
}

void read_rpn(const Object& o, DetectorInfo& info) {
  refuse_unknown(o, {"pre_nms", "post_nms", "nms_threshold", "min_size"});
  read(o, "pre_nms", info.rpn_pre_nms);
  read(o, "post_nms", info.rpn_post_nms);
  read(o, "nms_threshold", info.rpn_nms_threshold);
  read(o, "min_size", info.rpn_min_size);
}

void read_anchors(const Object& o, DetectorInfo& info) {
  refuse_unknown(o, {"scales", "ratios", "strides"});
  read(o, "scales", info.scales);
  read(o, "ratios", info.ratios);
  if (o.has("strides")) info.strides = o.integers("strides");
}

// Returns the architecture it states, empty for none.
std::string read_json(const std::string& text, const std::string& where, DetectorConfig& c) {
  const nlohmann::json json = parse_json(text, where, 4);
  const Object o(json, where);
  refuse_unknown(o, {"architecture", "input_size", "image_mean", "image_std", "labels",
                     "score_threshold", "nms_threshold", "max_detections", "rpn", "anchors"});
  DetectorInfo& info = c.info;
  if (o.has("input_size")) {
    const Object size = o.object("input_size");
    refuse_unknown(size, {"shortest_edge", "longest_edge"});
    vitrun::read(size, "shortest_edge", info.shortest_edge);
    vitrun::read(size, "longest_edge", info.longest_edge);
  }
  read_normalization(o, c.backbone.preprocess);
  read_labels(o, c.backbone.labels);
  read(o, "score_threshold", info.score_threshold);
  read(o, "nms_threshold", info.nms_threshold);
  vitrun::read(o, "max_detections", info.max_detections);
  if (o.has("rpn")) read_rpn(o.object("rpn"), info);
  if (o.has("anchors")) read_anchors(o.object("anchors"), info);
  return o.has("architecture") ? o.text("architecture") : "";
}

// --- shapes of the weights --------------------------------------------------------------------

std::string block_of(int stage) {
  return cat("layers.", stage, ".blocks.0");
}

void expect(const ShapeReader& in, const std::string& name, const Dims& dims) {
  const auto found = in.shapes.find(name);
  if (found == in.shapes.end()) fail(in.file, ": no tensor '", name, "'");
  if (found->second != dims)
    fail(in.file, ": tensor '", name, "' is ", to_string(found->second), ", expected ",
         to_string(dims));
}

void read_swin(ModelConfig& c, const ShapeReader& in) {
  c.family = Family::kSwin;
  c.norm_eps = 1e-5f;
  c.fixed_windows = c.pad_first = true;
  c.num_classes = 0;
  if (in.has("absolute_pos_embed") || in.has("patch_embed.absolute_pos_embed"))
    fail(in.file, ": not supported: a detector whose Swin has absolute positions");
  settle_patch_embedding(c, in);
  const int stages = in.count("layers.", ".blocks.0.norm1.weight");
  if (stages != kPyramidMaps)
    fail(in.file, ": a Swin of ", stages, " stages, expected ", kPyramidMaps);
  c.mlp_hidden = in.side(block_of(0) + ".mlp.fc1.weight", 2, 0);
  c.qkv_bias = in.has(block_of(0) + ".attn.qkv.bias");
  for (int s = 0; s < stages; s++) {
    const std::string table = block_of(s) + ".attn.relative_position_bias_table";
    const int side = exact_root(in.side(table, 2, 0));
    if (side % 2 == 0) fail(in.file, ": '", table, "' is no table of square windows");
    c.depths.push_back(in.count(cat("layers.", s, ".blocks."), ".norm1.weight"));
    c.heads.push_back(in.side(table, 2, 1));
    c.windows.push_back((side + 1) / 2);
    const int64_t dim = int64_t{c.embed_dim} << s;
    expect(in, cat("norm", s, ".weight"), {dim});
    if (s == 0) continue;
    expect(in, cat("layers.", s, ".downsample.norm.weight"), {2 * dim});
    expect(in, cat("layers.", s, ".downsample.norm.bias"), {2 * dim});
    expect(in, cat("layers.", s, ".downsample.reduction.weight"), {dim, 2 * dim});
  }
  set_windows(c, c.windows);
}

void check_rpn(const DetectorConfig& c, int64_t channels, const ShapeReader& in) {
  const int64_t anchors = c.info.anchors(), hidden = in.side("rpn.conv.weight", 4, 0);
  expect(in, "rpn.conv.weight", {hidden, channels, 3, 3});
  if (in.side("rpn.cls.weight", 4, 0) != anchors)
    fail(in.where, ": anchors of ", c.info.scales.size(), " scales and ", c.info.ratios.size(),
         " ratios are ", anchors, " a position, the weights have ",
         in.side("rpn.cls.weight", 4, 0));
  expect(in, "rpn.cls.weight", {anchors, hidden, 1, 1});
  expect(in, "rpn.reg.weight", {4 * anchors, hidden, 1, 1});
}

// Convolutions NAME.convs.0, ...; returns the channels behind them.
int64_t check_convolutions(const std::string& name, int64_t channels, const ShapeReader& in) {
  for (int i = 0; in.has(cat(name, ".convs.", i, ".weight")); i++) {
    const std::string conv = cat(name, ".convs.", i);
    const int64_t out = in.side(conv + ".weight", 4, 0);
    expect(in, conv + ".weight", {out, channels, 3, 3});
    channels = out;
  }
  return channels;
}

void check_box_head(DetectorConfig& c, int stage, int64_t channels, const ShapeReader& in) {
  const std::string name = cat("box.", stage);
  channels = check_convolutions(name, channels, in);
  const int64_t depth = in.side(name + ".fcs.0.weight", 2, 1);
  const int bins = exact_root(static_cast<int>(depth / channels));
  if (bins == 0 || depth != channels * bins * bins || bins > 64)
    fail(in.file, ": tensor '", name, ".fcs.0.weight' has ", depth,
         " columns, which are no square of ", channels, " channels");
  if (stage > 0 && bins != c.info.box_bins)
    fail(in.file, ": the box heads read RoIs of ", c.info.box_bins, " and ", bins, " bins a side");
  c.info.box_bins = bins;
  const int classes = in.side(name + ".cls.weight", 2, 0) - 1,
            deltas = in.side(name + ".reg.weight", 2, 0);
  settle(c.backbone.num_classes, classes, "number of classes", in.file);
  if (classes < 1 || (deltas != 4 && deltas != 4 * classes))
    fail(in.file, ": a box head of ", classes, " classes with ", deltas, " deltas");
}

void check_mask_head(const DetectorConfig& c, int stage, int64_t channels, const ShapeReader& in) {
  const std::string name = cat("mask.", stage);
  channels = check_convolutions(name, channels, in);
  const int64_t up = in.side(name + ".upsample.weight", 4, 1),
                out = in.side(name + ".logits.weight", 4, 0);
  expect(in, name + ".upsample.weight", {channels, up, 2, 2});
  expect(in, name + ".upsample.bias", {up});
  expect(in, name + ".logits.weight", {out, up, 1, 1});
  if (out != 1 && out != c.backbone.num_classes)
    fail(in.file, ": a mask head of ", out, " classes beside box heads of ",
         c.backbone.num_classes);
}

void check_heads(DetectorConfig& c, const ShapeReader& in) {
  const int64_t channels = in.side("neck.fpn.0.weight", 4, 0);
  for (int i = 0; i < kPyramidMaps; i++) {
    expect(in, cat("neck.lateral.", i, ".weight"),
           {channels, int64_t{c.backbone.embed_dim} << i, 1, 1});
    expect(in, cat("neck.fpn.", i, ".weight"), {channels, channels, 3, 3});
  }
  check_rpn(c, channels, in);
  c.info.stages = in.count("box.", ".cls.weight");
  const int masks = in.count("mask.", ".logits.weight");
  if (c.info.stages != masks || (masks != 1 && masks != kStages))
    fail(in.file, ": ", c.info.stages, " box heads and ", masks,
         " mask heads, expected one of each ", "(Mask R-CNN) or three (Cascade Mask R-CNN)");
  c.info.stds.assign(kStds, kStds + masks);
  for (int s = 0; s < masks; s++) {
    check_box_head(c, s, channels, in);
    check_mask_head(c, s, channels, in);
  }
}

void check_architecture(const DetectorConfig& c, const std::string& stated,
                        const std::string& where) {
  const std::string found = c.info.stages == 1 ? "mask_rcnn" : "cascade_mask_rcnn";
  if (!stated.empty() && stated != found)
    fail(where, ": 'architecture' is \"", stated, "\", the weights are those of ", found);
}

}  // namespace

bool is_detector(const std::vector<std::string>& names) {
  return std::ranges::any_of(names, [](const std::string& n) {
    return n.find("rpn_head.") != n.npos || n.find("roi_head.") != n.npos;
  });
}

DetectorConfig detector_config(const std::string& json, const ShapeMap& shapes,
                               const std::string& where, const std::string& file) {
  DetectorConfig c;
  c.backbone = open_config(Family::kSwin);
  const ShapeReader in{shapes, where, file};
  const std::string stated = read_json(json.empty() ? "{}" : json, where, c);
  read_swin(c.backbone, in);
  check_heads(c, in);
  check_architecture(c, stated, where);
  check_detector_info(c.info);
  ModelConfig& m = c.backbone;
  if (!m.labels.empty() && count_of(m.labels) != m.num_classes)
    fail(where, ": 'labels' has ", m.labels.size(), " names, the weights ", m.num_classes,
         " classes");
  m.arch = c.info.stages == 1 ? "mask_rcnn" : "cascade_mask_rcnn";
  // A size that the graph has until it gets an image.
  const int divisor = c.info.size_divisor, side = std::min(c.info.shortest_edge, kDefaultSide);
  m.image_height = m.image_width = std::max(side / divisor, 1) * divisor;
  validate(m);
  return c;
}

}  // namespace vitrun
