// Every kernel but the GEMM, written once over an ISA's 16-lane vector (vec_*-inl.h). The contracts
// are in kernels.h; the order of operations here is part of them.
#pragma once

#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/vecmath-inl.h"

namespace vitrun {
namespace {

// Calls f(j, count) for the columns j .. j + count of a row of n: constant count 16, then the tail.
template <class F>
inline void for_lanes(int n, F f) {
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) f(j, kLanes);
  if (j < n) f(j, n - j);
}
#define VITRUN_LANES(j, count) [&](int j, int count) __attribute__((always_inline))

// A Quantizer in lanes; see kernels.h for what it computes and why NaN gives code 0.
struct LaneQuantizer {
  Floats inv_scale, low, high;
  Ints zero;

  explicit LaneQuantizer(Quantizer q)
      : inv_scale(splat(q.inv_scale)),
        low(splat(static_cast<float>(-q.zero))),
        high(splat(static_cast<float>(q.max_code - q.zero))),
        zero(splat(q.zero)) {}

  Ints operator()(Floats x) const {
    return round_to_int(min(max(x * inv_scale, low), high)) + zero;
  }
};

// Clears the codes of a row between round_up(n, 16) and round_up(n, 32).
inline void clear_padding(uint8_t* codes, int n) {
  const int written = round_up(n, kLanes);
  if (written < round_up(n, kDepthAlign)) store_bytes(codes + written, splat(0));
}

// Quantizes the row whose columns j .. j + count are value(j, count); returns the sum of the codes.
template <class Value>
inline int32_t quantize_row(int n, const LaneQuantizer& quantizer, uint8_t* codes, Value value) {
  Ints sum = splat(0);
  for_lanes(
      n, VITRUN_LANES(j, count) {
        const Ints code = first_lanes(quantizer(value(j, count)), count, splat(0));
        store_bytes(codes + j, code);
        sum = sum + code;
      });
  clear_padding(codes, n);
  return sum_lanes(sum);
}

void quantize_rows(const float* x, int64_t x_stride, int32_t m, int32_t c, Quantizer q,
                   uint8_t* codes, int64_t code_stride, int32_t* code_sum) {
  const LaneQuantizer quantizer(q);
  for (int32_t i = 0; i < m; i++) {
    const float* row = x + i * x_stride;
    code_sum[i] = quantize_row(
        c, quantizer, codes + i * code_stride,
        VITRUN_LANES(j, count) { return load(row + j, count); });
  }
}

struct RowMoments {
  Floats mean, inv_deviation;
};

inline RowMoments row_moments(const float* x, int c, float eps) {
  Floats sum = splat(0.0f);
  for_lanes(
      c, VITRUN_LANES(j, count) { sum = sum + load(x + j, count); });
  const float mean = sum_lanes(sum) / static_cast<float>(c);
  Floats squares = splat(0.0f);
  for_lanes(
      c, VITRUN_LANES(j, count) {
        const Floats d = first_lanes(load(x + j, count) - splat(mean), count, splat(0.0f));
        squares = fma(d, d, squares);
      });
  const float variance = sum_lanes(squares) / static_cast<float>(c);
  return {splat(mean), splat(1.0f / __builtin_sqrtf(variance + eps))};
}

inline Floats normalized(const NormArgs& args, const float* x, const RowMoments& moments, int j,
                         int count) {
  return fma((load(x + j, count) - moments.mean) * moments.inv_deviation,
             load(args.gamma + j, count), load(args.beta + j, count));
}

void layernorm_rows(const NormArgs& args, float* y, int64_t y_stride) {
  for (int32_t i = 0; i < args.m; i++) {
    const float* x = args.x + i * args.x_stride;
    float* out = y + i * y_stride;
    const RowMoments moments = row_moments(x, args.c, args.eps);
    for_lanes(
        args.c,
        VITRUN_LANES(j, count) { store(out + j, normalized(args, x, moments, j, count), count); });
  }
}

void layernorm_codes_rows(const NormArgs& args, Quantizer q, uint8_t* codes, int64_t code_stride,
                          int32_t* code_sum) {
  const LaneQuantizer quantizer(q);
  for (int32_t i = 0; i < args.m; i++) {
    const float* x = args.x + i * args.x_stride;
    const RowMoments moments = row_moments(x, args.c, args.eps);
    code_sum[i] = quantize_row(
        args.c, quantizer, codes + i * code_stride,
        VITRUN_LANES(j, count) { return normalized(args, x, moments, j, count); });
  }
}

// Row i of scores + bias + mask, columns j .. j + count.
inline Floats masked_scores(const SoftmaxArgs& args, int64_t i, int j, int count) {
  Floats v = load(args.scores + i * args.score_stride + j, count);
  if (args.bias) v = v + load(args.bias + i * args.bias_stride + j, count);
  if (args.region) {
    const Ints row = splat(int32_t{args.row_region[i]});
    v = v + select_equal(load_bytes(args.region + j, count), row, splat(0.0f), splat(-100.0f));
  }
  return v;
}

inline void softmax_codes_row(const SoftmaxArgs& args, const Table64& table, int64_t i) {
  const Floats lowest = splat(-__builtin_inff());
  Floats top = lowest;
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        top = max(top, first_lanes(masked_scores(args, i, j, count), count, lowest));
      });
  const Floats highest = splat(max_lanes(top));
  Floats sum = splat(0.0f);
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats e = exp_lanes(masked_scores(args, i, j, count) - highest);
        sum = sum + first_lanes(e, count, splat(0.0f));
      });
  const Floats offset = splat(2.0f * log2_one(sum_lanes(sum) * args.scale));
  // Codes from 63 on all mean 0, as does 2^bits: the clamp to [0, 2^bits] may stop at 63.
  const Floats limit = splat(args.bits < 6 ? static_cast<float>(1 << args.bits) : 63.0f);
  uint8_t* hi = args.hi + i * args.plane_stride;
  uint8_t* lo = args.lo + i * args.plane_stride;
  Ints hi_sum = splat(0), lo_sum = splat(0);
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats distance = highest - masked_scores(args, i, j, count);
        const Floats code = fma(distance, splat(0x1.715476p1f), offset);
        const Ints index = round_to_int(min(max(code, splat(0.0f)), limit));
        const Ints value = first_lanes(lookup(table, index), count, splat(0));
        const Ints value_hi = shift_right<8>(value), value_lo = value & splat(255);
        store_bytes(hi + j, value_hi);
        store_bytes(lo + j, value_lo);
        hi_sum = hi_sum + value_hi;
        lo_sum = lo_sum + value_lo;
      });
  clear_padding(hi, args.n);
  clear_padding(lo, args.n);
  args.hi_sum[i] = sum_lanes(hi_sum);
  args.lo_sum[i] = sum_lanes(lo_sum);
}

void softmax_codes_rows(const SoftmaxArgs& args) {
  alignas(64) uint16_t entries[64] = {};
  const int used = args.bits < 6 ? 1 << args.bits : 63;
  for (int k = 0; k < used; k++) entries[k] = args.table[k];
  const Table64 table = load_table(entries);
  for (int32_t i = 0; i < args.m; i++) softmax_codes_row(args, table, i);
}

// In an 8-bit panel the four bytes of column c at depths 4r .. 4r+3 stand at 64 r + 4 c (pack.h).
void pack_row_panels(const float* x, int64_t x_stride, int32_t n, int32_t k, Quantizer q,
                     uint8_t* panels, int32_t* column_sum) {
  const LaneQuantizer quantizer(q);
  const Ints middle = splat((q.max_code + 1) / 2);
  const int depth = round_up(k, kDepthAlign);
  for (int32_t c = 0; c < round_up(n, kColumns); c++) {
    uint8_t* column = panels + int64_t{c / kColumns} * kColumns * depth + c % kColumns * 4;
    Ints sum = splat(0);
    for (int d = 0; d < depth; d += kLanes) {
      Ints code = splat(0);
      if (c < n && d < k) {
        const int count = k - d < kLanes ? k - d : kLanes;
        code = quantizer(load(x + c * x_stride + d, count)) - middle;
        code = first_lanes(code, count, splat(0));
      }
      uint8_t bytes[kLanes];
      store_bytes(bytes, code);
      for (int i = 0; i < 4; i++) std::memcpy(column + (d / 4 + i) * 64, bytes + 4 * i, 4);
      sum = sum + code;
    }
    column_sum[c] = sum_lanes(sum);
  }
}

void pack_column_panels(const float* x, int64_t x_stride, int32_t k, int32_t n, Quantizer q,
                        uint8_t* panels, int32_t* column_sum) {
  const LaneQuantizer quantizer(q);
  const Ints middle = splat((q.max_code + 1) / 2), byte = splat(255);
  for (int32_t c = 0; c < n; c += kColumns) {
    const int count = n - c < kColumns ? n - c : kColumns;
    Ints sum = splat(0);
    for (int32_t d = 0; d < round_up(k, kDepthAlign); d += 4) {
      Ints code[4];
      for (int i = 0; i < 4; i++) {
        code[i] = splat(0);
        if (d + i >= k) continue;
        const Floats row = load(x + (d + i) * x_stride + c, count);
        code[i] = first_lanes(quantizer(row) - middle, count, splat(0));
        sum = sum + code[i];
      }
      const Ints word = (code[0] & byte) | shift_left<8>(code[1] & byte) |
                        shift_left<16>(code[2] & byte) | shift_left<24>(code[3]);
      std::memcpy(panels, &word, 64);
      panels += 64;
    }
    store(column_sum + c, sum, kLanes);
  }
}

void combine_plane_rows(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                        const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero, float scale,
                        int32_t m, int32_t n, float* y, int64_t y_stride) {
  for (int32_t i = 0; i < m; i++) {
    const Ints hi_zero = splat(zero) * splat(hi_sum[i]), lo_zero = splat(zero) * splat(lo_sum[i]);
    const int32_t *hi_row = hi + i * raw_stride, *lo_row = lo + i * raw_stride;
    float* out = y + i * y_stride;
    for_lanes(
        n, VITRUN_LANES(j, count) {
          const Floats high = to_float(load(hi_row + j, count) - hi_zero);
          const Floats low = to_float(load(lo_row + j, count) - lo_zero);
          store(out + j, splat(scale) * fma(splat(256.0f), high, low), count);
        });
  }
}

template <class Function>
inline void map_floats(const float* x, int64_t count, float* y, Function function) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int lanes = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    store(y + i, function(load(x + i, lanes)), lanes);
  }
}

void exp_floats(const float* x, int64_t count, float* y) {
  map_floats(x, count, y, [](Floats v) { return exp_lanes(v); });
}

void gelu_floats(const float* x, int64_t count, float* y) {
  map_floats(x, count, y, [](Floats v) { return gelu_lanes(v); });
}

// The table of an ISA: its GEMM and the functions above.
constexpr Kernels make_kernels(const char* name, void (*gemm)(const GemmArgs&)) {
  return {name,
          gemm,
          layernorm_rows,
          layernorm_codes_rows,
          quantize_rows,
          softmax_codes_rows,
          pack_row_panels,
          pack_column_panels,
          combine_plane_rows,
          exp_floats,
          gelu_floats};
}

}  // namespace
}  // namespace vitrun
