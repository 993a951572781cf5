// Every kernel but the GEMM, written once over the 16-lane vector of an ISA (vec_*-inl.h). The
// contracts are in kernels.h, and the order of float operations here is part of them. Only the
// first ISA of a family includes this file; the others share what it compiles (family-inl.h).
// Helpers are static, because the vector types that they take are local to that ISA's file.
#pragma once

#include "kernels/pack.h"
#include "kernels/shared/family-inl.h"
#include "kernels/shared/lanes-inl.h"

namespace vitrun::VITRUN_FAMILY {

// Quantizes a row of n columns and returns the sum of its codes. value(j, count) returns columns
// j .. j + count.
template <class Value>
static inline int32_t quantize_row(int n, const LaneQuantizer& quantizer, uint8_t* codes,
                                   Value value) {
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

// The scale, its inverse and the zero point that a RowQuantizer gives a row.
struct RowGrid {
  float scale, inverse;
  int32_t zero;
};

// Rounds halves to the even neighbour, as round_to_int() does; |x| <= 2^22.
static inline int32_t round_to_even(float x) {
  const float shifted = x + 0x1.8p23f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

// The grid of a row with values from -below to above.
static inline RowGrid row_grid(float below, float above, int bits) {
  const int margin = group_margin(bits);
  const float scale = (below + above) / static_cast<float>(255 - 2 * margin);
  if (!(scale >= 0x1p-126f)) return {0, 0, margin};
  const float inverse = 1 / scale;
  if (inverse == 0) return {scale, 0, margin};
  return {scale, inverse, margin + round_to_even(below * inverse)};
}

// The parts of a row of c columns, each of which has 16 groups, and their columns.
struct RowParts {
  int count, columns;

  RowParts(int c, RowQuantizer q) : count(1), columns(c) {
    if (q.bits == 8) return;
    count = group_parts(c, q.group);
    columns = (round_up(c, kLanes) / kLanes + count - 1) / count * kLanes;
  }
};

// Writes the codes of n columns, those of 16 groups, without padding; returns their sums. `low` is
// min(0, x_j) of each group and `high` max(0, x_j).
static inline Ints quantize_part(const float* x, int n, const RowGrid& grid, int bits, Floats low,
                                 Floats high, uint8_t* codes) {
  const Floats inverse = splat(grid.inverse), lowest = low * inverse;
  const GroupSteps steps(lowest, high * inverse - lowest, static_cast<float>((1 << bits) - 1));
  const Ints step = round_to_int(steps.step), zero = splat(grid.zero);
  Ints sum = splat(0);
  for_lanes(
      n, VITRUN_LANES(j, count) {
        const Ints multiple = steps.multiple(load(x + j, count) * inverse);
        const Ints code = first_lanes(zero + step * multiple, count, splat(0));
        store_bytes(codes + j, code);
        sum = sum + code;
      });
  return sum;
}

// Row i of `to`. value(j, count) returns columns j .. j + count of what is rounded and leaves them
// at x + j.
template <class Value>
static inline void quantize_by_range(const float* x, int c, const RowCodes& to, int64_t i,
                                     Value value) {
  const RowParts parts(c, to.quantizer);
  Floats low[kMaxDepth / kLanes / kLeastGroup], high[kMaxDepth / kLanes / kLeastGroup];
  Floats below = splat(0.0f), above = below;
  for (int p = 0, first = 0; first < c; p++, first += parts.columns) {
    Floats least = splat(0.0f), most = least;
    for_lanes(
        c - first < parts.columns ? c - first : parts.columns, VITRUN_LANES(j, count) {
          const Floats v = first_lanes(value(first + j, count), count, splat(0.0f));
          least = min(v, least);
          most = max(v, most);
        });
    low[p] = least;
    high[p] = most;
    below = max(splat(0.0f) - least, below);
    above = max(most, above);
  }
  const RowGrid grid = row_grid(max_lanes(below), max_lanes(above), to.quantizer.bits);
  uint8_t* codes = to.codes + i * to.code_stride;
  to.scale[i] = grid.scale;
  to.zero[i] = grid.zero;
  if (to.quantizer.bits == 8 || grid.inverse == 0) {
    to.code_sum[i] = quantize_row(
        c, LaneQuantizer({grid.inverse, grid.zero, 255}), codes,
        VITRUN_LANES(j, count) { return load(x + j, count); });
    return;
  }
  Ints sum = splat(0);
  for (int p = 0, first = 0; first < c; p++, first += parts.columns) {
    const int n = c - first < parts.columns ? c - first : parts.columns;
    sum =
        sum + quantize_part(x + first, n, grid, to.quantizer.bits, low[p], high[p], codes + first);
  }
  clear_padding(codes, c);
  to.code_sum[i] = sum_lanes(sum);
}

void quantize_rows_by_range(const float* x, int64_t x_stride, int32_t m, int32_t c,
                            const Activation* activation, const RowCodes& caller) {
  // A local, because the compiler must assume that a store of codes changes the caller's.
  const RowCodes to = caller;
  if (!activation) {
    for (int32_t i = 0; i < m; i++, x += x_stride) {
      quantize_by_range(
          x, c, to, i, VITRUN_LANES(j, count) { return load(x + j, count); });
    }
    return;
  }
  float active[kMaxDepth];
  with_activation(*activation, [&](auto function) {
    for (int32_t i = 0; i < m; i++, x += x_stride) {
      quantize_by_range(
          active, c, to, i, VITRUN_LANES(j, count) {
            const Floats v = function(load(x + j, count));
            store(active + j, v, count);
            return v;
          });
    }
  });
}

// Rows are processed in blocks, one phase after another. Each phase of a row ends in a chain of
// dependent operations; those of the other rows in the block overlap with it.
constexpr int kRowBlock = 4;

// Calls f(first, rows) for each block of at most kRowBlock of m rows.
template <class F>
static inline void for_row_blocks(int32_t m, F f) {
  for (int32_t i = 0; i < m; i += kRowBlock) f(i, m - i < kRowBlock ? m - i : kRowBlock);
}

struct RowMoments {
  float mean, inv_deviation;
};

// The sum over the lanes, divided by the c elements of the row.
static inline float lane_mean(Floats sum, int c) {
  return sum_lanes(sum) / static_cast<float>(c);
}

static inline float row_mean(const float* x, int c) {
  Floats sum = splat(0.0f);
  for_lanes(
      c, VITRUN_LANES(j, count) { sum = sum + load(x + j, count); });
  return lane_mean(sum, c);
}

static inline float row_variance(const float* x, int c, float mean) {
  Floats squares = splat(0.0f);
  for_lanes(
      c, VITRUN_LANES(j, count) {
        const Floats d = first_lanes(load(x + j, count) - splat(mean), count, splat(0.0f));
        squares = fma(d, d, squares);
      });
  return lane_mean(squares, c);
}

// moments [rows], of the rows from `first` on.
static inline void block_moments(const NormArgs& args, int32_t first, int rows,
                                 RowMoments* moments) {
  const float* x = args.x + first * args.x_stride;
  for (int r = 0; r < rows; r++) moments[r].mean = row_mean(x + r * args.x_stride, args.c);
  for (int r = 0; r < rows; r++) {
    const float variance = row_variance(x + r * args.x_stride, args.c, moments[r].mean);
    moments[r].inv_deviation = 1.0f / __builtin_sqrtf(variance + args.eps);
  }
}

// Columns j .. j + count of LayerNorm's y, from the row x.
static inline Floats normalized(const NormArgs& args, const float* x, const RowMoments& moments,
                                int j, int count) {
  const Floats unit = (load(x + j, count) - splat(moments.mean)) * splat(moments.inv_deviation);
  return fma(unit, load(args.gamma + j, count), load(args.beta + j, count));
}

void layernorm_rows(const NormArgs& args, float* y, int64_t y_stride) {
  for_row_blocks(args.m, [&](int32_t first, int rows) {
    RowMoments moments[kRowBlock];
    block_moments(args, first, rows, moments);
    for (int r = 0; r < rows; r++) {
      const float* x = args.x + (first + r) * args.x_stride;
      float* out = y + (first + r) * y_stride;
      const float* residual =
          args.residual ? args.residual + (first + r) * args.residual_stride : nullptr;
      for_lanes(
          args.c, VITRUN_LANES(j, count) {
            Floats value = normalized(args, x, moments[r], j, count);
            if (residual) value = value + load(residual + j, count);
            store(out + j, value, count);
          });
    }
  });
}

void layernorm_codes_rows(const NormArgs& args, Quantizer q, uint8_t* codes, int64_t code_stride,
                          int32_t* code_sum) {
  const LaneQuantizer quantizer(q);
  for_row_blocks(args.m, [&](int32_t first, int rows) {
    RowMoments moments[kRowBlock];
    block_moments(args, first, rows, moments);
    for (int r = 0; r < rows; r++) {
      const int32_t i = first + r;
      const float* x = args.x + i * args.x_stride;
      code_sum[i] = quantize_row(
          args.c, quantizer, codes + i * code_stride,
          VITRUN_LANES(j, count) { return normalized(args, x, moments[r], j, count); });
    }
  });
}

void layernorm_rows_by_range(const NormArgs& args, const RowCodes& caller) {
  const RowCodes to = caller;
  float row[kMaxDepth];
  for_row_blocks(args.m, [&](int32_t first, int rows) {
    RowMoments moments[kRowBlock];
    block_moments(args, first, rows, moments);
    for (int r = 0; r < rows; r++) {
      const float* x = args.x + (first + r) * args.x_stride;
      quantize_by_range(
          row, args.c, to, first + r, VITRUN_LANES(j, count) {
            const Floats v = normalized(args, x, moments[r], j, count);
            store(row + j, v, count);
            return v;
          });
    }
  });
}

// 1 / max(|x|, eps), of n columns.
static inline float inverse_length(const float* x, int n, float eps) {
  Floats squares = splat(0.0f);
  for_lanes(
      n, VITRUN_LANES(j, count) {
        const Floats v = load(x + j, count);
        squares = fma(v, v, squares);
      });
  const float length = __builtin_sqrtf(sum_lanes(squares));
  return 1.0f / (length > eps ? length : eps);
}

void quantize_column_rows(const ColumnArgs& caller, ColumnQuantizers q, uint8_t* codes,
                          int64_t code_stride) {
  // A local, because the compiler must assume that a store of codes changes the caller's.
  const ColumnArgs args = caller;
  const int group = args.group ? args.group : args.c;
  for (int32_t i = 0; i < args.m; i++)
    for (int32_t first = 0; first < args.c; first += group) {
      const float* x = args.x + i * args.x_stride + first;
      const float* weight = args.weight + (args.group ? first : 0);
      uint8_t* out = codes + i * code_stride + first;
      const Floats scale = splat(args.group ? inverse_length(x, group, args.eps) : 1.0f);
      for_lanes(
          group, VITRUN_LANES(j, count) {
            Floats value = load(x + j, count);
            if (args.group) value = value * scale * load(weight + j, count);
            store_bytes(out + j, LaneQuantizer(q, first + j, count)(value), count);
          });
    }
}

// Writes the codes of one head in one row, [n]; its grid is that of `column`.
static inline void quantize_head(const float* x, int n, int bits, const ColumnQuantizers& grids,
                                 int column, uint8_t* codes) {
  const Floats inverse = splat(grids.inv_scale[column]);
  const Floats lowest = splat(grids.low[column]), highest = splat(grids.high[column]);
  const Ints zero = splat(grids.zero[column]);
  const auto place = VITRUN_LANES(j, count) {
    return min(max(load(x + j, count) * inverse, lowest), highest);
  };
  Floats below = splat(0.0f), above = below;
  for_lanes(
      n, VITRUN_LANES(j, count) {
        const Floats t = first_lanes(place(j, count), count, splat(0.0f));
        below = max(splat(0.0f) - t, below);
        above = max(t, above);
      });
  const Floats low = splat(-max_lanes(below)), span = splat(max_lanes(above)) - low;
  const GroupSteps steps(low, span, static_cast<float>((1 << bits) - 1));
  const Ints step = round_to_int(steps.step);
  for_lanes(
      n, VITRUN_LANES(j, count) {
        store_bytes(codes + j, zero + step * steps.multiple(place(j, count)), count);
      });
}

void quantize_head_rows(const HeadArgs& caller, uint8_t* codes, int64_t code_stride) {
  // A local, because the compiler must assume that a store of codes changes the caller's.
  const HeadArgs args = caller;
  for (int32_t i = 0; i < args.m; i++) {
    for (int32_t column = 0; column < args.heads * args.head_dim; column += args.head_dim) {
      quantize_head(args.x + i * args.x_stride + column, args.head_dim, args.bits, args.grids,
                    column, codes + i * code_stride + column);
    }
  }
}

// Columns j .. j + count of the scores of row i.
static inline Floats score_lanes(const SoftmaxArgs& args, int64_t i, int j, int count) {
  const Ints product = load(args.products + i * args.product_stride + j, count);
  const Floats x = to_float(product + load(args.offset + j, count));
  Floats v = args.bias ? fma(x, splat(args.unit), load(args.bias + i * args.bias_stride + j, count))
                       : x * splat(args.unit);
  if (args.region) {
    const Ints row = splat(int32_t{args.row_region[i]});
    v = v + select_equal(load_bytes(args.region + j, count), row, splat(0.0f), splat(-100.0f));
  }
  return v;
}

// Puts the scores of row i in the place of its products and returns the highest.
static inline float place_scores(const SoftmaxArgs& args, int64_t i) {
  int32_t* const row = args.products + i * args.product_stride;
  const Floats lowest = splat(-__builtin_inff());
  Floats top = lowest;
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats v = score_lanes(args, i, j, count);
        store(row + j, float_to_bits(v), count);
        top = max(top, first_lanes(v, count, lowest));
      });
  return max_lanes(top);
}

// Columns j .. j + count of what is in the place of the products of row i.
static inline Floats placed(const SoftmaxArgs& args, int64_t i, int j, int count) {
  return bits_to_float(load(args.products + i * args.product_stride + j, count));
}

// Returns the sum of exp(v_j - highest) over row i and, with kPlace, puts them in the place of the
// scores.
template <bool kPlace>
static inline float sum_of_exponentials(const SoftmaxArgs& args, int64_t i, float highest) {
  int32_t* const row = args.products + i * args.product_stride;
  Floats sum = splat(0.0f);
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats e = exp_nonpositive(placed(args, i, j, count) - splat(highest));
        if constexpr (kPlace) store(row + j, float_to_bits(e), count);
        sum = sum + first_lanes(e, count, splat(0.0f));
      });
  return sum_lanes(sum);
}

// The following write rows of codes without padding, from the scores unless they say otherwise.
// `highest` is the largest v_j of a row.

// kRows rows from row i on, side by side, because each carry waits for the one before.
template <int kRows>
static inline void store_carried(const SoftmaxArgs& args, int64_t i, const float* highest) {
  const Floats top = splat_float(1 << args.bits) - splat(1 + 1 / 64.0f);
  Floats carry[kRows];
  for (int r = 0; r < kRows; r++) carry[r] = splat(0.0f);
  uint8_t* codes = args.hi + i * args.plane_stride;
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        for (int r = 0; r < kRows; r++) {
          const Floats e = exp_nonpositive(placed(args, i + r, j, count) - splat(highest[r]));
          const Floats value = fma(e, top, carry[r]);
          const Ints code = round_to_int(value);
          carry[r] = value - to_float(code);
          store_bytes(codes + r * args.plane_stride + j, first_lanes(code, count, splat(0)));
        }
      });
}

// `offset` is the c of kernels.h.
static inline void store_log_planes(const SoftmaxArgs& args, const Table64& table, int64_t i,
                                    float highest, float offset) {
  // Entry 63 of `table` is 0 at every width, as is the value of all codes beyond, so that codes can
  // be clamped to 63.
  const Floats step = splat(args.rate * 0x1.715476p0f);  // rate log2 e
  const Floats limit = splat_float(args.bits < 6 ? 1 << args.bits : 63);
  uint8_t* hi = args.hi + i * args.plane_stride;
  uint8_t* lo = args.lo + i * args.plane_stride;
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats distance = splat(highest) - placed(args, i, j, count);
        const Floats code = fma(distance, step, splat(offset));
        const Ints index = round_to_int(min(max(code, splat(0.0f)), limit));
        store_lookup(table, first_lanes(index, count, splat(63)), hi + j, lo + j);
      });
}

// Exponentials are in the place of the scores; `sum` is theirs.
static inline void store_step_planes(const SoftmaxArgs& args, const StepCodes& steps, int64_t i,
                                     float sum) {
  const float inverse = 1 / sum;
  const Floats fine_codes = splat_float(steps.fine_codes);
  const Floats coarse_top = splat_float(steps.coarse_top);
  uint8_t* hi = args.hi + i * args.plane_stride;
  uint8_t* lo = args.lo + i * args.plane_stride;
  for_lanes(
      args.n, VITRUN_LANES(j, count) {
        const Floats p = placed(args, i, j, count) * splat(inverse);
        const Ints fine = round_to_int(min(p * splat(steps.fine_inverse), fine_codes));
        const Ints coarse = round_to_int(min(p * splat(steps.coarse_inverse), coarse_top));
        const Floats above =
            max(to_float(coarse * splat(steps.coarse_value)), splat_float(steps.fine_top));
        const Ints value = round_to_int(select_equal(fine, splat(steps.fine_codes), above,
                                                     to_float(fine * splat(steps.fine_value))));
        store_bytes(hi + j, first_lanes(shift_right<8>(value), count, splat(0)));
        store_bytes(lo + j, first_lanes(value, count, splat(0)));
      });
}

// Clears the padding of rows first .. first + rows of a plane and sums them.
static inline void finish_plane(const SoftmaxArgs& args, int32_t first, int rows, uint8_t* plane,
                                int32_t* sum) {
  for (int32_t i = first; i < first + rows; i++) {
    uint8_t* row = plane + i * args.plane_stride;
    clear_padding(row, args.n);
    sum[i] = sum_bytes(row, round_up(args.n, kDepthAlign));
  }
}

// store(first, rows, highest) writes the codes of a block of rows.
template <class Store>
static inline void softmax_planes(const SoftmaxArgs& args, int planes, Store store) {
  for_row_blocks(args.m, [&](int32_t first, int rows) {
    float highest[kRowBlock];
    for (int r = 0; r < rows; r++) highest[r] = place_scores(args, first + r);
    store(first, rows, highest);
    finish_plane(args, first, rows, args.hi, args.hi_sum);
    if (planes == 2) finish_plane(args, first, rows, args.lo, args.lo_sum);
  });
}

static inline void softmax_log_codes(const SoftmaxArgs& args) {
  alignas(64) uint16_t entries[64] = {};
  const int used = args.bits < 6 ? 1 << args.bits : 63;
  for (int k = 0; k < used; k++) entries[k] = args.table[k];
  const Table64 table = load_table(entries);
  softmax_planes(args, 2, [&](int32_t first, int rows, const float* highest) {
    float sum[kRowBlock] = {};
    const bool by_sum = args.codes == ProbabilityCodes::kLogBySum;
    for (int r = 0; r < rows && !by_sum; r++)
      sum[r] = sum_of_exponentials<false>(args, first + r, highest[r]);
    for (int r = 0; r < rows; r++) {
      const float offset = by_sum ? 0 : args.rate * log2_one(sum[r] * args.scale);
      store_log_planes(args, table, first + r, highest[r], offset);
    }
  });
}

void softmax_codes_rows(const SoftmaxArgs& caller) {
  // A local, because the compiler must assume that a store of bytes changes the caller's.
  const SoftmaxArgs args = caller;
  if (args.codes == ProbabilityCodes::kCarried)
    return softmax_planes(args, 1, [&](int32_t first, int rows, const float* highest) {
      int r = 0;
      for (; r + 2 <= rows; r += 2) store_carried<2>(args, first + r, highest + r);
      if (r < rows) store_carried<1>(args, first + r, highest + r);
    });
  if (args.codes != ProbabilityCodes::kSteps) return softmax_log_codes(args);
  const StepCodes steps = *args.steps;
  softmax_planes(args, 2, [&](int32_t first, int rows, const float* highest) {
    float sum[kRowBlock];
    for (int r = 0; r < rows; r++) sum[r] = sum_of_exponentials<true>(args, first + r, highest[r]);
    for (int r = 0; r < rows; r++) store_step_planes(args, steps, first + r, sum[r]);
  });
}

void sum_code_rows(const uint8_t* codes, int64_t stride, int32_t m, int32_t k, int32_t* sum) {
  for (int32_t i = 0; i < m; i++) sum[i] = sum_bytes(codes + i * stride, round_up(k, kDepthAlign));
}

void map_code_rows(const uint8_t* table, int32_t m, int32_t k, uint8_t* codes, int64_t stride,
                   int32_t* sum) {
  const ByteTable bytes = load_byte_table(table);
  const int padded = round_up(k, kDepthAlign);
  for (int32_t i = 0; i < m; i++) {
    uint8_t* row = codes + i * stride;
    map_bytes(bytes, row, padded);
    for (int32_t j = k; j < padded; j++) row[j] = 0;
    sum[i] = sum_bytes(row, padded);
  }
}

// The four bytes of column c at depths 4r .. 4r+3 of an 8-bit panel are at 64 r + 4 c (pack.h).
void pack_row_panels(const uint8_t* codes, int64_t stride, int32_t n, int32_t k, int32_t bits,
                     uint8_t* panels, int32_t* column_sum) {
  const Ints middle = splat(1 << (bits - 1));
  const int depth = round_up(k, kDepthAlign);
  for (int32_t c = 0; c < round_up(n, kColumns); c++) {
    uint8_t* column = panels + int64_t{c / kColumns} * kColumns * depth + c % kColumns * 4;
    Ints sum = splat(0);
    for (int d = 0; d < depth; d += kLanes) {
      Ints code = splat(0);
      if (c < n && d < k) {
        const int count = k - d < kLanes ? k - d : kLanes;
        code = first_lanes(load_bytes(codes + c * stride + d, count) - middle, count, code);
      }
      uint8_t bytes[kLanes];
      store_bytes(bytes, code);
      for (int i = 0; i < 4; i++) std::memcpy(column + (d / 4 + i) * 64, bytes + 4 * i, 4);
      sum = sum + code;
    }
    column_sum[c] = sum_lanes(sum);
  }
}

// Packs `count` columns of codes [k, count] as one panel; column_sum [16].
static inline void pack_column_panel(const uint8_t* codes, int64_t stride, int32_t k, int count,
                                     Ints middle, uint8_t* panel, int32_t* column_sum) {
  const Ints byte = splat(255);
  Ints sum = splat(0);
  for (int32_t d = 0; d < round_up(k, kDepthAlign); d += 4, panel += 64) {
    Ints code[4];
    for (int i = 0; i < 4; i++) {
      code[i] = splat(0);
      if (d + i < k)
        code[i] = first_lanes(load_bytes(codes + (d + i) * stride, count) - middle, count, code[i]);
      sum = sum + code[i];
    }
    const Ints word = (code[0] & byte) | shift_left<8>(code[1] & byte) |
                      shift_left<16>(code[2] & byte) | shift_left<24>(code[3]);
    std::memcpy(panel, &word, 64);
  }
  store(column_sum, sum, kLanes);
}

void pack_column_panels(const uint8_t* codes, int64_t stride, int32_t k, int32_t n, int32_t bits,
                        uint8_t* panels, int32_t* column_sum) {
  const Ints middle = splat(1 << (bits - 1));
  for_lanes(
      n, VITRUN_LANES(c, count) {
        uint8_t* panel = panels + int64_t{c} * round_up(k, kDepthAlign);
        pack_column_panel(codes + c, stride, k, count, middle, panel, column_sum + c);
      });
}

// Calls write(i, j, count, value) with columns j .. j + count of row i of the planes' sum; lo may
// be null.
template <class Write>
static inline void sum_plane_rows_of(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                                     const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero,
                                     const float* scale, int32_t m, int32_t n, Write write) {
  for (int32_t i = 0; i < m; i++, hi += raw_stride) {
    const Floats unit = splat(scale[i]);
    const Ints hi_zero = splat(zero) * splat(hi_sum[i]);
    if (!lo) {
      for_lanes(
          n, VITRUN_LANES(j, count) {
            const Floats high = to_float(load(hi + j, count) - hi_zero);
            write(i, j, count, unit * high);
          });
      continue;
    }
    const Ints lo_zero = splat(zero) * splat(lo_sum[i]);
    for_lanes(
        n, VITRUN_LANES(j, count) {
          const Floats high = to_float(load(hi + j, count) - hi_zero);
          const Floats low = to_float(load(lo + j, count) - lo_zero);
          write(i, j, count, unit * fma(splat(256.0f), high, low));
        });
    lo += raw_stride;
  }
}

void combine_plane_rows(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                        const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero,
                        const float* scale, int32_t m, int32_t n, Quantizer q, uint8_t* codes,
                        int64_t code_stride) {
  const LaneQuantizer quantizer(q);
  sum_plane_rows_of(
      hi, lo, raw_stride, hi_sum, lo_sum, zero, scale, m,
      n, [&](int32_t i, int j, int count, Floats value) __attribute__((always_inline)) {
        store_bytes(codes + i * code_stride + j, quantizer(value), count);
      });
}

void sum_plane_rows(const int32_t* hi, const int32_t* lo, int64_t raw_stride, const int32_t* hi_sum,
                    const int32_t* lo_sum, int32_t zero, const float* scale, int32_t m, int32_t n,
                    float* y, int64_t y_stride) {
  sum_plane_rows_of(
      hi, lo, raw_stride, hi_sum, lo_sum, zero, scale, m,
      n, [&](int32_t i, int j, int count, Floats value) __attribute__((always_inline)) {
        store(y + i * y_stride + j, value, count);
      });
}

template <class Function>
static inline void map_floats(const float* x, int64_t count, float* y, Function function) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int lanes = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    store(y + i, function(load(x + i, lanes)), lanes);
  }
}

void exp_floats(const float* x, int64_t count, float* y) {
  map_floats(x, count, y, [](Floats v) { return exp_lanes(v); });
}

void activate_floats(Activation type, const float* x, int64_t count, float* y) {
  with_activation(type, [&](auto activation) { map_floats(x, count, y, activation); });
}

}  // namespace vitrun::VITRUN_FAMILY
