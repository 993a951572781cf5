// Runs the text tower of a .qbin in integers.
#pragma once

#include <optional>

#include "runtime/integer/engine.h"
#include "runtime/text/text_section.h"

namespace vitrun {

// One thread at a time may use it. The model must outlive it.
class IntegerTextEncoder {
 public:
  // Fails, with the reason, on a model without a text tower.
  IntegerTextEncoder(const QuantModel& model, const Kernels& kernels, int threads);

  // The embeddings of texts, [texts, D]. Fails if one is not UTF-8.
  Tensor embed(const std::vector<std::string>& texts);

  // D.
  int width() const { return width_; }
  // A logit is this times the cosine of a text's and an image's embedding.
  float logit_scale() const { return text_.logit_scale; }
  const Kernels& kernels() const { return engine_.kernels(); }
  // Bytes of the engine's buffers.
  int64_t buffer_bytes() const { return engine_.buffer_bytes(); }
  // Makes it usable in a child of fork(), as ThreadPool::revive() does.
  void revive() { engine_.revive(); }

 private:
  StoredText text_;
  Engine engine_;
  int width_;
};

}  // namespace vitrun
