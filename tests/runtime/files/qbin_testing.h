// Helpers that the tests of .qbin files share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "models/base/error.h"
#include "runtime/files/model_file.h"

namespace vitrun {

using Buffer = std::vector<uint8_t>;

// A 64-byte aligned copy that ends where it ends, so that AddressSanitizer sees a read past it.
class Aligned {
 public:
  explicit Aligned(const Buffer& bytes) : size_(bytes.size()) {
    data_.reset(static_cast<uint8_t*>(::operator new(size_, kAlign)));
    std::copy(bytes.begin(), bytes.end(), data_.get());
  }
  std::span<const uint8_t> bytes() const { return {data_.get(), size_}; }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete(p, kAlign); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_;
};

// The message of the Error that `work` throws.
inline std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Channel 3 of the first MLP, named after `block`, made to reach `times` its values and to weigh as
// much less.
inline void add_outlier(FloatModel& model, const std::string& block, float times) {
  const std::string mlp = block + ".mlp.";
  Tensor &fc1 = model.weights.at(mlp + "fc1.weight"), &fc2 = model.weights.at(mlp + "fc2.weight");
  const auto depth = static_cast<size_t>(fc1.dims[1]), hidden = static_cast<size_t>(fc1.dims[0]);
  for (size_t i = 3 * depth; i < 4 * depth; i++) fc1.data[i] *= times;
  model.weights.at(mlp + "fc1.bias").data[3] *= times;
  for (size_t i = 3; i < fc2.data.size(); i += hidden) fc2.data[i] /= times;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace vitrun
