// The 16-lane vector in AVX-512 F, BW, DQ and VL. vec_scalar-inl.h defines what each function does.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || \
    !defined(__AVX512VL__) || !defined(__FMA__)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

#define VITRUN_FAMILY avx512_rows  // family-inl.h explains it

namespace vitrun {
namespace {

constexpr int kLanes = 16;

struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};

// The lanes below `count`.
inline __mmask16 first_mask(int count) {
  return _cvtu32_mask16((1u << count) - 1);
}

inline Floats splat(float x) {
  return {_mm512_set1_ps(x)};
}
inline Ints splat(int32_t x) {
  return {_mm512_set1_epi32(x)};
}

inline Floats load(const float* p, int count) {
  if (count == kLanes) return {_mm512_loadu_ps(p)};
  return {_mm512_maskz_loadu_ps(first_mask(count), p)};
}
inline Ints load(const int32_t* p, int count) {
  if (count == kLanes) return {_mm512_loadu_si512(p)};
  return {_mm512_maskz_loadu_epi32(first_mask(count), p)};
}
inline Ints load_bytes(const uint8_t* p, int count) {
  return {_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_mask(count), p))};
}

inline void store(float* p, Floats x, int count) {
  if (count == kLanes) {
    _mm512_storeu_ps(p, x.v);
  } else {
    _mm512_mask_storeu_ps(p, first_mask(count), x.v);
  }
}
inline void store(int32_t* p, Ints x, int count) {
  if (count == kLanes) {
    _mm512_storeu_si512(p, x.v);
  } else {
    _mm512_mask_storeu_epi32(p, first_mask(count), x.v);
  }
}
inline void store_bytes(uint8_t* p, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}

inline int32_t sum_bytes(const uint8_t* p, int count) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i));
    sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
  }
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  return _mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 2);
}

// Sixteen parts of 16 bytes, each in all four quarters of its register.
struct ByteTable {
  __m512i part[16];
};
inline ByteTable load_byte_table(const uint8_t* table) {
  ByteTable out;
  for (int i = 0; i < 16; i++)
    out.part[i] =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
  return out;
}
inline __m512i map_vector(const ByteTable& table, __m512i code) {
  const __m512i high = _mm512_and_si512(code, _mm512_set1_epi8('\xf0'));
  const __m512i low = _mm512_and_si512(code, _mm512_set1_epi8(0x0f));
  __m512i mapped = _mm512_shuffle_epi8(table.part[0], low);
  for (int part = 1; part < 16; part++) {
    const __mmask64 here =
        _mm512_cmpeq_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(16 * part)));
    mapped = _mm512_mask_shuffle_epi8(mapped, here, table.part[part], low);
  }
  return mapped;
}
inline void map_bytes(const ByteTable& table, uint8_t* p, int count) {
  int i = 0;
  for (; i + 64 <= count; i += 64)
    _mm512_storeu_si512(p + i, map_vector(table, _mm512_loadu_si512(p + i)));
  if (i == count) return;
  const __m256i last = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + i),
                      _mm512_castsi512_si256(map_vector(table, _mm512_castsi256_si512(last))));
}

inline Floats first_lanes(Floats x, int count, Floats rest) {
  return count == kLanes ? x : Floats{_mm512_mask_mov_ps(rest.v, first_mask(count), x.v)};
}
inline Ints first_lanes(Ints x, int count, Ints rest) {
  return count == kLanes ? x : Ints{_mm512_mask_mov_epi32(rest.v, first_mask(count), x.v)};
}

inline Floats operator+(Floats a, Floats b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Floats operator-(Floats a, Floats b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Floats operator*(Floats a, Floats b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Floats operator/(Floats a, Floats b) {
  return {_mm512_div_ps(a.v, b.v)};
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline Floats fnma(Floats a, Floats b, Floats c) {
  return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
}
inline Floats max(Floats a, Floats b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline Floats min(Floats a, Floats b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline Floats abs(Floats a) {
  return {_mm512_abs_ps(a.v)};
}

inline Ints operator+(Ints a, Ints b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
inline Ints operator-(Ints a, Ints b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
inline Ints operator*(Ints a, Ints b) {
  return {_mm512_mullo_epi32(a.v, b.v)};
}
inline Ints operator&(Ints a, Ints b) {
  return {_mm512_and_si512(a.v, b.v)};
}
inline Ints operator|(Ints a, Ints b) {
  return {_mm512_or_si512(a.v, b.v)};
}
template <int kShift>
inline Ints shift_left(Ints a) {
  return {_mm512_slli_epi32(a.v, kShift)};
}
template <int kShift>
inline Ints shift_right(Ints a) {
  return {_mm512_srli_epi32(a.v, kShift)};
}

inline Ints round_to_int(Floats x) {
  return {_mm512_cvtps_epi32(x.v)};
}
inline Floats to_float(Ints x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
inline Floats bits_to_float(Ints x) {
  return {_mm512_castsi512_ps(x.v)};
}
inline Ints float_to_bits(Floats x) {
  return {_mm512_castps_si512(x.v)};
}

inline Floats select_equal(Ints a, Ints b, Floats x, Floats y) {
  return {_mm512_mask_mov_ps(y.v, _mm512_cmpeq_epi32_mask(a.v, b.v), x.v)};
}

inline float sum_lanes(Floats x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline int32_t sum_lanes(Ints x) {
  return _mm512_reduce_add_epi32(x.v);
}
inline float max_lanes(Floats x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

struct Table64 {
  __m512i low, high;  // entries 0..31 and 32..63
};
inline Table64 load_table(const uint16_t* entries) {
  return {_mm512_loadu_si512(entries), _mm512_loadu_si512(entries + 32)};
}
inline void store_lookup(const Table64& table, Ints index, uint8_t* hi, uint8_t* lo) {
  const __m512i words = _mm512_permutex2var_epi16(table.low, index.v, table.high);
  // `split` has in each quarter the four high bytes, then the four low ones; `planes` has all high
  // bytes, then all low ones.
  const __m512i split = _mm512_shuffle_epi8(words, _mm512_set4_epi32(0, 0, 0x0C080400, 0x0D090501));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i planes = _mm512_permutexvar_epi32(order, split);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(hi), _mm512_castsi512_si128(planes));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lo), _mm512_extracti32x4_epi32(planes, 1));
}

// A 64-byte line of packed weights (unpack-inl.h).
constexpr int kByteLanes = 64;
struct Bytes {
  __m512i v;
};
inline Bytes load_line(const uint8_t* p) {
  return {_mm512_loadu_si512(p)};
}
inline void store_line(int8_t* p, Bytes x) {
  _mm512_storeu_si512(p, x.v);
}
inline Bytes operator|(Bytes a, Bytes b) {
  return {_mm512_or_si512(a.v, b.v)};
}
inline Bytes minus(Bytes a, int8_t b) {
  return {_mm512_sub_epi8(a.v, _mm512_set1_epi8(b))};
}
template <int kFrom, int kWidth, int kTo>
inline Bytes move_bits(Bytes a) {
  constexpr int8_t kMask = ((1 << kWidth) - 1) << kTo;
  __m512i x = a.v;
  if constexpr (kFrom > kTo) x = _mm512_srli_epi16(x, kFrom - kTo);
  if constexpr (kFrom < kTo) x = _mm512_slli_epi16(x, kTo - kFrom);
  return {_mm512_and_si512(x, _mm512_set1_epi8(kMask))};
}

}  // namespace
}  // namespace vitrun
