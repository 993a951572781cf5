// float32 arrays as NumPy's .npy files.
#pragma once

#include <string>

#include "models/tensor.h"

namespace vitrun {

// Little-endian float32 in C order, format versions 1 to 3; anything else fails naming the file.
Tensor read_npy(const std::string& path);
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace vitrun
