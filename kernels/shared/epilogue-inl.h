// The epilogue of every GEMM: turns the exact int32 sums of a tile into what GemmArgs::epilogue
// asks for.
#pragma once

#include "kernels/shared/family-inl.h"
#include "kernels/shared/lanes-inl.h"

namespace vitrun {
namespace {

// The per-column terms of 16 columns.
struct ColumnTerms {
  Floats scale, bias;
  Ints offset, zero;

  ColumnTerms(const GemmArgs& g, int column)
      : scale(load(g.scale + column, kLanes)),
        bias(load(g.bias + column, kLanes)),
        offset(load(g.offset + column, kLanes)),
        zero(load(g.zero + column, kLanes)) {}

  // GemmArgs' value of the 16 columns of one row.
  Floats value(Ints sum, int32_t row_sum) const {
    return fma(scale, to_float(sum + offset - zero * splat(row_sum)), bias);
  }
  // The same of a row with a scale and zero point of its own.
  Floats value(Ints sum, int32_t row_sum, float row_scale, int32_t row_zero) const {
    const Ints product = sum + offset * splat(row_zero) - zero * splat(row_sum);
    return fma(scale * splat(row_scale), to_float(product), bias);
  }
};

// Writes the codes of rows row .. row + rows of a panel, of which the first `count` columns are not
// padding. value(i) returns the 16 columns of row `row` + i.
template <class Value>
inline void finish_codes_panel(const GemmArgs& g, int row, int rows, int column, int count,
                               Value value) {
  const int64_t stride = g.code_stride;
  uint8_t* codes = g.codes + row * stride + column;
  if (g.epilogue == Epilogue::kActCodes) {
    const LaneQuantizer quantizer(g.quantizer);
    with_activation(g.activation, [&](auto activation) {
      for (int i = 0; i < rows; i++) {
        const Ints code = quantizer(activation(value(i)));
        store_bytes(codes + i * stride, first_lanes(code, count, splat(0)));
      }
    });
  } else {
    const LaneQuantizer quantizer(g.quantizers, column);
    for (int i = 0; i < rows; i++) store_bytes(codes + i * stride, quantizer(value(i)), count);
  }
}

// Writes rows row .. row + rows of the 16 columns from `column` on, as finish_codes_panel() does or
// in float.
template <class Value>
inline void finish_values(const GemmArgs& g, int row, int rows, int column, Value value) {
  const int count = g.n - column < kColumns ? g.n - column : kColumns;
  if (g.epilogue == Epilogue::kCodes || g.epilogue == Epilogue::kActCodes) {
    finish_codes_panel(g, row, rows, column, count, value);
    return;
  }
  const int64_t stride = g.y_stride;
  float* y = g.y + row * stride + column;
  if (g.epilogue == Epilogue::kFloat) {
    for (int i = 0; i < rows; i++) store(y + i * stride, value(i), count);
    return;
  }
  const float* residual = g.residual + row * stride + column;
  for (int i = 0; i < rows; i++) {
    store(y + i * stride, value(i) + load(residual + i * stride, count), count);
  }
}

// The same from the exact sums; those of row `row` + i are at sums + i * sum_stride.
inline void finish_panel(const GemmArgs& g, int row, int rows, int column, const int32_t* sums,
                         int sum_stride) {
  if (g.epilogue == Epilogue::kInt32) {
    int32_t* raw = g.raw + row * g.raw_stride + column;
    for (int i = 0; i < rows; i++) {
      store(raw + i * g.raw_stride, load(sums + i * sum_stride, kLanes), kLanes);
    }
    return;
  }
  const ColumnTerms terms(g, column);
  // Locals, because the compiler must assume that a store of codes changes g.
  const int32_t* row_sum = g.row_sum + row;
  if (!g.row_scale) {
    finish_values(g, row, rows, column, [&](int i) {
      return terms.value(load(sums + i * sum_stride, kLanes), row_sum[i]);
    });
    return;
  }
  const float* row_scale = g.row_scale + row;
  const int32_t* row_zero = g.row_zero + row;
  finish_values(g, row, rows, column, [&](int i) {
    return terms.value(load(sums + i * sum_stride, kLanes), row_sum[i], row_scale[i], row_zero[i]);
  });
}

// Whether a tile may write its results straight from its registers. It may not write codes, because
// the constants of quantizing need those registers, nor floats of which some before `end` are
// padding.
inline bool finishes_in_registers(const GemmArgs& g, int end) {
  if (g.epilogue == Epilogue::kInt32) return true;
  return g.epilogue != Epilogue::kCodes && g.epilogue != Epilogue::kActCodes && end <= g.n;
}

// Writes the padding and the row sums of kActCodes, once all columns of the rows are written.
inline void finish_codes(const GemmArgs& g, int row, int rows) {
  if (g.epilogue != Epilogue::kActCodes) return;
  for (int i = row; i < row + rows; i++) {
    uint8_t* codes = g.codes + i * g.code_stride;
    clear_padding(codes, g.n);
    g.code_sum[i] = sum_bytes(codes, round_up(g.n, kDepthAlign));
  }
}

}  // namespace
}  // namespace vitrun
