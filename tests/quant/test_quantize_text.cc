// A text tower in a .qbin, in integers, against transformers' embeddings.
#include <doctest/doctest.h>

#include <cstring>

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

// A file's parts, which a test may change.
struct Parts {
  std::map<std::string, QbinValue> metadata;
  std::map<std::string, QbinTensor> tensors;
};

// The message of reading the file after a change; "no error" if there is none.
std::string read_changed(const Buffer& file, const std::function<void(Parts&)>& change) {
  const Aligned bytes(file);
  const QbinFile whole = QbinFile::from_memory(bytes.bytes(), "t.qbin");
  Parts parts{whole.metadata(), {}};
  for (const QbinTensor& t : whole.tensors()) parts.tensors.emplace(t.name, t);
  change(parts);
  QbinWriter out;
  for (const auto& [key, value] : parts.metadata) out.set(key, value);
  for (const auto& [name, graph] : whole.graphs()) out.add(name, graph);
  for (const auto& [name, t] : parts.tensors) out.add(name, t.dtype, t.bits, t.dims, t.bytes);
  return error_of([&] { read_text(TextFile(out.serialize()).model); });
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
  const Buffer file = with_text(golden, widths(8, 8));
  const auto why = [&](const std::function<void(Parts&)>& change) {
    return read_changed(file, change);
  };
  const auto value = [&](const char* key, const QbinValue& v) {
    return why([&](Parts& p) { p.metadata[key] = v; });
  };
  CHECK(why([](Parts&) {}) == "no error");
  CHECK(contains(value("text.end", int64_t{5000}), "t.qbin: the end token is token 5000"));
  CHECK(contains(value("text.start", int64_t{-3}), "the start token is token -1"));
  CHECK(contains(value("text.start", int64_t{1} << 40), "the start token is token -1"));
  CHECK(contains(value("text.logit_scale", -1.0), "text.logit_scale is -1"));
  CHECK(contains(value("text.added", std::vector<std::string>{"a"}), "1 added tokens"));
  CHECK(contains(value("text.added", std::vector<std::string>{"", "a"}), "no UTF-8 text of 1 to"));
  CHECK(contains(value("text.added_tokens", std::vector<int64_t>{1, 99999}),
                 "an added token is token 99999"));
  CHECK(contains(why([](Parts& p) { p.metadata.erase("text.end"); }), "text.end"));
  const auto without = [&](const char* name) {
    return why([&](Parts& p) { p.tensors.erase(name); });
  };
  for (const char* name : {"text.tokens", "text.tokens_scale", "text.positions", "text.bytes"})
    CHECK(without(name) == cat("t.qbin: tensor '", name, "' is missing"));
  CHECK(without("text.merges") == "no error");  // a vocabulary may have none
  const auto shaped = [&](const char* name, const Dims& dims) {
    return why([&](Parts& p) { p.tensors.at(name).dims = dims; });
  };
  CHECK(contains(shaped("text.tokens", {2430, 16}), "'text.tokens' is [2430, 16]"));
  CHECK(contains(shaped("text.tokens", {1215 * 32}), "'text.tokens' is [38880]"));
  CHECK(contains(shaped("text.positions", {154, 16}), "'text.positions' is [154, 16]"));
  CHECK(contains(shaped("text.bytes", {2, 256}), "'text.bytes' is [2, 256]"));
  const auto first_number = [&](const char* name, int32_t number) {
    return why([&](Parts& p) {
      static Buffer bytes;  // which the tensor's copy in the writer is made of
      QbinTensor& t = p.tensors.at(name);
      bytes.assign(t.bytes.begin(), t.bytes.end());
      std::memcpy(bytes.data(), &number, sizeof number);
      t.bytes = bytes;
    });
  };
  CHECK(contains(first_number("text.bytes", -5), "a byte is token -5"));
  CHECK(contains(first_number("text.merges", 1215), "part of a merge is token 1215"));
  CHECK(contains(first_number("text.tokens_scale", 0x7f800000), "holds what is no number"));
  CHECK(contains(first_number("text.positions", 0x7c007c00), "holds what is no number"));
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
