// float32 arrays as NumPy's .npy files.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "models/base/tensor.h"
#include "models/graph/model_info.h"

namespace vitrun {

// Little-endian float32 in C order, format versions 1 to 3; anything else fails naming the file.
Tensor read_npy(const std::string& path);
// The same of bytes in memory; `where` names them in messages.
Tensor parse_npy(std::span<const uint8_t> file, const std::string& where);
// Images [N, 3, H, W] (or one, [3, H, W]) for this model, already normalised: N >= 1, all finite.
Tensor read_raw_images(const std::string& path, const ModelInfo& config);
// Byte for byte what numpy.save() writes.
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace vitrun
