// Runs the text tower of a float model.
#pragma once

#include "runtime/files/text_tower.h"
#include "runtime/float/reference.h"
#include "runtime/text/text_input.h"

namespace vitrun {

// The tower must outlive it.
class TextEncoder {
 public:
  TextEncoder(const TextTower& tower, int threads);

  // The embeddings of texts, [texts, D].
  Tensor embed(const std::vector<std::string>& texts);

 private:
  TextInput input_;
  Reference engine_;
};

TextInput text_input(const TextTower& tower);

}  // namespace vitrun
