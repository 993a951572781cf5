// The default model and picture that programs carry unless VITRUN_DEMO is off, as it is for boards;
// asking for them then fails (models/cifar10/README.md).
#pragma once

#include <cstdint>
#include <span>

namespace vitrun {

// A .qbin, 64-byte aligned.
std::span<const uint8_t> embedded_model();
// A JPEG of a known class.
std::span<const uint8_t> embedded_image();

}  // namespace vitrun
