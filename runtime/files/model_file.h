// Loads a float model: a .safetensors and the configuration beside it.
#pragma once

#include <string>

#include "models/graph/graph.h"
#include "models/graph/model_info.h"

namespace vitrun {

struct FloatModel {
  ModelInfo info;
  Graph graph;
  Weights weights;  // exactly the graph's parameters, finite, of the right shape
};

// Loads a .safetensors with timm's or transformers' names. The configuration is the first that
// there is of
//   `arch`, if it is not empty,
//   NAME.json beside NAME.safetensors,
//   config.json in the same folder, with transformers' preprocessor_config.json if there is one,
//   the shapes of the weights.
// A failure names the file, the tensor or key, what was expected and what was found.
FloatModel load_float_model(const std::string& safetensors_path, const std::string& arch);

}  // namespace vitrun
