// The text tower of a float model: a graph of its own, the tokenizer, and the tables in front of
// the graph.
#pragma once

#include "models/graph/graph.h"
#include "models/text/tokenizer.h"

namespace vitrun {

struct TextTower {
  Graph graph;       // models/families/text_graph.h
  Weights weights;   // its parameters
  Tensor tokens;     // [tokens, width], the embedding of each
  Tensor positions;  // [most tokens of a text, width]
  Vocabulary vocabulary;
  float logit_scale = 100;  // logits are this times the cosine of a text's and an image's embedding
};

class WeightFiles;

// Loads the tower of a checkpoint that has one (has_text_tower()), with the tokenizer beside the
// configuration or the weights. `config` is the configuration's path, `text` what it holds. Fails,
// naming the file, on other towers than CLIP's.
TextTower load_text_tower(const WeightFiles& files, const std::string& config,
                          const std::string& text);

}  // namespace vitrun
