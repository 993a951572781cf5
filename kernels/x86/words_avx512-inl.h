// The Words of gemm_pairs-inl.h in AVX-512. One register holds 16 columns of one step.
#pragma once

#include "kernels/x86/vec_avx512-inl.h"

namespace vitrun {
namespace {

constexpr int kWordBytes = 64;
// The rows of each tile, with one register of sums per row, are enough to hide the latencies.
constexpr int kShortRunRows = 12, kLongRunRows = 12, kWideRows = 8;

struct Words {
  __m512i v;
};

inline Words load_words(const void* p) {
  return {_mm512_loadu_si512(p)};
}
inline void store_words(void* p, Words x) {
  _mm512_storeu_si512(p, x.v);
}
inline Words splat_words(int16_t x) {
  return {_mm512_set1_epi16(x)};
}
inline Words broadcast_four(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
inline Words multiply_codes(Words a, Words w) {
  return {_mm512_maddubs_epi16(a.v, w.v)};
}
inline Words multiply_words(Words a, Words b) {
  return {_mm512_madd_epi16(a.v, b.v)};
}
inline Words add_words16(Words a, Words b) {
  return {_mm512_add_epi16(a.v, b.v)};
}
inline Words add_words32(Words a, Words b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
inline Words even_bytes(Words x) {
  return {_mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8)};
}
inline Words odd_bytes(Words x) {
  return {_mm512_srai_epi16(x.v, 8)};
}

// The int32 lanes of 16 columns as a vector.
inline Ints to_lanes(const Words* w) {
  return {w[0].v};
}

}  // namespace
}  // namespace vitrun
