#include "models/text/tokenizer_files.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "models/base/error.h"
#include "models/checkpoints/json_object.h"
#include "models/text/unicode.h"

namespace vitrun {
namespace {

using nlohmann::json;

constexpr int kDepth = 8;
constexpr const char *kStart = "<|startoftext|>", *kEnd = "<|endoftext|>", *kWordEnd = "</w>";
constexpr int64_t kMaxToken = 1 << 22;

// --- the vocabulary's tokens and merges -------------------------------------------------------

// The tokens of a file by their text.
class Tokens {
 public:
  Tokens(const json& vocab, std::string where) : where_(std::move(where)) {
    if (!vocab.is_object() || vocab.empty()) fail(where_, ": the vocabulary is no JSON object");
    for (const auto& [text, token] : vocab.items()) add(text, token);
  }

  void add(const std::string& text, const json& token) {
    if (!token.is_number_integer() || token < 0 || token > kMaxToken)
      fail(where_, ": token '", text, "' has the number ", token.dump().substr(0, 40),
           ", expected 0 to ", kMaxToken);
    tokens_[text] = token.get<int32_t>();
  }

  int32_t at(const std::string& text) const {
    const auto found = tokens_.find(text);
    if (found == tokens_.end()) fail(where_, ": the vocabulary has no token '", text, "'");
    return found->second;
  }

  // The tokens of all bytes; `unknown` for one that the vocabulary lacks.
  std::vector<int32_t> bytes(int32_t unknown) const {
    std::vector<int32_t> out;
    for (const char* end : {"", kWordEnd})
      for (int b = 0; b < 256; b++) {
        const auto found = tokens_.find(byte_character(b) + end);
        out.push_back(found == tokens_.end() ? unknown : found->second);
      }
    return out;
  }

  Vocabulary::Merge merge(const std::string& first, const std::string& second) const {
    return {at(first), at(second), at(first + second)};
  }

 private:
  std::string where_;
  std::unordered_map<std::string, int32_t> tokens_;
};

// A merge as text, "th e</w>".
Vocabulary::Merge merge_of(const Tokens& tokens, const std::string& line,
                           const std::string& where) {
  const size_t space = line.find(' ');
  if (space == line.npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != line.npos)
    fail(where, ": a merge is '", line.substr(0, 80), "', expected two tokens");
  return tokens.merge(line.substr(0, space), line.substr(space + 1));
}

// --- tokenizer.json ---------------------------------------------------------------------------

// Fails unless a part of the pipeline is CLIP's: it must hold all keys of `expected`, with their
// values.
void expect(const Object& root, const char* part, const json& expected) {
  if (!root.has(part)) root.bad(part, "CLIP's");
  const json& found = root.at(part);
  const auto covers = [](const auto& self, const json& all, const json& some) -> bool {
    if (some.is_array()) {
      if (!all.is_array() || all.size() != some.size()) return false;
      for (size_t i = 0; i < some.size(); i++)
        if (!self(self, all[i], some[i])) return false;
      return true;
    }
    if (!some.is_object()) return all == some;
    for (const auto& [key, value] : some.items())
      if (!all.is_object() || !all.contains(key) || !self(self, all[key], value)) return false;
    return true;
  };
  if (!covers(covers, found, expected))
    fail(root.path(), ": '", part, "' is ", found.dump(-1, ' ', false).substr(0, 200),
         ", which is not CLIP's; only tokenizers of CLIP are run");
}

void check_pipeline(const Object& root) {
  expect(root, "normalizer",
         {{"type", "Sequence"},
          {"normalizers",
           {{{"type", "NFC"}},
            {{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
            {{"type", "Lowercase"}}}}});
  const std::string words = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  const auto split = [](const std::string& pattern) {
    return json{{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Split"},
                   {"pattern", {{"Regex", pattern}}},
                   {"behavior", "Removed"},
                   {"invert", true}},
                  {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
  };
  // transformers' own pattern names the special tokens first; earlier files do not.
  const std::string specials = R"(<\|startoftext\|>|<\|endoftext\|>|)";
  const json& parts = root.object("pre_tokenizer").json_value();
  const bool named = parts.dump().find("startoftext") != std::string::npos;
  expect(root, "pre_tokenizer", split(named ? specials + words : words));
  expect(root, "post_processor", {{"type", "RobertaProcessing"}});
}

void check_model(const Object& model) {
  require(model, "type", "BPE", "\"BPE\"");
  require(model, "dropout", 0, "null");
  require(model, "continuing_subword_prefix", "", "\"\"");
  require(model, "end_of_word_suffix", kWordEnd, "\"</w>\"");
  require(model, "fuse_unk", false, "false");
  require(model, "byte_fallback", false, "false");
  require(model, "ignore_merges", false, "false");
  if (!model.has("end_of_word_suffix")) model.bad("end_of_word_suffix", "\"</w>\"");
  if (!model.has("unk_token")) model.bad("unk_token", "a token");
}

std::vector<Vocabulary::Merge> read_merges(const json& merges, const Tokens& tokens,
                                           const std::string& where) {
  if (!merges.is_array()) fail(where, ": 'merges' is no list");
  std::vector<Vocabulary::Merge> out;
  for (const json& m : merges) {
    const bool pair = m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string();
    if (!pair && !m.is_string()) fail(where, ": a merge is ", m.dump().substr(0, 80));
    out.push_back(pair ? tokens.merge(m[0].get<std::string>(), m[1].get<std::string>())
                       : merge_of(tokens, m.get<std::string>(), where));
  }
  return out;
}

// Adds the tokens that are found in texts as they are.
void read_added(const Object& root, Tokens& tokens, Vocabulary& out) {
  if (!root.has("added_tokens")) return;
  if (!root.at("added_tokens").is_array()) root.bad("added_tokens", "a list");
  for (const json& entry : root.at("added_tokens")) {
    const Object token(entry, root.path() + ": added_tokens");
    for (const char* flag : {"single_word", "lstrip", "rstrip"})
      require(token, flag, false, "false");
    const std::string text = token.text("content");
    const bool normalized = token.flag_or("normalized", false);
    tokens.add(text, token.at("id"));
    out.added.push_back({normalized ? normalize_text(text) : text, tokens.at(text), normalized});
  }
}

// The special token that the post-processor puts at an end: ["<|endoftext|>", 49407].
int32_t special_token(const Object& post, const char* key, const Tokens& tokens) {
  const json& value = post.at(key);
  if (!value.is_array() || value.size() != 2 || !value[0].is_string())
    post.bad(key, "a token and its number");
  const int32_t token = tokens.at(value[0].get<std::string>());
  if (value[1] != token) post.bad(key, "the number that the vocabulary gives it");
  return token;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError(cat(path.string(), ": cannot open"));
  std::error_code error;
  if (const auto size = std::filesystem::file_size(path, error); error || size > kMaxJsonBytes)
    fail(path.string(), ": is no file, or of too many bytes for a tokenizer");
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Vocabulary vocabulary_from_json(const std::string& text, const std::string& where) {
  const json parsed = parse_json(text, where, kDepth);
  const Object root(parsed, where);
  if (!root.has("model")) root.bad("model", "a vocabulary and its merges");
  const Object model = root.object("model");
  check_model(model);
  check_pipeline(root);
  Tokens tokens(model.at("vocab"), model.path());
  Vocabulary out;
  read_added(root, tokens, out);
  out.bytes = tokens.bytes(tokens.at(model.text("unk_token")));
  out.merges = read_merges(model.at("merges"), tokens, model.path());
  const Object post = root.object("post_processor");
  out.start = special_token(post, "cls", tokens);
  out.end = special_token(post, "sep", tokens);
  out.validate(kMaxToken + 1, where);
  return out;
}

Vocabulary vocabulary_from_merges(const std::string& vocab, const std::string& vocab_where,
                                  const std::string& merges, const std::string& merges_where) {
  const Tokens tokens(parse_json(vocab, vocab_where, 1), vocab_where);
  Vocabulary out;
  out.start = tokens.at(kStart);
  out.end = tokens.at(kEnd);
  out.added = {{kStart, out.start, false}, {kEnd, out.end, false}};
  out.bytes = tokens.bytes(out.end);
  std::istringstream lines(merges);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.starts_with("#version") && !line.empty())
      out.merges.push_back(merge_of(tokens, line, merges_where));
  }
  out.validate(kMaxToken + 1, vocab_where);
  return out;
}

std::optional<Vocabulary> find_vocabulary(const std::filesystem::path& folder) {
  const auto there = [&](const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(folder / name, ignored);
  };
  const std::string json = (folder / "tokenizer.json").string(),
                    vocab = (folder / "vocab.json").string(),
                    merges = (folder / "merges.txt").string();
  if (there("tokenizer.json")) return vocabulary_from_json(read_text(json), json);
  if (!there("vocab.json") || !there("merges.txt")) return {};
  return vocabulary_from_merges(read_text(vocab), vocab, read_text(merges), merges);
}

}  // namespace vitrun
