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

BackboneOutputs GraphNetworks::backbone(const Tensor& image) {
  const int levels = count_of(info_.strides);
  std::vector<std::string> names;
  for (int i = 0; i < levels; i++) names.push_back(cat("p", i + 2));
  std::vector<Tensor> maps = run_("backbone", image, names);
  BackboneOutputs out;
  int64_t height = image.dims.at(2), width = image.dims.at(3);
  for (int i = 0; i < levels; i++) {
    const int64_t parts = i == 0 ? info_.strides[0] : 2;
    height = (height + parts - 1) / parts;
    width = (width + parts - 1) / parts;
    Tensor& map = at(maps, i);
    const int64_t channels = map.dims.at(2);
    if (map.dims != Dims{1, height * width, channels})
      fail("detector: map ", i, " is ", to_string(map.dims), ", expected ", height, " x ", width,
           " positions");
    map.dims = {1, height, width, channels};
    std::vector<Tensor> found = run_("rpn", map, {"scores", "deltas"});
    out.scores.push_back(single(std::move(found.at(0))));
    out.deltas.push_back(single(std::move(found.at(1))));
    map.dims = {height * width, channels};
    if (i < levels - 1)  // RoIs read no map of the last level
      out.maps.push_back({static_cast<int>(height), static_cast<int>(width), std::move(map)});
  }
  return out;
}

DetectorNetworks::Boxes GraphNetworks::boxes(int stage, const Tensor& rois) {
  std::vector<Tensor> found =
      run_(cat("box.", stage), as_maps(rois, info_.box_bins), {"logits", "deltas"});
  return {rows_of(std::move(found.at(0))), rows_of(std::move(found.at(1)))};
}

Tensor GraphNetworks::masks(int stage, const Tensor& rois) {
  std::vector<Tensor> found = run_(cat("mask.", stage), as_maps(rois, info_.mask_bins), {"masks"});
  Tensor masks = std::move(found.at(0));
  return masks;
}

}  // namespace vitrun
