// The configuration of Mask R-CNN and Cascade Mask R-CNN on a Swin, as mmdetection defines them.
#pragma once

#include <string>
#include <vector>

#include "models/checkpoints/config.h"
#include "models/graph/detector_info.h"

namespace vitrun {

struct DetectorConfig {
  ModelConfig backbone;  // also name, classes, labels and normalisation of the whole detector
  DetectorInfo info;
};

// Whether a weight file, by its tensors' names, is a detector.
bool is_detector(const std::vector<std::string>& names);

// Reads a config.json (docs/detection.md) and completes it from the shapes of the weights under
// detector_names(). `json` is empty where there is none: everything then has mmdetection's default.
// Fails, naming `where` and the key or tensor, where the two contradict each other, and on
// detectors that are not run.
DetectorConfig detector_config(const std::string& json, const ShapeMap& shapes,
                               const std::string& where, const std::string& file);

}  // namespace vitrun
