#include "runtime/text/text_section.h"

#include <algorithm>
#include <cstring>

#include "models/base/error.h"
#include "runtime/files/half.h"

namespace vitrun {
namespace {

template <class T>
std::span<const T> elements(const QbinTensor& t) {
  return {reinterpret_cast<const T*>(t.bytes.data()), t.bytes.size() / sizeof(T)};
}

const QbinTensor& need(const QbinFile& file, const std::string& name, DType type, size_t rank) {
  const QbinTensor* t = file.find(name);
  if (!t) fail(file.where(), ": tensor '", name, "' is missing");
  if (t->dtype != type || t->dims.size() != rank)
    fail(file.where(), ": tensor '", name, "' is ", to_string(t->dims),
         " or of another type than the text tower needs");
  return *t;
}

int32_t token_of(int64_t token) {  // one out of range is refused by validate()
  return token < 0 || token > INT32_MAX ? -1 : static_cast<int32_t>(token);
}

Vocabulary read_vocabulary(const QbinFile& file) {
  Vocabulary v;
  const auto bytes = elements<int32_t>(need(file, "text.bytes", DType::kI32, 1));
  v.bytes.assign(bytes.begin(), bytes.end());
  if (file.find("text.merges")) {
    const QbinTensor& merges = need(file, "text.merges", DType::kI32, 2);
    if (merges.dims[1] != 3)
      fail(file.where(), ": tensor 'text.merges' is ", to_string(merges.dims));
    v.merges.resize(static_cast<size_t>(merges.dims[0]));
    std::memcpy(v.merges.data(), merges.bytes.data(), merges.bytes.size());
  }
  const auto& texts = file.get_strings("text.added");
  const auto &tokens = file.get_i64s("text.added_tokens"),
             &normalized = file.get_i64s("text.added_normalized");
  if (tokens.size() != texts.size() || normalized.size() != texts.size())
    fail(file.where(), ": ", texts.size(), " added tokens, and numbers of ", tokens.size());
  for (size_t i = 0; i < texts.size(); i++)
    v.added.push_back({texts[i], token_of(tokens[i]), normalized[i] != 0});
  v.start = token_of(file.get_i64("text.start"));
  v.end = token_of(file.get_i64("text.end"));
  return v;
}

Tensor read_positions(const QbinFile& file, int64_t width) {
  const QbinTensor* stored = file.find("text.positions");
  const DType type = stored && stored->dtype == DType::kF32 ? DType::kF32 : DType::kF16;
  const QbinTensor& t = need(file, "text.positions", type, 2);
  if (t.dims[0] < 2 || t.dims[0] > 1 << 15 || t.dims[1] != width)
    fail(file.where(), ": tensor 'text.positions' is ", to_string(t.dims), ", the text tower has ",
         width, " columns");
  Tensor out(t.dims);
  if (type == DType::kF32)
    std::memcpy(out.data.data(), t.bytes.data(), t.bytes.size());
  else
    std::ranges::transform(elements<uint16_t>(t), out.data.begin(), half_to_float);
  if (first_not_finite(out.data) < out.data.size())
    fail(file.where(), ": tensor 'text.positions' holds what is no number");
  return out;
}

// Checks the graph's input and output, and returns its columns.
int64_t input_width(const QuantGraph& text) {
  const Graph& graph = text.graph;
  const int input = graph.find(NodeKind::kInput), output = graph.output("embedding");
  if (std::ranges::count(graph.nodes, NodeKind::kInput, &Node::kind) != 1 ||
      (*text.shapes)[input].planar || (*text.shapes)[input].width != 1)
    fail(text.where, ": expected one input of token embeddings");
  if (output < 0 || (*text.shapes)[output].rows != 1)
    fail(text.where, ": expected an output 'embedding' of one row");
  return (*text.shapes)[input].cols;
}

TextInput::Row token_rows(const QbinTensor& codes, const QbinTensor& scales) {
  return [codes = elements<int8_t>(codes), scales = elements<float>(scales)](int32_t token,
                                                                             float* out) {
    const size_t width = codes.size() / scales.size(), row = static_cast<size_t>(token);
    for (size_t c = 0; c < width; c++)
      out[c] = scales[row] * static_cast<float>(codes[row * width + c]);
  };
}

}  // namespace

std::optional<StoredText> read_text(const QuantModel& model) {
  if (!model.has_graph(kTextGraph)) return {};
  const QbinFile& file = model.file();
  const int64_t width = input_width(model.graph(kTextGraph));
  const QbinTensor& tokens = need(file, "text.tokens", DType::kI8, 2);
  const QbinTensor& scales = need(file, "text.tokens_scale", DType::kF32, 1);
  if (tokens.dims[1] != width || scales.dims[0] != tokens.dims[0])
    fail(file.where(), ": tensor 'text.tokens' is ", to_string(tokens.dims),
         ", the text tower has ", width, " columns and there are ", scales.dims[0], " scales");
  Vocabulary vocabulary = read_vocabulary(file);
  vocabulary.validate(tokens.dims[0], file.where());
  if (first_not_finite(elements<float>(scales)) < elements<float>(scales).size())
    fail(file.where(), ": tensor 'text.tokens_scale' holds what is no number");
  const double scale = file.get_f64("text.logit_scale");
  if (!(scale > 0 && scale < 1e6)) fail(file.where(), ": text.logit_scale is ", scale);
  Tensor positions = read_positions(file, width);
  return StoredText{{std::move(vocabulary), std::move(positions), token_rows(tokens, scales)},
                    static_cast<float>(scale)};
}

}  // namespace vitrun
