// Reads config.json of either convention (timm hub, Hugging Face transformers).
#include "models/base/error.h"
#include "models/checkpoints/config_parsers.h"
#include "models/names/foreign.h"

namespace vitrun {
namespace {

constexpr int kMaxNesting = 8;

// Whether the model is one of timm's, whose class in transformers is a mere wrapper.
bool is_timm(const Object& root) {
  return root.has("architecture");
}

void refuse_foreign(const Object& root) {
  const char* key = is_timm(root) ? "architecture" : "model_type";
  if (!root.has(key)) return;
  const std::string type = root.text(key), what = foreign_type(type);
  if (!what.empty())
    fail(root.path(), ": '", key, "' is \"", type, "\": this ", what,
         ", which vitrun does not run");
}

}  // namespace

void set_crop_pct(const Object& o, const char* key, float pct, ModelConfig& c) {
  if (!(pct > 0.1f && pct <= 1)) o.bad(key, "a crop of more than 0.1 and at most 1 of the image");
  c.preprocess.crop_pct = pct;
}

Pool read_pool_name(const Object& o, const char* key) {
  const std::string name = o.text(key);
  if (name == "token") return Pool::kToken;
  if (name == "avg") return Pool::kAverage;
  if (name != "map") o.bad(key, "\"token\", \"avg\" or \"map\"");
  return Pool::kMap;
}

void read_mlp_ratio(const Object& o, ModelConfig& c) {
  if (!o.has("mlp_ratio") || c.embed_dim == 0) return;
  const double hidden = c.embed_dim * o.number("mlp_ratio");
  if (!(hidden >= 1 && hidden <= 1e6)) o.bad("mlp_ratio", "a positive ratio");
  c.mlp_hidden = static_cast<int>(hidden);
}

std::vector<std::string> indexed_labels(const Object& o, const char* key) {
  const nlohmann::json& map = o.at(key);
  std::vector<std::string> labels(map.size());
  for (size_t i = 0; i < labels.size(); i++) {
    const auto it = map.find(std::to_string(i));
    if (it == map.end() || !it->is_string()) o.bad(key, "a string for each class from \"0\" on");
    labels[i] = it->get<std::string>();
  }
  return labels;
}

bool is_placeholder(const std::vector<std::string>& labels) {
  for (size_t i = 0; i < labels.size(); i++)
    if (labels[i] != "LABEL_" + std::to_string(i)) return false;
  return true;
}

void validate_again(const ModelConfig& c, const std::string& where) {
  try {
    validate(c);
  } catch (const Error& e) {
    fail(where, ": ", e.what());
  }
}

void refuse_foreign_config(const std::string& text, const std::string& where) {
  const nlohmann::json value = parse_json(text, where, kMaxNesting);
  refuse_foreign(Object(value, where));
}

ModelConfig config_from_json(const std::string& text, const ShapeMap& shapes,
                             const std::string& where, const Given& given) {
  const nlohmann::json value = parse_json(text, where, kMaxNesting);
  const Object root(value, where);
  refuse_foreign(root);
  const bool open_clip = root.has("model_cfg");
  if (!is_timm(root) && !open_clip && !root.has("model_type"))
    fail(where, ": neither 'architecture' (timm) nor 'model_type' (transformers)");
  ModelConfig c = open_clip       ? open_clip_config(root, shapes, given)
                  : is_timm(root) ? timm_config(root, shapes, given)
                                  : transformers_config(root, shapes, given);
  validate_again(c, where);
  return c;
}

}  // namespace vitrun
