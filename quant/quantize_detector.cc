#include "quant/quantize_detector.h"

#include <algorithm>
#include <set>

#include "models/base/error.h"
#include "models/graph/quantizers.h"
#include "runtime/detect/box_stages.h"
#include "runtime/detect/detector_input.h"
#include "runtime/detect/detector_section.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/detect/proposals.h"
#include "runtime/detect/roi_align.h"

namespace vitrun {
namespace {

constexpr int kTile = 8;         // positions a side of a map
constexpr size_t kBoxRois = 16;  // of a photograph
constexpr size_t kMaskRois = 8;
constexpr double kBackbonePart = 0.6;  // of the work

// The middle of a photograph as the detector gets it, [1, 3, side, side]; zeros where it is
// smaller.
Tensor crop_of(const Image& photo, const DetectorInfo& info, const PreprocessConfig& preprocess,
               int side) {
  const DetectorInput input = detector_input(view_of(photo), info, preprocess);
  const int64_t rows = input.image.dims[2], cols = input.image.dims[3];
  const int left = std::max(0, (input.width - side) / 2),
            top = std::max(0, (input.height - side) / 2);
  Tensor crop({1, 3, side, side});
  for (int c = 0; c < 3; c++)
    for (int y = 0; y < std::min(side, input.height - top); y++)
      std::copy_n(input.image.data.begin() + (c * rows + top + y) * cols + left,
                  std::min(side, input.width - left),
                  crop.data.begin() + (int64_t{c} * side + y) * side);
  return crop;
}

ImageSource crops_of(const PhotoSource& photos, const FloatDetector& model, int side) {
  return {photos.count, [&photos, info = model.detector, preprocess = model.info.preprocess, side](
                            int64_t first, int64_t n) {
            Tensor all({n, 3, side, side});
            for (int64_t i = 0; i < n; i++) {
              const Tensor crop = crop_of(photos.load(first + i), info, preprocess, side);
              std::ranges::copy(crop.data, all.data.begin() + i * element_count(crop.dims));
            }
            return all;
          }};
}

void append(Tensor& all, const Tensor& more) {
  if (all.data.empty()) {
    all = more;
    return;
  }
  all.data.insert(all.data.end(), more.data.begin(), more.data.end());
  all.dims[0] += more.dims[0];
}

// The middle of a map, [1, kTile, kTile, C]; zeros where the map is smaller.
Tensor tile_of(const Tensor& map) {
  const int64_t height = map.dims[1], width = map.dims[2], c = map.dims[3];
  const int64_t rows = std::min<int64_t>(height, kTile), cols = std::min<int64_t>(width, kTile);
  const int64_t top = (height - rows) / 2, left = (width - cols) / 2;
  Tensor out({1, kTile, kTile, c});
  for (int64_t y = 0; y < rows; y++)
    std::copy_n(map.data.begin() + ((top + y) * width + left) * c, cols * c,
                out.data.begin() + y * kTile * c);
  return out;
}

// Collects what the graphs behind the backbone read, photograph by photograph.
class PartInputs {
 public:
  PartInputs(const FloatDetector& model, int threads)
      : model_(model),
        networks_(model.detector, [this](const auto& graph, const auto& input, const auto& names) {
          return run(graph, input, names);
        }) {
    for (const auto& [name, part] : model.parts)
      engines_.try_emplace(name, part.graph, part.weights, threads);
  }

  void add(const Tensor& crop) {
    const BackboneOutputs out = networks_.backbone(crop);
    const int width = static_cast<int>(crop.dims[3]), height = static_cast<int>(crop.dims[2]);
    std::vector<Box> proposals = boxes_of(propose(out, model_.detector, width, height));
    if (proposals.empty())
      proposals.push_back({0, 0, static_cast<float>(width), static_cast<float>(height)});
    const RoiSource source = {out.maps, width, height, nullptr};
    const std::vector<Box> found =
        boxes_of(find_boxes(source, proposals, model_.detector, networks_).found);
    add_rois(out, mixed(found, proposals, kBoxRois), model_.detector.box_bins, boxes);
    add_rois(out, mixed(found, proposals, kMaskRois), model_.detector.mask_bins, masks);
  }

  Tensor tiles;         // [n, tile, tile, C]
  Tensor boxes, masks;  // RoIs [n, bins, bins, C]

 private:
  std::vector<Tensor> run(const std::string& graph, const Tensor& input,
                          const std::vector<std::string>& names) {
    if (graph == "rpn") append(tiles, tile_of(input));
    return engines_.at(graph).run_outputs(input, names);
  }

  // Found objects, at most half of them, and proposals, the best and some others.
  static std::vector<Box> mixed(const std::vector<Box>& found, const std::vector<Box>& proposals,
                                size_t count) {
    std::vector<Box> out = found;
    out.resize(std::min(found.size(), count / 2));
    const size_t more = std::min(count - out.size(), proposals.size());
    for (size_t i = 0; i < more; i++)
      out.push_back(
          proposals[i < more / 2 ? i : i * (proposals.size() - 1) / std::max<size_t>(more - 1, 1)]);
    return out;
  }

  void add_rois(const BackboneOutputs& out, const std::vector<Box>& places, int bins, Tensor& all) {
    Tensor rois = roi_align(out.maps, model_.detector.strides, places, bins);
    rois.dims = {rois.dims[0], bins, bins, rois.dims[2]};
    append(all, rois);
  }

  const FloatDetector& model_;
  std::map<std::string, Reference> engines_;
  GraphNetworks networks_;
};

// Makes a size the default one of a graph's input.
void set_default_size(Graph& graph, int64_t height, int64_t width) {
  Node& input = graph[graph.find(NodeKind::kInput)];
  input.attributes[Attribute::kHeight] = static_cast<double>(height);
  input.attributes[Attribute::kWidth] = static_cast<double>(width);
}

// The options of one graph: `bits` name its units alone, and all its outputs count.
QuantizeOptions options_of(const Graph& graph, const QuantizeOptions& all) {
  QuantizeOptions options = all;
  for (const Output& o : graph.outputs)
    if (o.name != "p6") options.outputs.push_back(o.name);  // a part of p5
  options.bits.clear();
  for (const std::string& unit : unit_names(graph))
    if (const auto bits = all.bits.find(unit); bits != all.bits.end()) options.bits.insert(*bits);
  return options;
}

// Fails on bits for a unit that no graph has.
void check_units(const FloatDetector& model, const BitPlan& bits) {
  std::set<std::string> known;
  for (const auto& [name, part] : model.parts)
    for (const std::string& unit : unit_names(part.graph)) known.insert(unit);
  for (const auto& [unit, width] : bits)
    if (!known.contains(unit)) fail("bits for '", unit, "': the model has no such unit");
}

}  // namespace

QuantizedDetector quantize_detector(FloatDetector model, const PhotoSource& photos,
                                    const QuantizeOptions& options, const Progress& progress) {
  check_units(model, options.bits);
  const int side = model.info.image_height;  // of a crop, the size that the backbone's graph has
  const ImageSource crops = crops_of(photos, model, side);
  Tensor tiles, boxes, masks;
  {
    PartInputs inputs(model, options.threads);
    for (int64_t i = 0; i < crops.count; i++) inputs.add(crops.load(i, 1));
    tiles = std::move(inputs.tiles);
    boxes = std::move(inputs.boxes);
    masks = std::move(inputs.masks);
  }
  set_default_size(model.parts.at("rpn").graph, kTile, kTile);
  QuantizedDetector result;
  const double share = (1 - kBackbonePart) / static_cast<double>(model.parts.size() - 1);
  double done = kBackbonePart;
  const auto quantize = [&](const std::string& name, const ImageSource& source, double from,
                            double to) {
    FloatModel& graph = model.parts.at(name);
    const QuantizeOptions own = options_of(graph.graph, options);
    Quantized part = quantize_model(std::move(graph), source, own, [&](double d) {
      if (progress) progress(from + (to - from) * d);
    });
    result.units[name] = std::move(part.units);
    return std::move(part.file);
  };
  result.file = quantize("backbone", crops, 0, kBackbonePart);
  result.file.rename_graph("main", "backbone");
  for (const auto& [name, part] : model.parts) {
    if (name == "backbone") continue;
    const Tensor& input = name == "rpn" ? tiles : name.starts_with("box") ? boxes : masks;
    result.file.take_graph(quantize(name, tensor_source(input), done, done + share), "main", name);
    done += share;
  }
  for (auto& [key, value] : detector_metadata(model.detector, model.info.num_classes))
    result.file.set(key, std::move(value));
  return result;
}

}  // namespace vitrun
