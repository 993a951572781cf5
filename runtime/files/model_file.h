// Loads a float model: its weights and the configuration beside them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/checkpoints/config.h"
#include "models/graph/graph.h"
#include "models/graph/model_info.h"
#include "runtime/files/text_tower.h"

namespace vitrun {

struct FloatModel {
  ModelInfo info;
  Graph graph;
  Weights weights;                   // exactly the graph's parameters, finite, of the right shape
  std::vector<std::string> guesses;  // what nobody stated, as "heads 3 (embed_dim / 64)"
  std::optional<TextTower> text;     // where WeightOptions ask for it and the file has one
  std::string no_text;               // why the file's text tower is not loaded; empty: it has none
};

// A user's statements about weights, beside their path.
struct WeightOptions {
  std::string arch;    // timm's name of the architecture
  std::string config;  // a config.json elsewhere
  int heads = 0;       // attention heads of a ViT
  Pool pool = Pool::kOpen;
  int image_height = 0, image_width = 0;  // of the model's images; 0: those of the configuration
  bool text = false;                      // load the text tower too
};

// Loads a .safetensors, shards by their index, or a folder (runtime/files/weight_files.h) with
// timm's or transformers' names. The configuration is the first that there is of
//   `options.arch`, if it is not empty,
//   `options.config`, likewise,
//   NAME.json beside NAME.safetensors,
//   config.json in the same folder, or in that of the file to which a link leads, or in the
//   snapshot to which a blob of Hugging Face's cache belongs, the shapes of the weights.
// A config.json counts with transformers' preprocessor_config.json beside it. A failure names the
// file, the tensor or key, what was expected and what was found.
FloatModel load_float_model(const std::string& path, const WeightOptions& options = {});

// The configuration that belongs to a weight file.
struct ConfigText {
  std::string path, text;  // both empty if there is none
};
ConfigText config_beside(const std::string& weights, const WeightOptions& options);

}  // namespace vitrun
