// The networks of a detector as graphs that an engine runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/graph/detector_info.h"
#include "models/graph/shapes.h"
#include "runtime/detect/networks.h"

namespace vitrun {

// The maps of the feature pyramid, "p2" .. "p6", and their sizes for an input of that size.
std::vector<std::string> map_names(const DetectorInfo& info);
std::vector<MapSize> map_sizes(MapSize input, const DetectorInfo& info);

// Names the graphs as models/detect/detector_graphs.h does: "backbone", "rpn", "box.0", "mask.0".
class GraphNetworks : public DetectorNetworks {
 public:
  // Runs a graph on [n, H, W, C], or [1, 3, H, W] for an image, and returns the outputs named, each
  // [n, rows, cols], or [n, cols] of one row.
  using Run = std::function<std::vector<Tensor>(const std::string& graph, const Tensor& input,
                                                const std::vector<std::string>& outputs)>;

  GraphNetworks(const DetectorInfo& info, Run run) : info_(info), run_(std::move(run)) {}

  BackboneOutputs backbone(const Tensor& image) override;
  Boxes boxes(int stage, const Tensor& rois) override;
  Tensor masks(int stage, const Tensor& rois) override;

 private:
  std::vector<Tensor> run(const std::string& graph, const Tensor& input,
                          const std::vector<std::string>& outputs);

  DetectorInfo info_;
  Run run_;
};

}  // namespace vitrun
