// A dense row-major float tensor that owns its elements, and the map of a model's weights.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace vitrun {

using Dims = std::vector<int64_t>;

inline int64_t element_count(const Dims& dims) {
  int64_t count = 1;
  for (int64_t d : dims) count *= d;
  return count;
}

// "[2, 3, 224, 224]", for messages.
inline std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); i++) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

struct Tensor {
  Dims dims;
  std::vector<float> data;

  Tensor() = default;
  explicit Tensor(Dims d) : dims(std::move(d)), data(static_cast<size_t>(element_count(dims))) {}
};

// Items [first, first + count) of the first dimension, within it.
inline Tensor slice(const Tensor& t, int64_t first, int64_t count) {
  Dims dims = t.dims;
  dims[0] = count;
  Tensor part(dims);
  const int64_t item = element_count(t.dims) / t.dims[0];
  std::copy_n(t.data.begin() + first * item, count * item, part.data.begin());
  return part;
}

// The index of the first infinity or NaN, whose exponent is all ones; values.size() if there is
// none.
inline size_t first_not_finite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t largest = 0;
  for (float v : values) largest = std::max(largest, std::bit_cast<uint32_t>(v) & kExponent);
  if (largest != kExponent) return values.size();
  const auto is_bad = [](float v) { return (std::bit_cast<uint32_t>(v) & kExponent) == kExponent; };
  return static_cast<size_t>(std::ranges::find_if(values, is_bad) - values.begin());
}

// Weights by their current timm name ("blocks.0.attn.qkv.weight"), whatever the file called them.
using Weights = std::map<std::string, Tensor>;

}  // namespace vitrun
