// A text tower in a .qbin, in integers, against transformers' embeddings.
#include <doctest/doctest.h>

#include "models/graph/rewrite.h"
#include "quant/quantize_text.h"
#include "runtime/integer/engine.h"
#include "runtime/text/text_section.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/text/clip_golden.h"

#ifdef VITRUN_TEXT
namespace vitrun {
namespace {

// The smallest image model that a .qbin may have beside the text tower.
QbinWriter image_file() {
  const std::string vit = VITRUN_TEST_DIR "/golden/models/vit.";
  QuantizeOptions options;
  return quantize_model(load_float_model(vit + "safetensors"),
                        tensor_source(read_npy(vit + "input.npy")), options)
      .file;
}

QuantizeOptions widths(int weights, int activations) {
  QuantizeOptions options;
  options.weight_bits = weights;
  options.activation_bits = activations;
  options.method = weights < activations ? Method::kLayerwise : Method::kRepq;
  options.compensate = options.levels = options.split = true;
  options.rotate = weights < activations ? Rotate::kAll : Rotate::kScores;
  return options;
}

struct TextFile {
  Aligned bytes;
  QuantModel model;

  explicit TextFile(const Buffer& file)
      : bytes(file), model(QbinFile::from_memory(bytes.bytes(), "t.qbin")) {}

  Tensor embed(const std::vector<std::string>& texts, int threads = 1) const {
    const std::optional<StoredText> text = read_text(model);
    Engine engine(model.graph(kTextGraph), {.threads = threads});
    Tensor out({count_of(texts), engine.outputs()[0].cols});
    float* row = out.data.data();
    for (const std::string& t : texts) {
      const Tensor input = text->input.embed(t);
      engine.select({{static_cast<int>(input.dims[1]), 1}}, {});
      engine.run(input.data.data(), 1, row);
      row += out.dims[1];
    }
    return out;
  }
};

Buffer with_text(const ClipGolden& golden, const QuantizeOptions& options) {
  QbinWriter file = image_file();
  add_text_tower(file, golden.tower(), options);
  return file.serialize();
}

}  // namespace

TEST_CASE("A text tower in integers is near transformers' and open_clip's") {
  for (const char* library : {"hf", "open_clip"}) {
    const ClipGolden golden(library);
    INFO(library);
    const TextFile w8(with_text(golden, widths(8, 8))), w4(with_text(golden, widths(4, 8)));
    CHECK(w8.model.has_graph(kTextGraph));
    CHECK(std::fabs(read_text(w8.model)->logit_scale - std::exp(3.5f)) < 1e-3f);
    const Tensor want = golden.value("text_embeds");
    const double at8 = relative_error(w8.embed(golden.list("texts")), want);
    const double at4 = relative_error(w4.embed(golden.list("texts")), want);
    MESSAGE("relative error W8/A8 ", at8, ", W4/A8 ", at4);
    CHECK(at8 < 0.06);
    CHECK(at4 < 0.25);
    CHECK(w8.embed(golden.list("texts"), 2).data == w8.embed(golden.list("texts")).data);
  }
}

TEST_CASE("The tokenizer in a .qbin gives the same tokens") {
  const ClipGolden golden("hf");
  const TextFile file(with_text(golden, widths(8, 8)));
  const std::optional<StoredText> text = read_text(file.model);
  const auto strings = read_json((ClipGolden::root() / "tokens.json").string(), 4);
  for (const auto& entry : strings)
    CHECK(text->input.tokenizer().encode(entry["text"].get<std::string>(), 77) ==
          entry["ids"].get<std::vector<int32_t>>());
}

TEST_CASE("A model without a text tower has none") {
  CHECK_FALSE(read_text(TextFile(image_file().serialize()).model).has_value());
}

TEST_CASE("A text tower whose parts do not fit together is refused") {
  const ClipGolden golden("hf");
  const auto refusal = [&](const std::function<void(TextTower&)>& change) {
    QbinWriter file = image_file();
    TextTower tower = golden.tower();
    change(tower);
    return error_of([&] {
      add_text_tower(file, std::move(tower), widths(8, 8));
      read_text(TextFile(file.serialize()).model);
    });
  };
  CHECK(refusal([](TextTower&) {}) == "no error");
  CHECK(contains(refusal([](TextTower& t) { t.vocabulary.end = 5000; }), "the end token"));
  CHECK(contains(refusal([](TextTower& t) { t.logit_scale = -1; }), "text.logit_scale is -1"));
}

TEST_CASE("Calibration texts are prompts of one length") {
  const ClipGolden golden("hf");
  const TextTower tower = golden.tower();
  const Tensor texts = calibration_texts(tower, 16);
  CHECK(texts.dims[0] == 16);
  CHECK(texts.dims[1] > 4);
  CHECK(texts.dims[1] <= 77);
  CHECK(texts.dims[3] == 32);
  CHECK(first_not_finite(texts.data) == texts.data.size());
}

}  // namespace vitrun
#endif
