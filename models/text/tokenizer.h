// CLIP's tokenizer: byte-level pairs, as transformers' CLIPTokenizer has them (method.md section
// 20). Plain data, which a tokenizer.json or a .qbin gives, and the function on it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vitrun {

// Tokens are numbers from 0 on. A text is cut into words, a word into its bytes, and neighbours are
// merged, the pair of least rank first and leftmost.
struct Vocabulary {
  struct Merge {
    int32_t first, second, merged;
  };
  // A token that is found in the text as it is, before all else, or in the normalised text.
  struct Added {
    std::string text;
    int32_t token;
    bool normalized;
  };
  std::vector<int32_t> bytes;  // [512]: the token of each byte, then of each that ends a word
  std::vector<Merge> merges;   // by rank
  std::vector<Added> added;
  int32_t start = 0, end = 0;

  // Fails, naming `where`, unless every token is one of `count`, and all else can be used.
  void validate(int64_t count, const std::string& where) const;
};

class Tokenizer {
 public:
  // `vocabulary` as validate() accepts it.
  explicit Tokenizer(Vocabulary vocabulary);

  // Returns the start token, the text's tokens and the end token, of which there are at most
  // `limit`, two or more: what is beyond is cut off before the end token. Fails if the text is not
  // UTF-8.
  std::vector<int32_t> encode(std::string_view text, int limit) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merged {
    int32_t rank, token;
  };
  std::vector<int32_t> merge(std::vector<int32_t> tokens) const;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;
  void encode_words(std::string_view text, std::vector<int32_t>& out) const;
  const Merged* find(int32_t first, int32_t second) const;

  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merged> merges_;
};

}  // namespace vitrun
