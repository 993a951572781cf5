// The 16-lane vector in plain C++. vecmath-inl.h, lanes-inl.h and rowops-inl.h are written over it,
// and its functions define what the functions of the same name do in vec_avx2-inl.h,
// vec_avx512-inl.h and vec_neon-inl.h. An ISA file includes one of these headers; all names are
// local to that file, so that no code built for an ISA is linked into common code.
#pragma once

#include <cstdint>
#include <cstring>

#define VITRUN_FAMILY scalar_rows  // family-inl.h explains it

namespace vitrun {
namespace {

constexpr int kLanes = 16;

struct Floats {
  float v[kLanes];
};
struct Ints {
  int32_t v[kLanes];
};

// The vector whose lane i is op(i).
template <class Vector, class Op>
inline Vector each_lane(Op op) {
  Vector out;
  for (int i = 0; i < kLanes; i++) out.v[i] = op(i);
  return out;
}

inline Floats splat(float x) {
  return each_lane<Floats>([=](int) { return x; });
}
inline Ints splat(int32_t x) {
  return each_lane<Ints>([=](int) { return x; });
}

// Reads `count` (1..16) elements and nothing beyond. The other lanes are +0.
inline Floats load(const float* p, int count) {
  return each_lane<Floats>([=](int i) { return i < count ? p[i] : 0.0f; });
}
inline Ints load(const int32_t* p, int count) {
  return each_lane<Ints>([=](int i) { return i < count ? p[i] : 0; });
}
inline Ints load_bytes(const uint8_t* p, int count) {
  return each_lane<Ints>([=](int i) { return i < count ? int32_t{p[i]} : 0; });
}

// Writes `count` (1..16) elements and nothing beyond.
inline void store(float* p, Floats x, int count) {
  for (int i = 0; i < count; i++) p[i] = x.v[i];
}
inline void store(int32_t* p, Ints x, int count) {
  for (int i = 0; i < count; i++) p[i] = x.v[i];
}
// Writes the low bytes of all 16 lanes.
inline void store_bytes(uint8_t* p, Ints x) {
  for (int i = 0; i < kLanes; i++) p[i] = static_cast<uint8_t>(x.v[i]);
}

// The sum of `count` bytes. count is a multiple of 32.
inline int32_t sum_bytes(const uint8_t* p, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; i++) sum += p[i];
  return sum;
}

// A table of 256 bytes. map_bytes() replaces each of `count` bytes by its entry; count is a
// multiple of 32.
struct ByteTable {
  const uint8_t* entry;
};
inline ByteTable load_byte_table(const uint8_t* table) {
  return {table};
}
inline void map_bytes(const ByteTable& table, uint8_t* p, int count) {
  for (int i = 0; i < count; i++) p[i] = table.entry[p[i]];
}

// The first `count` lanes of x, the others from `rest`.
inline Floats first_lanes(Floats x, int count, Floats rest) {
  return each_lane<Floats>([&](int i) { return i < count ? x.v[i] : rest.v[i]; });
}
inline Ints first_lanes(Ints x, int count, Ints rest) {
  return each_lane<Ints>([&](int i) { return i < count ? x.v[i] : rest.v[i]; });
}

inline Floats operator+(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats operator-(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] - b.v[i]; });
}
inline Floats operator*(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats operator/(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] / b.v[i]; });
}
// fma is a * b + c and fnma is c - a * b, each rounded once.
inline Floats fma(Floats a, Floats b, Floats c) {
  return each_lane<Floats>([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline Floats fnma(Floats a, Floats b, Floats c) {
  return each_lane<Floats>([&](int i) { return __builtin_fmaf(-a.v[i], b.v[i], c.v[i]); });
}
// max is a > b ? a : b and min is a < b ? a : b, which give b if either is NaN or both are zero.
inline Floats max(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats min(Floats a, Floats b) {
  return each_lane<Floats>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats abs(Floats a) {
  return each_lane<Floats>([&](int i) { return __builtin_fabsf(a.v[i]); });
}

// Integer arithmetic on lanes is modulo 2^32.
inline int32_t wrap(uint32_t x) {
  return static_cast<int32_t>(x);
}
inline uint32_t bits_of(int32_t x) {
  return static_cast<uint32_t>(x);
}

inline Ints operator+(Ints a, Ints b) {
  return each_lane<Ints>([&](int i) { return wrap(bits_of(a.v[i]) + bits_of(b.v[i])); });
}
inline Ints operator-(Ints a, Ints b) {
  return each_lane<Ints>([&](int i) { return wrap(bits_of(a.v[i]) - bits_of(b.v[i])); });
}
inline Ints operator*(Ints a, Ints b) {
  return each_lane<Ints>([&](int i) { return wrap(bits_of(a.v[i]) * bits_of(b.v[i])); });
}
inline Ints operator&(Ints a, Ints b) {
  return each_lane<Ints>([&](int i) { return a.v[i] & b.v[i]; });
}
inline Ints operator|(Ints a, Ints b) {
  return each_lane<Ints>([&](int i) { return a.v[i] | b.v[i]; });
}
template <int kShift>
inline Ints shift_left(Ints a) {
  return each_lane<Ints>([&](int i) { return wrap(bits_of(a.v[i]) << kShift); });
}
// Shifts in zeros from the left.
template <int kShift>
inline Ints shift_right(Ints a) {
  return each_lane<Ints>([&](int i) { return wrap(bits_of(a.v[i]) >> kShift); });
}

// Rounds halves to the even neighbour; |x| <= 2^22. Adding 1.5 * 2^23 leaves the rounded integer in
// the low bits.
inline Ints round_to_int(Floats x) {
  return each_lane<Ints>([&](int i) {
    const float shifted = x.v[i] + 0x1.8p23f;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
  });
}
inline Floats to_float(Ints x) {
  return each_lane<Floats>([&](int i) { return static_cast<float>(x.v[i]); });
}
inline Floats bits_to_float(Ints x) {
  Floats out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}
inline Ints float_to_bits(Floats x) {
  Ints out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}

// a == b ? x : y in each lane.
inline Floats select_equal(Ints a, Ints b, Floats x, Floats y) {
  return each_lane<Floats>([&](int i) { return a.v[i] == b.v[i] ? x.v[i] : y.v[i]; });
}

// Combines lanes l and l+8, then l and l+4, l and l+2, l and l+1.
template <class Vector, class Op>
inline auto fold_lanes(Vector x, Op op) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) x.v[i] = op(x.v[i], x.v[i + half]);
  }
  return x.v[0];
}
inline float sum_lanes(Floats x) {
  return fold_lanes(x, [](float a, float b) { return a + b; });
}
inline int32_t sum_lanes(Ints x) {
  return fold_lanes(x, [](int32_t a, int32_t b) { return wrap(bits_of(a) + bits_of(b)); });
}
inline float max_lanes(Floats x) {
  return fold_lanes(x, [](float a, float b) { return a > b ? a : b; });
}

// A table of 64 16-bit values. store_lookup() writes the high and the low bytes of the 16 values
// whose indices, 0..63, are in the lanes.
struct Table64 {
  const uint16_t* entries;
};
inline Table64 load_table(const uint16_t* entries) {
  return {entries};
}
inline void store_lookup(const Table64& table, Ints index, uint8_t* hi, uint8_t* lo) {
  for (int i = 0; i < kLanes; i++) {
    const int value = table.entries[index.v[i] & 63];
    hi[i] = static_cast<uint8_t>(value >> 8);
    lo[i] = static_cast<uint8_t>(value & 255);
  }
}

}  // namespace
}  // namespace vitrun
