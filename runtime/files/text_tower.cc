#include "runtime/files/text_tower.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "models/base/error.h"
#include "models/checkpoints/clip_text.h"
#include "models/families/families.h"
#include "models/families/text_graph.h"
#include "models/text/tokenizer_files.h"
#include "runtime/files/weight_files.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;

Vocabulary vocabulary_beside(const WeightFiles& files, const std::string& config, int64_t tokens) {
  std::error_code error;
  for (const fs::path& file :
       {fs::path(config), fs::path(files.path()), fs::canonical(files.path(), error)}) {
    const auto found = find_vocabulary(file.parent_path());
    if (!found) continue;
    found->validate(tokens, file.parent_path().string());
    return *found;
  }
  fail(files.path(),
       ": its text tower needs tokenizer.json, or vocab.json and merges.txt, beside it");
}

// The token whose row is the text's must be the one that the tokenizer puts at the end.
void check_end(const TextConfig& config, const Vocabulary& v, const std::string& where) {
  if (config.end_token >= 0 && config.end_token != v.end)
    fail(where, ": the configuration's end token is ", config.end_token, ", the tokenizer's ",
         v.end);
  const auto higher = [&](int32_t token) { return token > v.end; };
  const bool none = std::ranges::none_of(v.bytes, higher) && !higher(v.start) &&
                    std::ranges::none_of(v.merges, higher, &Vocabulary::Merge::merged) &&
                    std::ranges::none_of(v.added, higher, &Vocabulary::Added::token);
  if (config.end_token < 0 && !none)
    fail(where,
         ": the text tower takes the highest token for the end, which is not the tokenizer's");
}

}  // namespace

TextTower load_text_tower(const WeightFiles& files, const std::string& config,
                          const std::string& text) {
  if (text.empty())
    fail(files.path(), ": its text tower needs a config.json or open_clip_config.json");
  refuse_other_text(text, config);
  TextTower tower;
  ShapeMap shapes;
  for (const auto& [name, sources] : text_names(files.names(), files.path())) {
    Tensor& t = tower.weights[name] = files.load_joined(sources);
    if (is_transposed_projection(sources.front())) {
      if (t.dims.size() != 2)
        fail(files.path(), ": '", name, "' is ", to_string(t.dims), ", expected a matrix");
      t = transposed(t);
    }
    shapes[name] = t.dims;
  }
  const TextConfig c = text_config(text, shapes, config);
  tower.graph = build_clip_text(c);
  tower.tokens = take(tower.weights, "text.tokens");
  tower.positions = take(tower.weights, "text.positions");
  const Tensor scale = take(tower.weights, "text.logit_scale");
  tower.vocabulary = vocabulary_beside(files, config, c.tokens);
  check_end(c, tower.vocabulary, config);
  if (scale.data.size() != 1 || !(scale.data[0] < 10))
    fail(files.path(), ": 'logit_scale' is ", to_string(scale.dims),
         ", expected one number below 10");
  tower.logit_scale = std::exp(scale.data[0]);
  if (tower.positions.dims != Dims{c.positions, c.width})
    fail(files.path(), ": the text tower's positions are ", to_string(tower.positions.dims),
         ", expected ", to_string({c.positions, c.width}));
  check_weights(tower.graph, tower.weights, files.path(), "CLIP's text tower");
  return tower;
}

}  // namespace vitrun
