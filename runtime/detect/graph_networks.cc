#include "runtime/detect/graph_networks.h"

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

// RoIs [n, bins^2, C] as maps [n, bins, bins, C].
Tensor as_maps(const Tensor& rois, int bins) {
  Tensor maps = rois;
  maps.dims = {rois.dims.at(0), bins, bins, rois.dims.at(2)};
  return maps;
}

// A value of one image, [1, rows, cols], as [rows, cols].
Tensor single(Tensor value) {
  value.dims.erase(value.dims.begin());
  return value;
}

// A value of one row an image, [n, 1, cols], as [n, cols].
Tensor rows_of(Tensor value) {
  if (value.dims.at(1) != 1) fail("detector: a box head gives ", value.dims[1], " rows a RoI");
  value.dims.erase(value.dims.begin() + 1);
  return value;
}

}  // namespace

std::vector<std::string> map_names(const DetectorInfo& info) {
  std::vector<std::string> names;
  for (int i = 0; i < count_of(info.strides); i++) names.push_back(cat("p", i + 2));
  return names;
}

std::vector<MapSize> map_sizes(MapSize input, const DetectorInfo& info) {
  std::vector<MapSize> sizes;
  for (int i = 0; i < count_of(info.strides); i++) {
    const int parts = i == 0 ? info.strides[0] : 2;
    input = {(input.height + parts - 1) / parts, (input.width + parts - 1) / parts};
    sizes.push_back(input);
  }
  return sizes;
}

std::vector<Tensor> GraphNetworks::run(const std::string& graph, const Tensor& input,
                                       const std::vector<std::string>& outputs) {
  std::vector<Tensor> values = run_(graph, input, outputs);
  for (Tensor& value : values)
    if (value.dims.size() == 2) value.dims = {value.dims[0], 1, value.dims[1]};
  return values;
}

BackboneOutputs GraphNetworks::backbone(const Tensor& image) {
  std::vector<Tensor> maps = run("backbone", image, map_names(info_));
  const std::vector<MapSize> sizes =
      map_sizes({static_cast<int>(image.dims.at(2)), static_cast<int>(image.dims.at(3))}, info_);
  BackboneOutputs out;
  for (int i = 0; i < count_of(sizes); i++) {
    const int64_t height = at(sizes, i).height, width = at(sizes, i).width;
    Tensor& map = at(maps, i);
    const int64_t channels = map.dims.at(2);
    if (map.dims != Dims{1, height * width, channels})
      fail("detector: map ", i, " is ", to_string(map.dims), ", expected ", height, " x ", width,
           " positions");
    map.dims = {1, height, width, channels};
    std::vector<Tensor> found = run("rpn", map, {"scores", "deltas"});
    out.scores.push_back(single(std::move(found.at(0))));
    out.deltas.push_back(single(std::move(found.at(1))));
    map.dims = {height * width, channels};
    if (i < count_of(sizes) - 1)  // RoIs read no map of the last level
      out.maps.push_back({at(sizes, i).height, at(sizes, i).width, std::move(map)});
  }
  return out;
}

DetectorNetworks::Boxes GraphNetworks::boxes(int stage, const Tensor& rois) {
  std::vector<Tensor> found =
      run(cat("box.", stage), as_maps(rois, info_.box_bins), {"logits", "deltas"});
  return {rows_of(std::move(found.at(0))), rows_of(std::move(found.at(1)))};
}

Tensor GraphNetworks::masks(int stage, const Tensor& rois) {
  std::vector<Tensor> found = run(cat("mask.", stage), as_maps(rois, info_.mask_bins), {"masks"});
  Tensor masks = std::move(found.at(0));
  return masks;
}

}  // namespace vitrun
