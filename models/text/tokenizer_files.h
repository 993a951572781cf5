// Reads CLIP's tokenizer from the files beside a checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "models/text/tokenizer.h"

namespace vitrun {

// Returns the vocabulary of a tokenizer.json; fails, naming `where`, on one of another kind than
// CLIP's (another normalizer, other words, no byte-level pairs).
Vocabulary vocabulary_from_json(const std::string& text, const std::string& where);

// Returns that of a vocab.json and the text of its merges.txt, with CLIP's own start and end token.
Vocabulary vocabulary_from_merges(const std::string& vocab, const std::string& vocab_where,
                                  const std::string& merges, const std::string& merges_where);

// Reads tokenizer.json, or vocab.json and merges.txt, in a folder; nothing if they are not there.
std::optional<Vocabulary> find_vocabulary(const std::filesystem::path& folder);

}  // namespace vitrun
