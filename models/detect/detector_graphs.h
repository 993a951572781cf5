// The graphs of Mask R-CNN and Cascade Mask R-CNN, between which runtime/detect/ computes.
#pragma once

#include <map>
#include <string>

#include "models/detect/detector_config.h"

namespace vitrun {

// The graphs by their names in a .qbin; the heads of a cascade's stage s are "box.s" and "mask.s",
// those of Mask R-CNN "box.0" and "mask.0".
//   backbone   image -> "p2".."p6", the maps of the feature pyramid
//   rpn        one of these maps -> "scores" [H W, anchors], "deltas" [H W, 4 anchors]
//   box.s      a RoI of box_bins x box_bins -> "logits" [classes + 1], "deltas" [4] or [4 classes]
//   mask.s     a RoI of mask_bins x mask_bins -> "masks" [(2 mask_bins)^2, classes or 1]
// `shapes` are those of the weights under detector_names(), as derive_detector() leaves them.
std::map<std::string, Graph> detector_graphs(const DetectorConfig& config, const ShapeMap& shapes);

// Turns a checkpoint's weights into the graphs' parameters: batch norms go into their convolutions,
// transposed convolutions become Linears, elements of patch mergings are put in order if they have
// PyTorch's unfold order. Fails, naming `where` and the tensor, on shapes that do not fit.
void derive_detector(const DetectorConfig& config, bool unfold_order, const std::string& where,
                     Weights& weights);

}  // namespace vitrun
