// Converts IEEE half precision and bfloat16 to and from float.
#pragma once

#include <cstdint>

namespace vitrun {

// Both are exact: every half and every bfloat16 is a float, also subnormals, infinities and NaN.
float half_to_float(uint16_t bits);
float bfloat16_to_float(uint16_t bits);

// Returns the nearest half, ties to even. What rounds above 65504 becomes infinity.
uint16_t float_to_half(float x);

}  // namespace vitrun
