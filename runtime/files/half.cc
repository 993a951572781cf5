#include "runtime/files/half.h"

#include <bit>
#include <cmath>

namespace vitrun {

float half_to_float(uint16_t bits) {
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  if (exponent < 31) return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return std::bit_cast<float>((bits & 0x8000u) << 16 | 0x7f800000u |
                              static_cast<uint32_t>(fraction) << 13);
}

float bfloat16_to_float(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

uint16_t float_to_half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const float magnitude = std::fabs(x);
  if (std::isnan(x)) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 65520) return static_cast<uint16_t>(sign | 0x7c00u);
  // A subnormal is a multiple of 2^-24. Rounding up to the smallest normal half gives its bits too.
  if (magnitude < 0x1p-14f)
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(magnitude * 0x1p24f)));
  // Ten of the 23 fraction bits stay. Adding half of the last of them, less one unit where it is
  // even, rounds to the nearest and ties to even.
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = m + 0xfffu + (m >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - (112u << 23)) >> 13);
}

}  // namespace vitrun
