// The 16-lane vector as four NEON registers (aarch64). vec_scalar-inl.h defines what each function
// does.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "kernels/shared/tail-inl.h"

#define VITRUN_FAMILY neon_rows  // family-inl.h explains it

namespace vitrun {
namespace {

constexpr int kLanes = 16;
constexpr int kParts = 4;

struct Floats {
  float32x4_t v[kParts];
};
struct Ints {
  int32x4_t v[kParts];
};

// The vector whose part i is op(i).
template <class Vector, class Op>
inline Vector each_part(Op op) {
  return {op(0), op(1), op(2), op(3)};
}

inline Floats splat(float x) {
  return each_part<Floats>([=](int) { return vdupq_n_f32(x); });
}
inline Ints splat(int32_t x) {
  return each_part<Ints>([=](int) { return vdupq_n_s32(x); });
}

inline Floats load(const float* p, int count) {
  float padded[kLanes];
  if (count < kLanes) {
    std::memset(padded, 0, sizeof padded);
    copy_tail(padded, p, count);
    p = padded;
  }
  return each_part<Floats>([=](int i) { return vld1q_f32(p + 4 * i); });
}
inline Ints load(const int32_t* p, int count) {
  int32_t padded[kLanes];
  if (count < kLanes) {
    std::memset(padded, 0, sizeof padded);
    copy_tail(padded, p, count);
    p = padded;
  }
  return each_part<Ints>([=](int i) { return vld1q_s32(p + 4 * i); });
}
// Sixteen bytes, zero-extended to int32 lanes.
inline Ints widen_bytes(uint8x16_t x) {
  const uint16x8_t lo = vmovl_u8(vget_low_u8(x)), hi = vmovl_u8(vget_high_u8(x));
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo))),
          vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(lo))),
          vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi))),
          vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(hi)))};
}
// The low byte of each lane.
inline uint8x16_t narrow_bytes(Ints x) {
  const uint16x8_t lo = vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x.v[0])),
                                     vmovn_u32(vreinterpretq_u32_s32(x.v[1])));
  const uint16x8_t hi = vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x.v[2])),
                                     vmovn_u32(vreinterpretq_u32_s32(x.v[3])));
  return vcombine_u8(vmovn_u16(lo), vmovn_u16(hi));
}
inline Ints load_bytes(const uint8_t* p, int count) {
  uint8_t padded[kLanes] = {};
  if (count < kLanes) {
    copy_tail(padded, p, count);
    p = padded;
  }
  return widen_bytes(vld1q_u8(p));
}

inline void store(float* p, Floats x, int count) {
  float all[kLanes];
  float* to = count == kLanes ? p : all;
  for (int i = 0; i < kParts; i++) vst1q_f32(to + 4 * i, x.v[i]);
  if (count < kLanes) copy_tail(p, all, count);
}
inline void store(int32_t* p, Ints x, int count) {
  int32_t all[kLanes];
  int32_t* to = count == kLanes ? p : all;
  for (int i = 0; i < kParts; i++) vst1q_s32(to + 4 * i, x.v[i]);
  if (count < kLanes) copy_tail(p, all, count);
}
inline void store_bytes(uint8_t* p, Ints x) {
  vst1q_u8(p, narrow_bytes(x));
}

inline int32_t sum_bytes(const uint8_t* p, int count) {
  uint32x4_t sum = vdupq_n_u32(0);
  for (int i = 0; i < count; i += 16) sum = vpadalq_u16(sum, vpaddlq_u8(vld1q_u8(p + i)));
  return vaddvq_s32(vreinterpretq_s32_u32(sum));
}

// Four parts of 64 bytes.
struct ByteTable {
  uint8x16x4_t part[4];
};
inline ByteTable load_byte_table(const uint8_t* table) {
  return {{vld1q_u8_x4(table), vld1q_u8_x4(table + 64), vld1q_u8_x4(table + 128),
           vld1q_u8_x4(table + 192)}};
}
inline void map_bytes(const ByteTable& table, uint8_t* p, int count) {
  for (int i = 0; i < count; i += 16) {
    // For an index beyond 63, vqtbl gives 0 and vqtbx keeps the byte that was there.
    uint8x16_t index = vld1q_u8(p + i);
    uint8x16_t mapped = vqtbl4q_u8(table.part[0], index);
    for (int part = 1; part < 4; part++) {
      index = vsubq_u8(index, vdupq_n_u8(64));
      mapped = vqtbx4q_u8(mapped, table.part[part], index);
    }
    vst1q_u8(p + i, mapped);
  }
}

// All bits set in the lanes of part i that are below `count`, none in the others.
inline uint32x4_t first_mask(int i, int count) {
  constexpr int32_t kIndex[] = {0, 1, 2, 3};
  return vcltq_s32(vld1q_s32(kIndex), vdupq_n_s32(count - 4 * i));
}
inline Floats first_lanes(Floats x, int count, Floats rest) {
  if (count == kLanes) return x;
  return each_part<Floats>(
      [&](int i) { return vbslq_f32(first_mask(i, count), x.v[i], rest.v[i]); });
}
inline Ints first_lanes(Ints x, int count, Ints rest) {
  if (count == kLanes) return x;
  return each_part<Ints>([&](int i) { return vbslq_s32(first_mask(i, count), x.v[i], rest.v[i]); });
}

inline Floats operator+(Floats a, Floats b) {
  return each_part<Floats>([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline Floats operator-(Floats a, Floats b) {
  return each_part<Floats>([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline Floats operator*(Floats a, Floats b) {
  return each_part<Floats>([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline Floats operator/(Floats a, Floats b) {
  return each_part<Floats>([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return each_part<Floats>([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
inline Floats fnma(Floats a, Floats b, Floats c) {
  return each_part<Floats>([&](int i) { return vfmsq_f32(c.v[i], a.v[i], b.v[i]); });
}
// vmaxq and vminq are not used, because they treat NaN and signed zeros differently.
inline float32x4_t part_max(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline Floats max(Floats a, Floats b) {
  return each_part<Floats>([&](int i) { return part_max(a.v[i], b.v[i]); });
}
inline Floats min(Floats a, Floats b) {
  return each_part<Floats>(
      [&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Floats abs(Floats a) {
  return each_part<Floats>([&](int i) { return vabsq_f32(a.v[i]); });
}

inline Ints operator+(Ints a, Ints b) {
  return each_part<Ints>([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
inline Ints operator-(Ints a, Ints b) {
  return each_part<Ints>([&](int i) { return vsubq_s32(a.v[i], b.v[i]); });
}
inline Ints operator*(Ints a, Ints b) {
  return each_part<Ints>([&](int i) { return vmulq_s32(a.v[i], b.v[i]); });
}
inline Ints operator&(Ints a, Ints b) {
  return each_part<Ints>([&](int i) { return vandq_s32(a.v[i], b.v[i]); });
}
inline Ints operator|(Ints a, Ints b) {
  return each_part<Ints>([&](int i) { return vorrq_s32(a.v[i], b.v[i]); });
}
template <int kShift>
inline Ints shift_left(Ints a) {
  return each_part<Ints>([&](int i) { return vshlq_n_s32(a.v[i], kShift); });
}
template <int kShift>
inline Ints shift_right(Ints a) {
  return each_part<Ints>([&](int i) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v[i]), kShift));
  });
}

inline Ints round_to_int(Floats x) {
  return each_part<Ints>([&](int i) { return vcvtnq_s32_f32(x.v[i]); });
}
inline Floats to_float(Ints x) {
  return each_part<Floats>([&](int i) { return vcvtq_f32_s32(x.v[i]); });
}
inline Floats bits_to_float(Ints x) {
  return each_part<Floats>([&](int i) { return vreinterpretq_f32_s32(x.v[i]); });
}
inline Ints float_to_bits(Floats x) {
  return each_part<Ints>([&](int i) { return vreinterpretq_s32_f32(x.v[i]); });
}

inline Floats select_equal(Ints a, Ints b, Floats x, Floats y) {
  return each_part<Floats>(
      [&](int i) { return vbslq_f32(vceqq_s32(a.v[i], b.v[i]), x.v[i], y.v[i]); });
}

inline float sum_lanes(Floats x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline int32_t sum_lanes(Ints x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[2]), vaddq_s32(x.v[1], x.v[3])));
}
inline float max_lanes(Floats x) {
  const float32x4_t four = part_max(part_max(x.v[0], x.v[2]), part_max(x.v[1], x.v[3]));
  const float32x4_t two = part_max(four, vextq_f32(four, four, 2));
  const float a = vgetq_lane_f32(two, 0), b = vgetq_lane_f32(two, 1);
  return a > b ? a : b;
}

// The high and the low bytes of the 64 entries.
struct Table64 {
  uint8x16x4_t hi, lo;
};
inline Table64 load_table(const uint16_t* entries) {
  Table64 table;
  for (int i = 0; i < 4; i++) {
    const uint8x16x2_t bytes = vld2q_u8(reinterpret_cast<const uint8_t*>(entries + 16 * i));
    table.lo.val[i] = bytes.val[0];
    table.hi.val[i] = bytes.val[1];
  }
  return table;
}
inline void store_lookup(const Table64& table, Ints index, uint8_t* hi, uint8_t* lo) {
  const uint8x16_t i = narrow_bytes(index);
  vst1q_u8(hi, vqtbl4q_u8(table.hi, i));
  vst1q_u8(lo, vqtbl4q_u8(table.lo, i));
}

// A quarter of a 64-byte line of packed weights (unpack-inl.h).
constexpr int kByteLanes = 16;
struct Bytes {
  uint8x16_t v;
};
inline Bytes load_line(const uint8_t* p) {
  return {vld1q_u8(p)};
}
inline void store_line(int8_t* p, Bytes x) {
  vst1q_s8(p, vreinterpretq_s8_u8(x.v));
}
inline Bytes operator|(Bytes a, Bytes b) {
  return {vorrq_u8(a.v, b.v)};
}
inline Bytes minus(Bytes a, int8_t b) {
  return {vsubq_u8(a.v, vdupq_n_u8(static_cast<uint8_t>(b)))};
}
template <int kFrom, int kWidth, int kTo>
inline Bytes move_bits(Bytes a) {
  uint8x16_t x = a.v;
  if constexpr (kFrom > kTo) x = vshrq_n_u8(x, kFrom - kTo);
  if constexpr (kFrom < kTo) x = vshlq_n_u8(x, kTo - kFrom);
  constexpr uint8_t kMask = ((1 << kWidth) - 1) << kTo;
  return {vandq_u8(x, vdupq_n_u8(kMask))};
}

}  // namespace
}  // namespace vitrun
