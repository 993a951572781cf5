// Tokens against transformers' on 1,000 strings (tests/golden/make_clip_tokens.py), and tokenizer
// files that are refused.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "models/text/tokenizer_files.h"
#include "models/text/unicode.h"

#ifdef VITRUN_TEXT
using namespace vitrun;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(VITRUN_TEST_DIR) / "golden/clip";

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string golden_json() {
  return text_of(kGolden / "tokenizer.json");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t found = text.find(from);
  REQUIRE(found != text.npos);
  return text.replace(found, from.size(), to);
}

std::string refusal(const std::string& json) {
  try {
    vocabulary_from_json(json, "t.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

void check_golden(const Tokenizer& tokenizer) {
  const auto golden = read_json((kGolden / "tokens.json").string(), 4);
  CHECK(golden.size() == 1000);
  for (const auto& entry : golden) {
    const auto text = entry["text"].get<std::string>();
    INFO(text);
    CHECK(tokenizer.encode(text, 77) == entry["ids"].get<std::vector<int32_t>>());
  }
}

}  // namespace

TEST_CASE("Tokens equal transformers' on 1,000 strings") {
  check_golden(Tokenizer(*find_vocabulary(kGolden)));
}

TEST_CASE("vocab.json and merges.txt are the same tokenizer") {
  check_golden(Tokenizer(vocabulary_from_merges(text_of(kGolden / "vocab.json"), "v",
                                                text_of(kGolden / "merges.txt"), "m")));
}

TEST_CASE("A folder without a tokenizer has none") {
  CHECK_FALSE(find_vocabulary(kGolden / "..").has_value());
}

TEST_CASE("A merge as text is the pair") {
  nlohmann::json file = nlohmann::json::parse(golden_json());
  for (auto& m : file["model"]["merges"])
    m = m[0].get<std::string>() + " " + m[1].get<std::string>();
  check_golden(Tokenizer(vocabulary_from_json(file.dump(), "t.json")));
}

TEST_CASE("Long words take no long time, and the limit holds") {
  const Tokenizer tokenizer(*find_vocabulary(kGolden));
  CHECK(tokenizer.encode(std::string(1 << 20, 'a'), 77).size() == 77);
  CHECK(tokenizer.encode("a cat", 2).size() == 2);
}

TEST_CASE("A text that is not UTF-8 is refused") {
  const Tokenizer tokenizer(*find_vocabulary(kGolden));
  for (const char* text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"})
    CHECK_THROWS_WITH(tokenizer.encode(text, 77), "the text is not UTF-8");
}

TEST_CASE("Tokenizers of other kinds are refused with the reason") {
  const std::string json = golden_json();
  const auto with = [&](const std::string& from, const std::string& to) {
    return refusal(replaced(json, from, to));
  };
  CHECK(with("\"NFC\"", "\"NFKC\"").find("'normalizer' is") != std::string::npos);
  CHECK(with("'s|'t", "'t").find("'pre_tokenizer' is") != std::string::npos);
  CHECK(with("RobertaProcessing", "BertProcessing").find("'post_processor'") != std::string::npos);
  CHECK(with("\"BPE\"", "\"WordPiece\"") ==
        "t.json: model: 'type' is \"WordPiece\", expected \"BPE\"");
  CHECK(with("\"dropout\":null", "\"dropout\":0.1").find("'dropout'") != std::string::npos);
  CHECK(with("</w>\",\"fuse_unk\"", "\",\"fuse_unk\"").find("'end_of_word_suffix'") !=
        std::string::npos);
  CHECK(with("\"lstrip\":false", "\"lstrip\":true").find("'lstrip' is true") != std::string::npos);
}

TEST_CASE("Damaged tokenizers are refused") {
  const std::string json = golden_json();
  const auto with = [&](const std::string& from, const std::string& to) {
    return refusal(replaced(json, from, to));
  };
  CHECK(with("\"!\":0", "\"!\":-1") ==
        "t.json: model: token '!' has the number -1, expected 0 to 4194304");
  CHECK(with("\"!\":0", "\"!\":1e30").find("has the number 1e+30") != std::string::npos);
  CHECK(with("\"!\":0", "\"!\":9999999999").find("9999999999") != std::string::npos);
  CHECK(with("\"merges\":[[", "\"merges\":[[\"zz\",\"y\"],[") ==
        "t.json: model: the vocabulary has no token 'zz'");
  CHECK(with("\"merges\":[[", "\"merges\":[3,[").find("a merge is 3") != std::string::npos);
  CHECK(with("\"content\":\"<|", "\"content\":\"\",\"x\":\"<|").find("no UTF-8 text of 1") !=
        std::string::npos);
  CHECK(refusal("{}") == "t.json: no 'model'");
  CHECK(refusal("[]").find("expected a JSON object") != std::string::npos);
  CHECK(refusal(json.substr(0, json.size() / 2)).find("not valid JSON") != std::string::npos);
  CHECK_THROWS_WITH(vocabulary_from_merges("{\"a\": 0}", "v", "", "m"),
                    "v: the vocabulary has no token '<|startoftext|>'");
  CHECK_THROWS_WITH(vocabulary_from_merges(text_of(kGolden / "vocab.json"), "v", "abc\n", "m"),
                    "m: a merge is 'abc', expected two tokens");
}

TEST_CASE("Tokens beyond the model's are refused") {
  const Vocabulary vocabulary = *find_vocabulary(kGolden);
  vocabulary.validate(vocabulary.end + 1, "t");
  CHECK_THROWS_AS(vocabulary.validate(vocabulary.end, "t"), Error);
}
#endif
