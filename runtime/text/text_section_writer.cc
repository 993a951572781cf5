#include <algorithm>
#include <cmath>

#include "runtime/files/half.h"
#include "runtime/text/text_section.h"

namespace vitrun {
namespace {

constexpr int kSteps = 127;

template <class T>
std::span<const uint8_t> bytes_of(const std::vector<T>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(T)};
}

void put_tokens(QbinWriter& out, const Tensor& tokens) {
  const size_t width = static_cast<size_t>(tokens.dims[1]);
  std::vector<int8_t> codes(tokens.data.size());
  std::vector<float> scales;
  for (size_t i = 0; i < codes.size(); i += width) {
    float most = 0;
    for (size_t c = i; c < i + width; c++) most = std::max(most, std::fabs(tokens.data[c]));
    const float scale = most > 0 ? most / kSteps : 1;
    for (size_t c = i; c < i + width; c++)
      codes[c] = static_cast<int8_t>(std::lrintf(tokens.data[c] / scale));
    scales.push_back(scale);
  }
  out.add("text.tokens", DType::kI8, 0, tokens.dims, bytes_of(codes));
  out.add("text.tokens_scale", DType::kF32, 0, {tokens.dims[0]}, bytes_of(scales));
}

void put_positions(QbinWriter& out, const Tensor& positions) {
  std::vector<uint16_t> half(positions.data.size());
  std::ranges::transform(positions.data, half.begin(), float_to_half);
  if (std::ranges::any_of(positions.data, [](float x) { return std::fabs(x) > 65504; }))
    out.add("text.positions", DType::kF32, 0, positions.dims, bytes_of(positions.data));
  else
    out.add("text.positions", DType::kF16, 0, positions.dims, bytes_of(half));
}

void put_vocabulary(QbinWriter& out, const Vocabulary& v) {
  out.add("text.bytes", DType::kI32, 0, {static_cast<int64_t>(v.bytes.size())}, bytes_of(v.bytes));
  if (!v.merges.empty())
    out.add("text.merges", DType::kI32, 0, {static_cast<int64_t>(v.merges.size()), 3},
            bytes_of(v.merges));
  std::vector<std::string> texts;
  std::vector<int64_t> tokens, normalized;
  for (const Vocabulary::Added& a : v.added) {
    texts.push_back(a.text);
    tokens.push_back(a.token);
    normalized.push_back(a.normalized);
  }
  out.set("text.added", texts);
  out.set("text.added_tokens", tokens);
  out.set("text.added_normalized", normalized);
  out.set("text.start", int64_t{v.start});
  out.set("text.end", int64_t{v.end});
}

}  // namespace

void put_text(QbinWriter& out, const TextTower& tower) {
  put_tokens(out, tower.tokens);
  put_positions(out, tower.positions);
  put_vocabulary(out, tower.vocabulary);
  out.set("text.logit_scale", double{tower.logit_scale});
}

}  // namespace vitrun
