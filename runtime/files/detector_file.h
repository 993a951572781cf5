// Loads a float detector: its weights and the configuration beside them.
#pragma once

#include <map>
#include <string>

#include "models/detect/detector_config.h"
#include "runtime/files/model_file.h"

namespace vitrun {

struct FloatDetector {
  ModelInfo info;  // "mask_rcnn" or "cascade_mask_rcnn"; its classes and labels, without background
  DetectorInfo detector;
  std::map<std::string, FloatModel> parts;  // by graph: detector_graphs.h
};

// Whether a path leads to the weights of a detector. Fails if it leads to no weights.
bool is_float_detector(const std::string& path);

// Loads a .safetensors, shards or a folder with the names of detector_names.h. The configuration is
// found as load_float_model() finds it; of the options only `config` may be set. A failure names
// the file, the tensor or key, what was expected and what was found.
FloatDetector load_float_detector(const std::string& path, const WeightOptions& options = {});

}  // namespace vitrun
