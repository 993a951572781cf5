// The kernel contract. An ISA is one const table of function pointers; scalar.cc is the
// specification and every other table returns the same bits. Kernels are stateless: no allocation,
// no threads, no globals written, no STL in the ISA files; the caller owns every buffer, splits the
// work and may call one table from many threads at once.
//
// Exactness. Integer sums are exact in int32 (modular; the limits below keep true values inside).
// Float work is fixed to the last bit: explicit fma where written fma, -ffp-contract=off, and sums
// over a row use 16 lanes: lane l adds elements l, l+16, l+32, ... in order (missing ones count as
// +0), then lanes l and l+8 are added, then l and l+4, l+2, l+1.
//
// Padding. Code rows are round_up(k, kDepthAlign) bytes apart at least and their padding holds 0;
// codes are written with that padding. Per-column arrays hold round_up(n, kColumns) entries, the
// padding 0. Float and int32 rows need none: nothing beyond column n is read or written.
// No pointer needs more than its element's natural alignment, but panels are 64-byte aligned.
//
// Stack. A GEMM unpacks weights into a buffer of up to 700 KB on the stack and touches only the
// pages that its k needs.
#pragma once

#include <cstdint>

namespace vitrun {

constexpr int kColumns = 16;     // output columns of a panel
constexpr int kDepthAlign = 32;  // depth of a panel block; see pack.h for the layout
// Limits of k and of an activation's zero point. With 8-bit codes |q_a - z_a| <= 511 and
// |q_w - z_w| <= 255, so |sum_k (q_a - z_a)(q_w - z_w)| <= 16384 * 511 * 255 = 2,134,917,120 <
// 2^31: the true sum of every legal product fits int32.
constexpr int kMaxDepth = 16384;
constexpr int kMinZero = -256, kMaxZero = 511;

// Always inlined, so that no copy built for one ISA is linked into code for another.
[[gnu::always_inline]] constexpr int round_up(int x, int to) {
  return (x + to - 1) / to * to;
}

// Uniform quantizer, method.md § 2: code = clamp(round(x * inv_scale) + zero, 0, max_code),
// rounding half to even; evaluated as v = x * inv_scale, clamped to [-zero, max_code - zero] before
// rounding, so that infinities saturate; NaN gives code 0. inv_scale is the float nearest to
// 1/scale.
struct Quantizer {
  float inv_scale = 1;
  int32_t zero = 0;
  int32_t max_code = 255;
};

// A Quantizer for each column, in arrays as GemmArgs has them: low = -zero, high = max_code - zero.
struct ColumnQuantizers {
  const float* inv_scale;
  const float* low;
  const float* high;
  const int32_t* zero;
};

enum class Epilogue : int32_t {
  kFloat,      // y = value
  kAdd,        // y = value + residual
  kCodes,      // codes = quantize(value) by column; nothing beyond column n is written, no sums
  kGeluCodes,  // codes = quantize(gelu(value)) with padding, code_sum = their sum over the row
  kInt32,      // raw = sum, nothing else; scale, offset, zero and bias are not read
};

// C[m, n] = sum_k a[m, k] * w[n, k], a unsigned codes, w signed codes unpacked from the panels'
// bits. value = fma(scale[n], float(C + offset[n] - zero[n] * row_sum[m]), bias[n]), which is the
// exact integer Linear of method.md § 2 with scale = s_a s_w, offset = K z_a z_w' - z_a sum_k q_w',
// zero = z_w'.
//
// a_bits and range_bits are promises that never change the result: an ISA without an int8 dot
// product is the faster the smaller they are.
struct GemmArgs {
  // Any m >= 1, n >= 1, 1 <= k <= kMaxDepth. Codes are read up to round_up(k, kDepthAlign).
  int32_t m, n, k;
  const uint8_t* a;        // [m] rows of codes, a[m, k] < 2^a_bits
  int64_t a_stride;        // bytes between rows
  const int32_t* row_sum;  // [m] sum of each row's codes
  const uint8_t* panels;   // packed weights (pack.h)
  int32_t bits;            // of a packed weight code, 3..8
  int32_t a_bits;          // 1..8
  int32_t range_bits;  // -2^(range_bits - 1) <= w < 2^(range_bits - 1); 0 says no more than bits
  const float* scale;  // [n], as the next three
  const int32_t* offset;
  const int32_t* zero;
  const float* bias;
  Epilogue epilogue;
  // kFloat, kAdd: rows y_stride floats apart; residual has the same stride and may be y itself.
  float* y;
  int64_t y_stride;
  const float* residual;
  // kCodes, kGeluCodes: rows code_stride bytes apart; kGeluCodes sets the padding up to
  // round_up(n, kDepthAlign) to 0.
  uint8_t* codes;
  int64_t code_stride;
  int32_t* code_sum;            // kGeluCodes: [m]
  Quantizer quantizer;          // kGeluCodes
  ColumnQuantizers quantizers;  // kCodes
  // kInt32: rows raw_stride int32 apart.
  int32_t* raw;
  int64_t raw_stride;
};

// LayerNorm over c columns: mean = sum16(x) / c; var = sum16((x - mean)^2 by fma) / c;
// y = fma((x - mean) * (1 / sqrt(var + eps)), gamma, beta).
struct NormArgs {
  int32_t m, c;
  const float* x;  // rows x_stride floats apart
  int64_t x_stride;
  const float* gamma;  // [c]
  const float* beta;   // [c]
  float eps;
};

constexpr float kMinLogRate = 0.5f, kMaxLogRate = 3.5f;

// Evenly spaced codes in one step size, or in two (PTQ4ViT's twin uniform codes, 2111.12293).
struct StepCodes {
  float fine_inverse, coarse_inverse;  // 1 / step
  int32_t fine_codes;                  // 0: all codes are coarse
  int32_t coarse_top;                  // the last coarse code
  int32_t fine_value, coarse_value;    // of a step, in units of the fixed-point value
  int32_t fine_top;                    // of the last fine code; all values are below 2^16
};

// Rows of attention probabilities as two 8-bit planes of a 16-bit fixed-point value (method.md
// § 2). v_j = scores_j + bias_j + (region_j == row_region ? 0 : -100); p = softmax(v); the code is
// k_j = max(0, round(-rate log2(p_j / s))), rate codes an octave: 2 is log sqrt 2, 1 is log2. It is
// evaluated without a logarithm per element:
//
//   c = rate log2(s sum_j exp(v_j - max)), log2 within 0.52 ulp (vecmath-inl.h)
//   k_j = round(fma(max - v_j, rate log2 e, c)) clamped to [0, 2^bits]
//   value = table[k_j], hi = value >> 8, lo = value & 255
// With `steps` the codes are evenly spaced instead:
//
//   p_j = exp(v_j - max) * (1 / sum_j exp(v_j - max))
//   f = round(min(p_j fine_inverse, fine_codes)), c = round(min(p_j coarse_inverse, coarse_top))
//   value = f < fine_codes ? f fine_value : max(c coarse_value, fine_top)
struct SoftmaxArgs {
  int32_t m, n;         // rows, and columns of each
  const float* scores;  // rows score_stride floats apart
  int64_t score_stride;
  const float* bias;  // [m, n] rows bias_stride apart; null: none
  int64_t bias_stride;
  const uint8_t* region;      // [n] of the columns; null: no mask
  const uint8_t* row_region;  // [m] of the rows; null with region
  const StepCodes* steps;     // null: log codes
  // Of log codes.
  float scale;   // s
  int32_t bits;  // 3..8
  float rate;    // codes an octave, kMinLogRate..kMaxLogRate
  // [2^bits + 1]: round(65535 * 2^(-k / rate)), last 0. Entries from 63 on are not read but taken
  // as 0, which they are from 17 rate on.
  const uint16_t* table;
  uint8_t* hi;  // [m] rows plane_stride bytes apart, padding up to round_up(n, 32) set to 0
  uint8_t* lo;
  int64_t plane_stride;
  int32_t* hi_sum;  // [m]
  int32_t* lo_sum;
};

struct Kernels {
  const char* name;

  void (*gemm)(const GemmArgs& args);

  // y [m, c], rows y_stride apart.
  void (*layernorm)(const NormArgs& args, float* y, int64_t y_stride);
  // The same, quantized: codes with padding up to round_up(c, 32) set to 0, and their row sums.
  void (*layernorm_codes)(const NormArgs& args, Quantizer q, uint8_t* codes, int64_t code_stride,
                          int32_t* code_sum);

  // Quantizes x [m, c]; padding and sums as above.
  void (*quantize)(const float* x, int64_t x_stride, int32_t m, int32_t c, Quantizer q,
                   uint8_t* codes, int64_t code_stride, int32_t* code_sum);

  void (*softmax_codes)(const SoftmaxArgs& args);

  // sum[m] = the sum of row m of codes [m, k], padding included.
  void (*sum_rows)(const uint8_t* codes, int64_t stride, int32_t m, int32_t k, int32_t* sum);

  // Replaces codes [m, k] by table[code] (256 entries), sets their padding up to round_up(k, 32) to
  // 0 and sums each row: sum[m].
  void (*map_rows)(const uint8_t* table, int32_t m, int32_t k, uint8_t* codes, int64_t stride,
                   int32_t* sum);

  // K's codes [n, k] (n tokens, k = head_dim), of `bits` bits, as signed codes in 8-bit panels of a
  // [n, k] weight; column_sum[n] = the sum over k of the signed codes. Panels and sums are padded
  // with 0; the codes need no padding here. `panels` has pack_bytes(n, k, 8) bytes.
  void (*pack_rows)(const uint8_t* codes, int64_t stride, int32_t n, int32_t k, int32_t bits,
                    uint8_t* panels, int32_t* column_sum);
  // The same for V: the codes are [k, n] (k tokens, n = head_dim), packed as a [n, k] weight.
  void (*pack_columns)(const uint8_t* codes, int64_t stride, int32_t k, int32_t n, int32_t bits,
                       uint8_t* panels, int32_t* column_sum);

  // attn V from the two planes' products, quantized: codes = quantize(scale * fma(256, float(hi[m,
  // n] - zero * hi_sum[m]), float(lo[m, n] - zero * lo_sum[m]))), with zero the signed zero point
  // of V. hi, lo rows raw_stride apart. Nothing beyond column n is written.
  void (*combine_planes)(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                         const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero, float scale,
                         int32_t m, int32_t n, Quantizer q, uint8_t* codes, int64_t code_stride);

  // Element functions on [count] floats, for tests and the bench. exp: within 1 ulp on [-87, 88],
  // clamped outside. gelu, x/2 (1 + erf(x / sqrt 2)): within 1.8 ulp for x > 0, 1e-7 for x <= 0.
  void (*exp)(const float* x, int64_t count, float* y);
  void (*gelu)(const float* x, int64_t count, float* y);
};

}  // namespace vitrun
