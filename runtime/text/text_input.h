// Makes of a text what a text tower takes: its tokens' embeddings with their positions added.
#pragma once

#include <functional>
#include <memory>

#include "models/base/tensor.h"
#include "models/text/tokenizer.h"

namespace vitrun {

// Immutable; many threads may use it.
class TextInput {
 public:
  // Writes the embedding of a token, `width` floats.
  using Row = std::function<void(int32_t token, float* out)>;

  // `positions` [most tokens, width]; `vocabulary` holds only tokens that `row` has.
  TextInput(Vocabulary vocabulary, Tensor positions, Row row);

  // The text up to its end token, [1, tokens, 1, width]: a map of `tokens` rows.
  Tensor embed(std::string_view text) const;

  // Likewise of tokens, at most most_tokens().
  Tensor embed_tokens(const std::vector<int32_t>& tokens) const;

  const Tokenizer& tokenizer() const { return tokenizer_; }
  int most_tokens() const { return static_cast<int>(positions_.dims[0]); }

 private:
  Tokenizer tokenizer_;
  Tensor positions_;
  Row row_;
};

// Vectors of texts, one after another, [texts, D].
using TextEmbedder = std::function<Tensor(const std::vector<std::string>& texts)>;

}  // namespace vitrun
