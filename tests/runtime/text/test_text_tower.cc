// CLIP's text tower against transformers and open_clip (tests/golden/make_clip_models.py), in
// float.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/checkpoints/json.h"
#include "runtime/files/npy.h"
#include "runtime/files/weight_files.h"
#include "runtime/float/text_encoder.h"

#ifdef VITRUN_TEXT
using namespace vitrun;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(VITRUN_TEST_DIR) / "golden/clip";

std::string config_of(const std::string& library) {
  return (kGolden / library / (library == "hf" ? "config.json" : "open_clip_config.json")).string();
}

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TextTower golden_tower(const std::string& library) {
  const std::string weights = library == "hf" ? "model.safetensors" : "open_clip_model.safetensors";
  return load_text_tower(WeightFiles((kGolden / library / weights).string()), config_of(library),
                         text_of(config_of(library)));
}

std::string refusal(const std::string& library, const std::string& config) {
  const std::string weights = library == "hf" ? "model.safetensors" : "open_clip_model.safetensors";
  try {
    load_text_tower(WeightFiles((kGolden / library / weights).string()), config_of(library),
                    config);
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
  for (const std::string library : {"hf", "open_clip"}) {
    INFO(library);
    const TextTower tower = golden_tower(library);
    CHECK(std::fabs(tower.logit_scale - std::exp(3.5f)) < 1e-3f);
    const auto texts = read_json((kGolden / library / "texts.json").string(), 3)["texts"]
                           .get<std::vector<std::string>>();
    const Tensor found = TextEncoder(tower, 1).embed(texts);
    const Tensor want = read_npy((kGolden / library / "text_embeds.npy").string());
    REQUIRE(found.dims == want.dims);
    double error = 0, size = 0;
    for (size_t i = 0; i < want.data.size(); i++) {
      error += std::pow(double{found.data[i]} - double{want.data[i]}, 2);
      size += std::pow(double{want.data[i]}, 2);
    }
    CHECK(std::sqrt(error / size) < 1e-5);
  }
}

TEST_CASE("Text towers that are not CLIP's are refused with the reason") {
  const std::string hf = text_of(config_of("hf")), open = text_of(config_of("open_clip"));
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
  CHECK(refusal("hf", replaced(hf, "\"eos_token_id\": 1214", "\"eos_token_id\": 2")) == "accepted");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"no_causal_mask\": true")),
      "'no_causal_mask' is true");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"hf_model_name\": \"roberta\"")),
      "'hf_model_name' is \"roberta\"");
  has(refusal("open_clip", replaced(open, "\"heads\": 2", "\"pool_type\": \"last\"")),
      "'pool_type' is \"last\"");
  has(refusal("open_clip", "{}"), "it describes no text tower");
  has(refusal("hf", replaced(hf, "\"clip\"", "\"siglip\"")), "is that of 'siglip', not of CLIP");
}
#endif
