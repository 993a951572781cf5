// The default model and picture that every program carries (models/cifar10/README.md).
#pragma once

#include <cstdint>
#include <span>

namespace vitrun {

// A .qbin, 64-byte aligned.
std::span<const uint8_t> embedded_model();
// A JPEG of a known class.
std::span<const uint8_t> embedded_image();

}  // namespace vitrun
