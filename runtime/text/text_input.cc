#include "runtime/text/text_input.h"

#include <algorithm>

#include "models/base/index.h"

namespace vitrun {

TextInput::TextInput(Vocabulary vocabulary, Tensor positions, Row row)
    : tokenizer_(std::move(vocabulary)), positions_(std::move(positions)), row_(std::move(row)) {}

Tensor TextInput::embed(std::string_view text) const {
  std::vector<int32_t> tokens = tokenizer_.encode(text, most_tokens());
  // Attention is causal, so that nothing behind the first end token reaches it.
  const auto end = std::ranges::find(tokens, tokenizer_.vocabulary().end);
  tokens.erase(end + 1, tokens.end());
  return embed_tokens(tokens);
}

Tensor TextInput::embed_tokens(const std::vector<int32_t>& tokens) const {
  const int64_t width = positions_.dims[1], count = count_of(tokens);
  Tensor out({1, count, 1, width});
  for (int64_t i = 0; i < count; i++) {
    float* row = out.data.data() + i * width;
    row_(at(tokens, i), row);
    for (int64_t c = 0; c < width; c++) row[c] += at(positions_.data, i * width + c);
  }
  return out;
}

}  // namespace vitrun
