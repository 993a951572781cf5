// The 16-lane vector as two AVX2 registers, with FMA. vec_scalar-inl.h defines what each function
// does.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/shared/tail-inl.h"

#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

#define VITRUN_FAMILY avx2_rows  // family-inl.h explains it

namespace vitrun {
namespace {

constexpr int kLanes = 16;

struct Floats {
  __m256 lo, hi;
};
struct Ints {
  __m256i lo, hi;
};

// All bits set in the lanes below `count`, none in the others.
inline Ints first_mask(int count) {
  const __m256i n = _mm256_set1_epi32(count);
  return {_mm256_cmpgt_epi32(n, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(n, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

inline Floats splat(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline Ints splat(int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

inline __m256i load_ints(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store_ints(void* p, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}

inline Floats load(const float* p, int count) {
  if (count == kLanes) return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  float padded[kLanes] = {};
  copy_tail(padded, p, count);
  return {_mm256_loadu_ps(padded), _mm256_loadu_ps(padded + 8)};
}
inline Ints load(const int32_t* p, int count) {
  if (count == kLanes) return {load_ints(p), load_ints(p + 8)};
  int32_t padded[kLanes] = {};
  copy_tail(padded, p, count);
  return {load_ints(padded), load_ints(padded + 8)};
}
inline Ints load_bytes(const uint8_t* p, int count) {
  uint8_t padded[kLanes] = {};
  if (count < kLanes) {
    copy_tail(padded, p, count);
    p = padded;
  }
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}

inline void store(float* p, Floats x, int count) {
  float all[kLanes];
  float* to = count == kLanes ? p : all;
  _mm256_storeu_ps(to, x.lo);
  _mm256_storeu_ps(to + 8, x.hi);
  if (count < kLanes) copy_tail(p, all, count);
}
inline void store(int32_t* p, Ints x, int count) {
  int32_t all[kLanes];
  int32_t* to = count == kLanes ? p : all;
  store_ints(to, x.lo);
  store_ints(to + 8, x.hi);
  if (count < kLanes) copy_tail(p, all, count);
}
// The low bytes of the lanes.
inline __m128i narrow_bytes(Ints x) {
  const __m256i byte = _mm256_set1_epi32(255);
  // Packing works within 128-bit halves, so that the bytes come out in the order
  // 0-3 8-11 0-3 8-11 | 4-7 12-15 4-7 12-15.
  const __m256i words =
      _mm256_packus_epi32(_mm256_and_si256(x.lo, byte), _mm256_and_si256(x.hi, byte));
  const __m256i bytes = _mm256_packus_epi16(words, words);
  return _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}
inline void store_bytes(uint8_t* p, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bytes(x));
}

inline int32_t sum_bytes(const uint8_t* p, int count) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 32) {
    sum = _mm256_add_epi64(sum, _mm256_sad_epu8(load_ints(p + i), _mm256_setzero_si256()));
  }
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  return _mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 2);
}

// Sixteen parts of 16 bytes, each in both halves of its register.
struct ByteTable {
  __m256i part[16];
};
inline ByteTable load_byte_table(const uint8_t* table) {
  ByteTable out;
  for (int i = 0; i < 16; i++)
    out.part[i] = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
  return out;
}
inline void map_bytes(const ByteTable& table, uint8_t* p, int count) {
  for (int i = 0; i < count; i += 32) {
    // After 16 * part is subtracted, an index of this part is below 16. Adding 112 keeps it below
    // 128 and saturates every other index to 128 or more, for which the shuffle gives 0.
    __m256i index = load_ints(p + i), mapped = _mm256_setzero_si256();
    for (int part = 0; part < 16; part++) {
      const __m256i low = _mm256_adds_epu8(index, _mm256_set1_epi8(112));
      mapped = _mm256_or_si256(mapped, _mm256_shuffle_epi8(table.part[part], low));
      index = _mm256_sub_epi8(index, _mm256_set1_epi8(16));
    }
    store_ints(p + i, mapped);
  }
}

inline Floats first_lanes(Floats x, int count, Floats rest) {
  if (count == kLanes) return x;
  const Ints mask = first_mask(count);
  return {_mm256_blendv_ps(rest.lo, x.lo, _mm256_castsi256_ps(mask.lo)),
          _mm256_blendv_ps(rest.hi, x.hi, _mm256_castsi256_ps(mask.hi))};
}
inline Ints first_lanes(Ints x, int count, Ints rest) {
  if (count == kLanes) return x;
  const Ints mask = first_mask(count);
  return {_mm256_blendv_epi8(rest.lo, x.lo, mask.lo), _mm256_blendv_epi8(rest.hi, x.hi, mask.hi)};
}

inline Floats operator+(Floats a, Floats b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline Floats operator-(Floats a, Floats b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline Floats operator*(Floats a, Floats b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline Floats operator/(Floats a, Floats b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Floats fnma(Floats a, Floats b, Floats c) {
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
inline Floats max(Floats a, Floats b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline Floats min(Floats a, Floats b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline Floats abs(Floats a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

inline Ints operator+(Ints a, Ints b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
inline Ints operator-(Ints a, Ints b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
inline Ints operator*(Ints a, Ints b) {
  return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
inline Ints operator&(Ints a, Ints b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
inline Ints operator|(Ints a, Ints b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
template <int kShift>
inline Ints shift_left(Ints a) {
  return {_mm256_slli_epi32(a.lo, kShift), _mm256_slli_epi32(a.hi, kShift)};
}
template <int kShift>
inline Ints shift_right(Ints a) {
  return {_mm256_srli_epi32(a.lo, kShift), _mm256_srli_epi32(a.hi, kShift)};
}

inline Ints round_to_int(Floats x) {
  return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)};
}
inline Floats to_float(Ints x) {
  return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}
inline Floats bits_to_float(Ints x) {
  return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)};
}
inline Ints float_to_bits(Floats x) {
  return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}

inline Floats select_equal(Ints a, Ints b, Floats x, Floats y) {
  const __m256 lo = _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.lo, b.lo));
  const __m256 hi = _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.hi, b.hi));
  return {_mm256_blendv_ps(y.lo, x.lo, lo), _mm256_blendv_ps(y.hi, x.hi, hi)};
}

inline float sum_lanes(Floats x) {
  const __m256 eight = _mm256_add_ps(x.lo, x.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline int32_t sum_lanes(Ints x) {
  const __m256i eight = _mm256_add_epi32(x.lo, x.hi);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_srli_si128(four, 8));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_srli_si128(four, 4)));
}
inline float max_lanes(Floats x) {
  const __m256 eight = _mm256_max_ps(x.lo, x.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Each part has 16 entries: their high bytes in the lower half, their low bytes in the upper.
struct Table64 {
  __m256i parts[4];
};
inline Table64 load_table(const uint16_t* entries) {
  const __m256i split = _mm256_setr_epi8(1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14,  //
                                         1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14);
  Table64 table;
  for (int i = 0; i < 4; i++) {
    const __m256i bytes = _mm256_shuffle_epi8(load_ints(entries + 16 * i), split);
    table.parts[i] = _mm256_permute4x64_epi64(bytes, 0b11011000);
  }
  return table;
}
inline void store_lookup(const Table64& table, Ints index, uint8_t* hi, uint8_t* lo) {
  const __m256i bytes = _mm256_broadcastsi128_si256(narrow_bytes(index));
  __m256i value = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    // The shuffle gives 0 where bit 7 is set. After this saturating addition that is everywhere
    // except for 0..15.
    const __m256i from = _mm256_sub_epi8(bytes, _mm256_set1_epi8(static_cast<char>(16 * i)));
    const __m256i within = _mm256_adds_epu8(from, _mm256_set1_epi8(0x70));
    value = _mm256_or_si256(value, _mm256_shuffle_epi8(table.parts[i], within));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(hi), _mm256_castsi256_si128(value));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lo), _mm256_extracti128_si256(value, 1));
}

// Half a 64-byte line of packed weights (unpack-inl.h).
constexpr int kByteLanes = 32;
struct Bytes {
  __m256i v;
};
inline Bytes load_line(const uint8_t* p) {
  return {load_ints(p)};
}
inline void store_line(int8_t* p, Bytes x) {
  store_ints(p, x.v);
}
inline Bytes operator|(Bytes a, Bytes b) {
  return {_mm256_or_si256(a.v, b.v)};
}
inline Bytes minus(Bytes a, int8_t b) {
  return {_mm256_sub_epi8(a.v, _mm256_set1_epi8(b))};
}
template <int kFrom, int kWidth, int kTo>
inline Bytes move_bits(Bytes a) {
  constexpr int8_t kMask = ((1 << kWidth) - 1) << kTo;
  __m256i x = a.v;
  if constexpr (kFrom > kTo) x = _mm256_srli_epi16(x, kFrom - kTo);
  if constexpr (kFrom < kTo) x = _mm256_slli_epi16(x, kTo - kFrom);
  return {_mm256_and_si256(x, _mm256_set1_epi8(kMask))};
}

}  // namespace
}  // namespace vitrun
