// The text tower in a .qbin, beside the graph "text" and its tensors:
//   text.tokens         kI8 [tokens, width], the embeddings of tokens in steps of
//   text.tokens_scale   kF32 [tokens]
//   text.positions      kF16 or kF32 [most tokens of a text, width]
//   text.bytes          kI32 [512], text.merges kI32 [merges, 3]: Vocabulary of tokenizer.h
// and the keys text.start, text.end, text.logit_scale, text.added, text.added_tokens and
// text.added_normalized. The input of the graph is a map [tokens of the text, 1, width].
#pragma once

#include <optional>

#include "runtime/files/text_tower.h"
#include "runtime/integer/qmodel.h"
#include "runtime/text/text_input.h"

namespace vitrun {

constexpr const char* kTextGraph = "text";

// Adds all but the graph and its parameters.
void put_text(QbinWriter& out, const TextTower& tower);

struct StoredText {
  TextInput input;  // which reads the file that the model holds
  float logit_scale;
};

// Reads what put_text() wrote; nothing if the model has no graph "text". Fails, naming the file, on
// parts that do not fit together. The model must outlive it.
std::optional<StoredText> read_text(const QuantModel& model);

}  // namespace vitrun
