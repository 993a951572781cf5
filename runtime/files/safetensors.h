// The .safetensors container: 8 bytes of little-endian header length, a JSON header
// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__":
// {...}}, then the tensors' bytes, row-major and little-endian, one after another without gaps.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "models/base/tensor.h"
#include "runtime/files/mapped_file.h"

namespace vitrun {

struct TensorInfo {
  std::string dtype;  // as the header spells it: "F32", "F16", "BF16", "I64", ...
  Dims dims;
  uint64_t begin = 0, end = 0;  // offsets in the data section, begin <= end
};

// A .safetensors whose whole header has been checked: each tensor that tensors() lists lies inside
// the file, overlaps nothing and has the size that its shape and dtype ask for. It is immutable,
// and many threads may call load().
class SafetensorsFile {
 public:
  // Maps a file. A failure names the path and the tensor and says what is wrong.
  explicit SafetensorsFile(const std::string& path);
  // Reads bytes in memory, which must stay alive; `where` names them in messages.
  SafetensorsFile(std::span<const uint8_t> bytes, const std::string& where);

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }

  // Returns a tensor as float. Fails if there is none of that name, if its dtype is not F32, F16 or
  // BF16, or if an element is infinite or not a number.
  Tensor load(const std::string& name) const;

 private:
  void read_header();
  void check_coverage() const;

  std::string path_;
  std::optional<MappedFile> mapping_;
  std::span<const uint8_t> bytes_;
  uint64_t data_begin_ = 0;  // offset of the data section in the file
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace vitrun
