// A dense row-major float tensor that owns its elements, and the map of a model's weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
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

// Weights by their current timm name ("blocks.0.attn.qkv.weight"), whatever the file called them.
using Weights = std::map<std::string, Tensor>;

}  // namespace vitrun
