#include "models/text/tokenizer.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/text/unicode.h"

namespace vitrun {
namespace {

constexpr int kBytes = 256;
constexpr size_t kMaxAdded = 10000, kMaxAddedBytes = 256;

uint64_t pair_key(int32_t first, int32_t second) {
  return uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
}

struct Part {
  std::string_view text;
  const Vocabulary::Added* added;  // null: text between added tokens
};

// Cuts a text at its added tokens: the leftmost, and of those the longest.
std::vector<Part> split_added(std::string_view text, const std::vector<Vocabulary::Added>& added,
                              bool normalized) {
  std::vector<Part> parts;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const Vocabulary::Added* best = nullptr;
    for (const Vocabulary::Added& a : added)
      if (a.normalized == normalized && text.substr(i).starts_with(a.text) &&
          (!best || a.text.size() > best->text.size()))
        best = &a;
    if (!best) {
      i++;
      continue;
    }
    if (i > begin) parts.push_back({text.substr(begin, i - begin), nullptr});
    parts.push_back({best->text, best});
    begin = i += best->text.size();
  }
  if (begin < text.size()) parts.push_back({text.substr(begin), nullptr});
  return parts;
}

// Returns the bytes of one of the words that CLIP's pattern names in front of a text; 0 if there is
// none.
size_t named_word(std::string_view text) {
  for (std::string_view word : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.starts_with(word)) return word.size();
  return 0;
}

// A special token that is in the text by other means than as itself is three words.
std::vector<std::string_view> special_words(std::string_view text) {
  for (std::string_view name : {"startoftext", "endoftext"})
    if (text.starts_with("<|") && text.substr(2).starts_with(name) &&
        text.substr(2 + name.size()).starts_with("|>"))
      return {"<|", name, "|>"};
  return {};
}

// Returns the bytes of the word in front of a text that does not begin with a space: letters, one
// number, or neither.
size_t word_size(std::string_view text) {
  if (const size_t named = named_word(text)) return named;
  size_t size = 0;
  const CharClass kind = first_class(text, size);
  if (kind == CharClass::kNumber) return size;
  for (size_t next = 0; size < text.size(); size += next)
    if (first_class(text.substr(size), next) != kind) break;
  return size;
}

}  // namespace

void Vocabulary::validate(int64_t count, const std::string& where) const {
  const auto check = [&](const char* what, int64_t token) {
    if (token < 0 || token >= count)
      fail(where, ": ", what, " is token ", token, ", the model has ", count);
  };
  if (bytes.size() != 2 * kBytes)
    fail(where, ": ", bytes.size(), " tokens of bytes, expected ", 2 * kBytes);
  for (int32_t token : bytes) check("a byte", token);
  for (const Merge& m : merges)
    for (int32_t token : {m.first, m.second, m.merged}) check("part of a merge", token);
  check("the start token", start);
  check("the end token", end);
  if (added.size() > kMaxAdded)
    fail(where, ": ", added.size(), " added tokens are too many, at most ", kMaxAdded);
  for (const Added& a : added) {
    check("an added token", a.token);
    if (a.text.empty() || a.text.size() > kMaxAddedBytes || !is_utf8(a.text))
      fail(where, ": added token ", a.token, " is no UTF-8 text of 1 to ", kMaxAddedBytes,
           " bytes");
  }
}

Tokenizer::Tokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  for (int32_t rank = 0; rank < count_of(vocabulary_.merges); rank++) {
    const Vocabulary::Merge& m = at(vocabulary_.merges, rank);
    merges_[pair_key(m.first, m.second)] = {rank, m.merged};
  }
}

const Tokenizer::Merged* Tokenizer::find(int32_t first, int32_t second) const {
  const auto found = merges_.find(pair_key(first, second));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<int32_t> Tokenizer::merge(std::vector<int32_t> tokens) const {
  constexpr int32_t kGone = -1;
  const int count = count_of(tokens);
  std::vector<int> next(tokens.size()), previous(tokens.size());
  // rank, place and tokens of a pair that may be merged; those of a pair that is no longer there
  // are passed over
  using Pair = std::tuple<int32_t, int, int32_t, int32_t>;
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs;
  const auto add = [&](int i) {
    if (i < 0 || at(next, i) >= count) return;
    const int32_t first = at(tokens, i), second = at(tokens, at(next, i));
    if (const Merged* merged = find(first, second)) pairs.push({merged->rank, i, first, second});
  };
  for (int i = 0; i < count; i++) at(next, i) = i + 1, at(previous, i) = i - 1;
  for (int i = 0; i < count; i++) add(i);
  while (!pairs.empty()) {
    const auto [rank, i, first, second] = pairs.top();
    pairs.pop();
    const int j = at(next, i);
    if (at(tokens, i) != first || j >= count || at(tokens, j) != second) continue;
    at(tokens, i) = find(first, second)->token;
    at(tokens, j) = kGone;
    at(next, i) = at(next, j);
    if (at(next, i) < count) at(previous, at(next, i)) = i;
    add(at(previous, i));
    add(i);
  }
  std::erase(tokens, kGone);
  return tokens;
}

void Tokenizer::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < word.size(); i++) {
    const int byte = static_cast<unsigned char>(word[i]);
    tokens.push_back(at(vocabulary_.bytes, i + 1 < word.size() ? byte : kBytes + byte));
  }
  tokens = merge(std::move(tokens));
  out.insert(out.end(), tokens.begin(), tokens.end());
}

void Tokenizer::encode_words(std::string_view text, std::vector<int32_t>& out) const {
  while (!text.empty()) {
    size_t size = 0;
    if (const auto words = special_words(text); !words.empty()) {
      for (std::string_view word : words) {
        encode_word(word, out);
        size += word.size();
      }
    } else if (first_class(text, size) != CharClass::kSpace) {
      size = word_size(text);
      encode_word(text.substr(0, size), out);
    }
    text.remove_prefix(size);
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, int limit) const {
  if (!is_utf8(text)) fail("the text is not UTF-8");
  std::vector<int32_t> tokens = {vocabulary_.start};
  for (const Part& part : split_added(text, vocabulary_.added, false)) {
    if (part.added) {
      tokens.push_back(part.added->token);
      continue;
    }
    const std::string normalized = normalize_text(part.text);
    for (const Part& inner : split_added(normalized, vocabulary_.added, true))
      if (inner.added)
        tokens.push_back(inner.added->token);
      else
        encode_words(inner.text, tokens);
  }
  if (count_of(tokens) > limit - 1) tokens.resize(static_cast<size_t>(limit - 1));
  tokens.push_back(vocabulary_.end);
  return tokens;
}

}  // namespace vitrun
