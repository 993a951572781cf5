#include "runtime/text/integer_text_encoder.h"

#include "models/base/error.h"

namespace vitrun {
namespace {

StoredText need_text(const QuantModel& model) {
  std::optional<StoredText> text = read_text(model);
  if (!text)
    fail(model.file().where(),
         ": the file holds no text tower; vitquant puts one in of a CLIP model that has its "
         "tokenizer beside it, but for one with classes of its own");
  return std::move(*text);
}

int output_width(const QuantGraph& text) {
  return (*text.shapes)[text.graph.output("embedding")].cols;
}

}  // namespace

IntegerTextEncoder::IntegerTextEncoder(const QuantModel& model, const Kernels& kernels, int threads)
    : text_(need_text(model)),
      engine_(model.graph(kTextGraph), {.threads = threads, .kernels = &kernels}),
      width_(output_width(model.graph(kTextGraph))) {}

Tensor IntegerTextEncoder::embed(const std::vector<std::string>& texts) {
  Tensor out({static_cast<int64_t>(texts.size()), width_});
  float* row = out.data.data();
  for (const std::string& text : texts) {
    const Tensor tokens = text_.input.embed(text);
    engine_.select({{static_cast<int>(tokens.dims[1]), 1}}, {"embedding"});
    engine_.run(tokens.data.data(), 1, row);
    engine_.check_finite(1, &row);
    row += width_;
  }
  return out;
}

}  // namespace vitrun
