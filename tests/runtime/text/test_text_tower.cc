// CLIP's text tower against transformers and open_clip (tests/golden/make_clip_models.py), in
// float.
#include <doctest/doctest.h>

#include "models/base/error.h"
#include "runtime/float/text_encoder.h"
#include "tests/runtime/text/clip_golden.h"

#ifdef VITRUN_TEXT
using namespace vitrun;

namespace {

std::string refusal(const char* library, const std::string& config) {
  try {
    ClipGolden(library).tower(config);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t found = text.find(from);
  REQUIRE(found != text.npos);
  return text.replace(found, from.size(), to);
}

}  // namespace

TEST_CASE("Embeddings of texts equal transformers' and open_clip's") {
  for (const char* library : {"hf", "open_clip"}) {
    INFO(library);
    const ClipGolden golden(library);
    const TextTower tower = golden.tower();
    CHECK(std::fabs(tower.logit_scale - std::exp(3.5f)) < 1e-3f);
    const Tensor found = TextEncoder(tower, 1).embed(golden.list("texts"));
    REQUIRE(found.dims == golden.value("text_embeds").dims);
    CHECK(relative_error(found, golden.value("text_embeds")) < 1e-5);
  }
}

TEST_CASE("Text towers that are not CLIP's are refused with the reason") {
  const std::string hf = ClipGolden("hf").config(), open = ClipGolden("open_clip").config();
  const auto has = [](const std::string& message, const char* part) {
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  };
  has(refusal("hf", replaced(hf, "\"quick_gelu\"", "\"relu\"")), "'hidden_act' is \"relu\"");
  has(refusal("hf", replaced(hf, "\"hidden_size\": 32", "\"hidden_size\": 64")),
      "'hidden_size' is 64, the weights say 32");
  has(refusal("hf", replaced(hf, "\"num_attention_heads\": 2", "\"num_attention_heads\": 5")),
      "5 heads for a width of 32");
  has(refusal("hf", replaced(hf, "\"eos_token_id\": 1214", "\"eos_token_id\": 7")),
      "end token is 7, the tokenizer's 1214");
  has(refusal("hf", replaced(hf, "\"clip\"", "\"siglip\"")), "is that of 'siglip', not of CLIP");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"no_causal_mask\": true")),
      "'no_causal_mask' is true");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"hf_model_name\": \"roberta\"")),
      "'hf_model_name' is \"roberta\"");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"pool_type\": \"last\"")),
      "'pool_type' is \"last\"");
  has(refusal("open_clip", "{}"), "it describes no text tower");
}

TEST_CASE("transformers' old mark of the end token is the highest token") {
  const std::string hf = ClipGolden("hf").config();
  CHECK(refusal("hf", replaced(hf, "\"eos_token_id\": 1214", "\"eos_token_id\": 2")) == "accepted");
}
#endif
