#include "quant/quantize_text.h"

#include <algorithm>
#include <map>

#include "models/base/error.h"
#include "models/text/unicode.h"
#include "runtime/float/text_encoder.h"
#include "runtime/text/text_section.h"

namespace vitrun {
namespace {

constexpr int64_t kTexts = 32;
constexpr size_t kLeastBytes = 3, kMostBytes = 64;
constexpr const char* kTemplates[] = {"a photo of a {}.", "a bad photo of the {}.", "{}",
                                      "art of the {}.", "a photo of two {}s and a dog in a park."};

// The words of a vocabulary, in all scripts: tokens that end a word, in the order of their merges.
std::vector<std::string> words_of(const Vocabulary& v) {
  std::map<int32_t, std::string> text;  // of each token
  std::map<int32_t, bool> ends;
  const int half = count_of(v.bytes) / 2;
  for (int b = 0; b < count_of(v.bytes); b++) {
    text.emplace(at(v.bytes, b), std::string(1, static_cast<char>(b % half)));
    ends.emplace(at(v.bytes, b), b >= half);
  }
  std::vector<std::string> words;
  for (const Vocabulary::Merge& m : v.merges) {
    const std::string joined = text[m.first] + text[m.second];
    if (joined.size() > kMostBytes) continue;
    text[m.merged] = joined;
    if (ends[m.merged] = ends[m.second];
        ends[m.merged] && joined.size() >= kLeastBytes && is_utf8(joined))
      words.push_back(joined);
  }
  return words;
}

// The i-th prompt: words are spread over the vocabulary, which has the frequent ones first.
std::string prompt(const std::vector<std::string>& words, int64_t i) {
  constexpr int64_t kStride = 7919;  // a prime, so that all words come
  std::string text = kTemplates[static_cast<size_t>(i) % std::size(kTemplates)];
  const std::string word =
      words.empty() ? "thing" : at(words, i * kStride % static_cast<int64_t>(words.size()));
  return text.replace(text.find("{}"), 2, word);
}

}  // namespace

Tensor calibration_texts(const TextTower& tower, int64_t count) {
  const TextInput input = text_input(tower);
  const std::vector<std::string> words = words_of(tower.vocabulary);
  const int length = input.most_tokens();
  const size_t whole = static_cast<size_t>(length);
  Tensor out({count, length, 1, tower.positions.dims[1]});
  int64_t next = 0;
  for (int64_t i = 0; i < count; i++) {
    std::vector<int32_t> tokens = input.tokenizer().encode(prompt(words, next++), length);
    while (tokens.size() < whole) {
      const auto more = input.tokenizer().encode(prompt(words, next++), length);
      tokens.insert(tokens.end(), more.begin() + 1, more.end());  // but for the start token
    }
    tokens.resize(whole);
    tokens.back() = tower.vocabulary.end;
    const Tensor rows = input.embed_tokens(tokens);
    std::ranges::copy(rows.data, out.data.begin() + i * element_count(rows.dims));
  }
  return out;
}

UnitTable add_text_tower(QbinWriter& file, TextTower tower, const QuantizeOptions& options,
                         const Progress& progress) {
  put_text(file, tower);
  QuantizeOptions same = options;
  same.tuning = {};  // its images are none of these texts
  same.bits = {};
  same.budget = {};
  same.coded = {};
  same.provenance = {};
  const Tensor texts = calibration_texts(tower, kTexts);
  FloatModel model;
  model.info.arch = "clip_text";
  model.graph = std::move(tower.graph);
  model.weights = std::move(tower.weights);
  Quantized text = quantize_model(std::move(model), tensor_source(texts), same, progress);
  file.take_graph(std::move(text.file), "main", kTextGraph);
  return text.units;
}

void add_class_head(FloatModel& model, const Tensor& classes, float scale,
                    const std::vector<std::string>& names) {
  Graph& graph = model.graph;
  const int embedding = graph.output("embedding");
  const int columns = static_cast<int>(classes.dims[1]);
  if (embedding < 0 || infer_shapes(graph)[embedding].cols != columns)
    fail("embeddings of texts have ", columns, " columns, those of images others");
  Node unit;
  unit.kind = NodeKind::kNorm;
  unit.name = "embedding.unit";
  unit.in = {embedding};
  unit.attributes = {{Attribute::kType, static_cast<int>(NormType::kL2)},
                     {Attribute::kGroup, columns},
                     {Attribute::kEpsilon, 1e-12}};
  graph.nodes.push_back(unit);
  Node head;
  head.kind = NodeKind::kLinear;
  head.name = head.unit = "head";
  head.in = {graph.size() - 1};
  head.weight = "head.weight";
  head.role = Role::kHead;
  Tensor& weight = model.weights[head.weight] = classes;
  for (float& w : weight.data) w *= scale;
  graph.params.push_back({head.weight, classes.dims});
  graph.nodes.push_back(head);
  graph.outputs.insert(graph.outputs.begin(), {"logits", graph.size() - 1});
  model.info.num_classes = count_of(names);
  model.info.labels = names;
}

}  // namespace vitrun
