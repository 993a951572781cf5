#include "models/detect/detector_graphs.h"

#include "models/base/error.h"
#include "models/families/families.h"

namespace vitrun {
namespace {

constexpr int kPyramidMaps = 4;  // P2..P5; P6 is a part of P5

// Makes graphs whose Linears have as many columns as the weights have rows.
class DetectorBuilder {
 public:
  explicit DetectorBuilder(const ShapeMap& shapes) : shapes_(shapes) {}

  GraphBuilder& graph() { return b_; }

  int rows(const std::string& name) const {
    const auto found = shapes_.find(name + ".weight");
    if (found == shapes_.end()) fail("tensor '", name, ".weight' is missing");
    return static_cast<int>(found->second.at(0));
  }
  bool has(const std::string& name) const { return shapes_.contains(name + ".weight"); }

  int dense(int x, const std::string& name) { return linear(b_, x, name, rows(name), true, {}); }

  // A 3x3 convolution with zeros around the map.
  int convolution(int x, const std::string& name) {
    return dense(b_.window(x, name + ".window", 3, 1, ElementOrder::kRowsFirst, 1), name);
  }

  int relu(int x, const std::string& name) { return b_.act(x, name + ".relu", ActType::kRelu); }

  // Convolutions NAME.convs.0, NAME.convs.1, ..., each with a ReLU.
  int convolutions(int x, const std::string& name) {
    for (int i = 0; has(cat(name, ".convs.", i)); i++) {
      const std::string conv = cat(name, ".convs.", i);
      x = relu(convolution(x, conv), conv);
    }
    return x;
  }

 private:
  const ShapeMap& shapes_;
  GraphBuilder b_;
};

// Laterals of the stages' maps, each with the coarser one added. Each is computed after what is
// added to it, so that an engine adds in place: these are the largest floats of a detector.
Graph build_backbone(const ModelConfig& c, const ShapeMap& shapes) {
  DetectorBuilder d(shapes);
  GraphBuilder& b = d.graph();
  std::vector<int> maps = build_swin_stages(b, c);
  for (int i = kPyramidMaps - 1, coarser = -1; i >= 0; i--) {
    if (i < kPyramidMaps - 1)
      coarser = b.resize_like(at(maps, i + 1), at(maps, i), cat("neck.up.", i), false);
    const int normed = b.layernorm(at(maps, i), cat("norm", i), c.norm_eps);
    const int lateral = d.dense(normed, cat("neck.lateral.", i));
    at(maps, i) = coarser < 0 ? lateral : b.add(lateral, coarser, cat("neck.add.", i));
  }
  for (int i = 0; i < kPyramidMaps; i++) {
    at(maps, i) = d.convolution(at(maps, i), cat("neck.fpn.", i));
    b.output(cat("p", i + 2), at(maps, i));
  }
  b.output("p6", b.pool_windows(maps.back(), "neck.p6", true, 1, 2));
  return b.finish();
}

Graph build_rpn(int channels, const ShapeMap& shapes) {
  DetectorBuilder d(shapes);
  GraphBuilder& b = d.graph();
  constexpr int kSide = 64;  // only a default: every map is another size
  const int x =
      d.relu(d.convolution(b.map("rpn.map", channels, kSide, kSide), "rpn.conv"), "rpn.conv");
  b.output("scores", d.dense(x, "rpn.cls"));
  b.output("deltas", d.dense(x, "rpn.reg"));
  return b.finish();
}

Graph build_box(const std::string& name, int channels, int bins, const ShapeMap& shapes) {
  DetectorBuilder d(shapes);
  GraphBuilder& b = d.graph();
  int x = d.convolutions(b.map(name + ".roi", channels, bins, bins), name);
  x = b.window(x, name + ".flatten", bins, 1, ElementOrder::kRowsFirst);
  for (int i = 0; d.has(cat(name, ".fcs.", i)); i++) {
    const std::string fc = cat(name, ".fcs.", i);
    x = d.relu(d.dense(x, fc), fc);
  }
  b.output("logits", d.dense(x, name + ".cls"));
  b.output("deltas", d.dense(x, name + ".reg"));
  return b.finish();
}

Graph build_mask(const std::string& name, int channels, int bins, const ShapeMap& shapes) {
  DetectorBuilder d(shapes);
  GraphBuilder& b = d.graph();
  int x = d.convolutions(b.map(name + ".roi", channels, bins, bins), name);
  x = linear(b, x, name + ".upsample", d.rows(name + ".upsample"), false, {});
  x = d.relu(b.unwindow(x, name + ".upsampled", 2, 2), name + ".upsampled");
  b.output("masks", d.dense(x, name + ".logits"));
  return b.finish();
}

// --- weights ----------------------------------------------------------------------------------

// The convolution with the batch norm behind it: w gamma / s and beta - mean gamma / s, where
// s = sqrt(variance + 1e-5).
void fold_batch_norm(const std::string& conv, const std::string& where, Weights& weights) {
  if (!weights.contains(conv + ".bn.weight")) return;
  Tensor& w = weights.at(conv + ".weight");
  const int64_t n = w.dims.at(0), k = element_count(w.dims) / n;
  Tensor part[4];
  const char* names[] = {"weight", "bias", "running_mean", "running_var"};
  for (int i = 0; i < 4; i++) {
    const std::string name = cat(conv, ".bn.", names[i]);
    if (!weights.contains(name)) fail(where, ": tensor '", name, "' is missing");
    part[i] = take(weights, name);
    if (part[i].dims != Dims{n})
      fail(where, ": tensor '", name, "' is ", to_string(part[i].dims), ", expected ",
           to_string(Dims{n}));
  }
  Tensor& bias = weights[conv + ".bias"];
  if (bias.dims.empty()) bias = Tensor({n});
  for (int64_t i = 0; i < n; i++) {
    const double scale =
        double{at(part[0].data, i)} / std::sqrt(double{at(part[3].data, i)} + 1e-5);
    for (int64_t j = 0; j < k; j++)
      at(w.data, i * k + j) = static_cast<float>(at(w.data, i * k + j) * scale);
    at(bias.data, i) =
        static_cast<float>((double{at(bias.data, i)} - double{at(part[2].data, i)}) * scale +
                           double{at(part[1].data, i)});
  }
}

// A transposed convolution [C, N, 2, 2] as a Linear to the four neighbours, [4 N, C].
Tensor scattering(const Tensor& w) {
  const int64_t c = w.dims.at(0), n = w.dims.at(1), taps = w.dims.at(2) * w.dims.at(3);
  Tensor out({taps * n, c});
  for (int64_t i = 0; i < c; i++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t t = 0; t < taps; t++)
        at(out.data, (t * n + j) * c + i) = at(w.data, (i * n + j) * taps + t);
  return out;
}

// A convolution's weight [N, C, kh, kw], or [N, C taps], with the elements in the order y, x,
// channel in which a map's neighbours lie: [N, taps C].
Tensor channels_last(const Tensor& w, int64_t taps) {
  const int64_t n = w.dims.at(0), c = element_count(w.dims) / n / taps;
  Tensor out({n, taps * c});
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < c; j++)
      for (int64_t t = 0; t < taps; t++)
        at(out.data, (i * taps + t) * c + j) = at(w.data, (i * c + j) * taps + t);
  return out;
}

// Rows of 4 C elements from PyTorch's unfold order, channel, y, x, to x, y, channel.
void order_merging(Tensor& t) {
  const int64_t cols = t.dims.back(), c = cols / 4;
  std::vector<float> row(array_size(cols));
  for (int64_t first = 0; first < element_count(t.dims); first += cols) {
    for (int64_t i = 0; i < c; i++)
      for (int64_t y = 0; y < 2; y++)
        for (int64_t x = 0; x < 2; x++)
          at(row, (2 * x + y) * c + i) = at(t.data, first + 4 * i + 2 * y + x);
    std::ranges::copy(row, t.data.begin() + first);
  }
}

void flatten(Tensor& weight) {
  weight.dims = {weight.dims.at(0), element_count(weight.dims) / weight.dims[0]};
}

}  // namespace

std::map<std::string, Graph> detector_graphs(const DetectorConfig& config, const ShapeMap& shapes) {
  const DetectorInfo& info = config.info;
  const int channels = static_cast<int>(shapes.at("neck.fpn.0.weight").at(0));
  std::map<std::string, Graph> graphs;
  graphs["backbone"] = build_backbone(config.backbone, shapes);
  graphs["rpn"] = build_rpn(channels, shapes);
  for (int s = 0; s < info.stages; s++) {
    const std::string box = cat("box.", s), mask = cat("mask.", s);
    graphs[box] = build_box(box, channels, info.box_bins, shapes);
    graphs[mask] = build_mask(mask, channels, info.mask_bins, shapes);
  }
  return graphs;
}

void derive_detector(const DetectorConfig& config, bool unfold_order, const std::string& where,
                     Weights& weights) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) names.push_back(name);
  for (const std::string& name : names) {
    if (unfold_order && name.find(".downsample.") != name.npos) order_merging(weights.at(name));
    const Dims& dims = weights.at(name).dims;
    if (dims.size() == 4 && dims[2] == 3 && dims[3] == 3)
      weights[name] = channels_last(weights.at(name), 9);
    const bool flat = name.starts_with("neck.lateral.") || name.starts_with("rpn.cls.") ||
                      name.starts_with("rpn.reg.") || name.ends_with(".logits.weight");
    if (flat && name.ends_with(".weight")) flatten(weights.at(name));
    if (name.ends_with(".bn.weight"))
      fold_batch_norm(name.substr(0, name.size() - 10), where, weights);
  }
  const int bins = config.info.box_bins;
  for (int s = 0; s < config.info.stages; s++) {
    Tensor& first = weights.at(cat("box.", s, ".fcs.0.weight"));
    first = channels_last(first, int64_t{bins} * bins);
    const std::string up = cat("mask.", s, ".upsample");
    weights[up + ".weight"] = scattering(take(weights, up + ".weight"));
    weights[cat("mask.", s, ".upsampled.bias")] = take(weights, up + ".bias");
  }
}

}  // namespace vitrun
