// The networks of a detector as graphs that an engine runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/graph/detector_info.h"
#include "runtime/detect/networks.h"

namespace vitrun {

// Names the graphs as models/detect/detector_graphs.h does: "backbone", "rpn", "box.0", "mask.0".
class GraphNetworks : public DetectorNetworks {
 public:
  // Runs a graph on [n, H, W, C], or [1, 3, H, W] for an image, and returns the outputs named, each
  // [n, rows, cols].
  using Run = std::function<std::vector<Tensor>(const std::string& graph, const Tensor& input,
                                                const std::vector<std::string>& outputs)>;

  GraphNetworks(const DetectorInfo& info, Run run) : info_(info), run_(std::move(run)) {}

  BackboneOutputs backbone(const Tensor& image) override;
  Boxes boxes(int stage, const Tensor& rois) override;
  Tensor masks(int stage, const Tensor& rois) override;

 private:
  DetectorInfo info_;
  Run run_;
};

}  // namespace vitrun
