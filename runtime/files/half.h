// IEEE half precision and bfloat16, exact one way and to nearest even the other.
#pragma once

#include <cstdint>

namespace vitrun {

// Exact: every half and bfloat16 is a float, subnormals, infinities and NaN included.
float half_to_float(uint16_t bits);
float bfloat16_to_float(uint16_t bits);

// The nearest half, ties to even; above 65504 infinity.
uint16_t float_to_half(float x);

}  // namespace vitrun
