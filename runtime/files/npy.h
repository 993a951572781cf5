// Reads and writes float32 arrays as NumPy's .npy files.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "models/base/tensor.h"
#include "models/graph/model_info.h"

namespace vitrun {

// Reads little-endian float32 in C order, of format versions 1 to 3. Fails, naming the file, on
// anything else.
Tensor read_npy(const std::string& path);
// Parses the bytes of such a file; `where` names them in messages.
Tensor parse_npy(std::span<const uint8_t> file, const std::string& where);
// Reads images [N, 3, H, W], N >= 1, or one [3, H, W], already normalised for this model. Fails on
// other shapes and on elements that are not finite.
Tensor read_raw_images(const std::string& path, const ModelInfo& config);
// Fails where write_npy() could not open the file: long work should not be lost for it.
void check_npy_writable(const std::string& path);
// Writes byte for byte what numpy.save() does.
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace vitrun
