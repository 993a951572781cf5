// The Words of gemm_pairs-inl.h in AVX2. Two registers hold 16 columns of one step.
#pragma once

#include "kernels/x86/vec_avx2-inl.h"

namespace vitrun {
namespace {

constexpr int kWordBytes = 32;
// The rows of each tile are as many as fit the 16 registers.
constexpr int kShortRunRows = 4, kLongRunRows = 6, kWideRows = 6;

struct Words {
  __m256i v;
};

inline Words load_words(const void* p) {
  return {load_ints(p)};
}
inline void store_words(void* p, Words x) {
  store_ints(p, x.v);
}
inline Words splat_words(int16_t x) {
  return {_mm256_set1_epi16(x)};
}
inline Words broadcast_four(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return {_mm256_set1_epi32(four)};
}
inline Words multiply_codes(Words a, Words w) {
  return {_mm256_maddubs_epi16(a.v, w.v)};
}
inline Words multiply_words(Words a, Words b) {
  return {_mm256_madd_epi16(a.v, b.v)};
}
inline Words add_words16(Words a, Words b) {
  return {_mm256_add_epi16(a.v, b.v)};
}
inline Words add_words32(Words a, Words b) {
  return {_mm256_add_epi32(a.v, b.v)};
}
inline Words even_bytes(Words x) {
  return {_mm256_srai_epi16(_mm256_slli_epi16(x.v, 8), 8)};
}
inline Words odd_bytes(Words x) {
  return {_mm256_srai_epi16(x.v, 8)};
}

// The int32 lanes of 16 columns as a vector.
inline Ints to_lanes(const Words* w) {
  return {w[0].v, w[1].v};
}

}  // namespace
}  // namespace vitrun
