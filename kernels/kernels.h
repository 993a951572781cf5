// The kernel contract.
//
// An ISA is one constant table of function pointers, Kernels at the end of this file. The table in
// shared/scalar.cc is the specification, and every other table returns the same bits. Kernels are
// stateless: they allocate nothing, start no threads and write no globals, and the ISA files use no
// STL. The caller owns every buffer, splits the work, and may call one table from many threads at
// once.
//
// Exactness. Integer sums are exact in int32: they are computed modulo 2^32, and the limits below
// keep their true values inside. Float results are fixed to the last bit: a multiply-add is fused
// where this file writes fma and nowhere else (-ffp-contract=off), and a sum over a row, written
// sum16 here, uses 16 lanes. Lane l adds elements l, l+16, l+32, ... in this order, missing ones
// counting as +0; then lanes l and l+8 are added, then l and l+4, l and l+2, l and l+1.
//
// Padding. Rows of codes are at least round_up(k, kDepthAlign) bytes apart, and the bytes between
// the k codes and that length hold 0; a kernel that writes codes writes those zeros too, unless its
// comment says that it does not. Per-column arrays hold round_up(n, kColumns) entries, which are
// 0 from n on. Rows of floats and of int32 have no padding unless their comment says so: nothing
// beyond column n is read or written. A pointer needs only its element's natural alignment, except
// that panels are 64-byte aligned.
//
// Stack. A GEMM unpacks weights into a buffer of up to 700 KB on the stack and touches only the
// pages that its k needs.
#pragma once

#include <cstdint>

namespace vitrun {

constexpr int kColumns = 16;     // output columns of a panel
constexpr int kDepthAlign = 32;  // depth of a block of a panel; pack.h describes the layout
// Limits of k and of an activation's zero point. With 8-bit codes |q_a - z_a| <= 511 and
// |q_w - z_w| <= 255, so |sum_k (q_a - z_a)(q_w - z_w)| <= 16384 * 511 * 255 = 2,134,917,120 <
// 2^31: the true sum of every legal product fits int32.
constexpr int kMaxDepth = 16384;
constexpr int kMinZero = -256, kMaxZero = 511;

// The smallest multiple of `to` that is not below x. It is always inlined, so that the linker
// cannot put a copy built for one ISA into code for another.
[[gnu::always_inline]] constexpr int round_up(int x, int to) {
  return (x + to - 1) / to * to;
}

// The uniform quantizer: code = clamp(round(x * inv_scale) + zero, 0, max_code), where round takes
// halves to the even neighbour and inv_scale is the float nearest to 1 / scale. It is evaluated as
//
//   code = round(clamp(x * inv_scale, -zero, max_code - zero)) + zero
//
// which gives the same codes, saturates infinities and maps NaN to code 0.
struct Quantizer {
  float inv_scale = 1;
  int32_t zero = 0;
  int32_t max_code = 255;
};

// A Quantizer for each column, as per-column arrays: low = -zero, high = max_code - zero.
struct ColumnQuantizers {
  const float* inv_scale;
  const float* low;
  const float* high;
  const int32_t* zero;
};

// A uniform quantizer whose range is made for each row x [c] as it comes, 0 included. NaN has no
// part in the range, and becomes the lowest code.
//
//   low = min(0, x_j), high = max(0, x_j) over all j
//   margin = 2^(7 - bits) rounded down, scale = (high - low) / (255 - 2 margin)
//   zero = margin + round(-low * (1 / scale))
//
// A row of zeros, of values so small that the scale is no normal float, or of an infinity has no
// such grid: the inverse then counts as 0, a scale that is too small as 0 too, and codes are made
// as with 8 bits. With 8 bits, code = quantize(x_j) by {1 / scale, zero, 255}. With fewer, a group
// of columns takes 2^bits codes of the row's grid, `step` apart, one of which is zero:
//
//   t_j = x_j * (1 / scale), top = 2^bits - 1, span = max(0, t_j) - min(0, t_j) over the group
//   step = max(1, round(span * (1 / top) + 0.499)), group_zero = round(-min(0, t_j) * (1 / step))
//   code_j = zero + step * round(clamp(t_j * (1 / step), -group_zero, top - group_zero))
//
// The margin keeps all codes within 0 .. 255. A group is columns of one number modulo 16, so that a
// vector of 16 lanes works on 16 groups at once: the columns are cut into
// ceil(ceil(c / 16) / group) parts of equally many times 16 columns, the last of which may be
// shorter, and lane l of a part is a group.
struct RowQuantizer {
  int32_t bits = 8;    // 3..8
  int32_t group = 32;  // columns of a group at most, kLeastGroup or more; of 8 bits not read
};
constexpr int kLeastGroup = 16;

// The 8-bit codes at either end that groups of so many bits leave free: the margin above.
[[gnu::always_inline]] constexpr int group_margin(int bits) {
  return 128 >> bits;
}
// The number of parts above, each of 16 groups, that c columns are cut into.
[[gnu::always_inline]] constexpr int group_parts(int c, int group) {
  return (round_up(c, kColumns) / kColumns + group - 1) / group;
}

// Heads side by side in the columns of x [m, heads head_dim]. All rows of a head share a grid of 8
// bits, {inv_scale, zero}, and the columns of a head in a row are a group that takes 2^bits of it,
// as above:
//
//   t_j = clamp(x_j * inv_scale, low, high), low = margin - zero, high = 255 - margin - zero
//
// The arrays are per column, and those of a head's first column count.
struct HeadArgs {
  int32_t m, heads, head_dim;
  const float* x;  // rows x_stride floats apart
  int64_t x_stride;
  int32_t bits;  // 3..8
  ColumnQuantizers grids;
};

// The codes of rows that a RowQuantizer makes, with padding.
struct RowCodes {
  RowQuantizer quantizer;
  uint8_t* codes;  // [m, c] in rows code_stride bytes apart; c <= kMaxDepth
  int64_t code_stride;
  int32_t* code_sum;  // code_sum, scale and zero: [m]
  float* scale;
  int32_t* zero;
};

// An MLP or a convolution has one of these behind it: x times a value between 0 and 1:
//
//   gelu(x) = x/2 (1 + erf(x / sqrt 2))
//   the next: x / (1 + exp(-u)), u = 2 sqrt(2 / pi) (x + 0.044715 x^3), 1.702 x, x
//   relu(x) = max(x, 0); -0 becomes 0
enum class Activation : int32_t { kGelu, kGeluTanh, kQuickGelu, kSilu, kRelu };

enum class Epilogue : int32_t {
  kFloat,     // y = value
  kAdd,       // y = value + residual
  kCodes,     // codes = quantize(value), each column with its own quantizer; without padding
  kActCodes,  // codes = quantize(activation(value)) with padding, code_sum = their sum over a row
  kInt32,     // raw = C; row_sum, scale, offset, zero and bias are not read
};

// One quantized Linear. `a` is [m, k], unsigned codes q_a; the weight is [n, k], signed codes q_w'
// packed into panels; C is [m, n]:
//
//   C[i, j] = sum_k q_a[i, k] q_w'[j, k]
//   value[i, j] = fma(scale[j], float(C[i, j] + offset[j] - zero[j] * row_sum[i]), bias[j])
//
// Let scale = s_a s_w, zero = z_w' and offset = K z_a z_w' - z_a sum_k q_w', the float's argument
// is sum_k (q_a - z_a)(q_w' - z_w'), so that value = s_a s_w sum_k (q_a - z_a)(q_w' - z_w') + bias.
// Rows of `a` that have their own s_a and z_a (RowCodes) are given by row_scale and row_zero:
//
//   value[i, j] = fma(scale[j] * row_scale[i],
//                     float(C[i, j] + offset[j] * row_zero[i] - zero[j] * row_sum[i]), bias[j])
//
// with scale = s_w and offset = K z_w' - sum_k q_w'.
//
// a_bits and range_bits are promises about the codes. They never change the result, but an ISA
// without an int8 dot product runs faster when they are small.
struct GemmArgs {
  // m >= 1, n >= 1, 1 <= k <= kMaxDepth. Codes are read up to depth round_up(k, kDepthAlign).
  int32_t m, n, k;
  const uint8_t* a;        // [m, k] codes below 2^a_bits
  int64_t a_stride;        // bytes between rows
  const int32_t* row_sum;  // [m], the sum of each row's codes
  const uint8_t* panels;   // packed weights (pack.h)
  int32_t bits;            // width of a packed weight code, 3..8
  int32_t a_bits;          // 1..8
  int32_t range_bits;      // -2^(range_bits - 1) <= q_w' < 2^(range_bits - 1); 0 stands for `bits`
  const float* scale;      // scale, offset, zero and bias: [n]
  const int32_t* offset;
  const int32_t* zero;
  const float* bias;
  Epilogue epilogue;
  // kFloat, kAdd: y is [m, n] in rows y_stride floats apart; residual is alike and may be y itself.
  float* y;
  int64_t y_stride;
  const float* residual;
  // kCodes, kActCodes: codes is [m, n] in rows code_stride bytes apart. kActCodes sets the
  // padding up to round_up(n, kDepthAlign) to 0.
  uint8_t* codes;
  int64_t code_stride;
  int32_t* code_sum;                          // kActCodes: [m]
  Quantizer quantizer;                        // kActCodes
  Activation activation = Activation::kGelu;  // kActCodes
  ColumnQuantizers quantizers;                // kCodes
  // kInt32: raw is [m, n] in rows raw_stride >= round_up(n, kColumns) int32 apart, of which those
  // from n on may be written with anything.
  int32_t* raw;
  int64_t raw_stride;
  const float* row_scale = nullptr;  // row_scale and row_zero: [m], or both null
  const int32_t* row_zero = nullptr;
};

// LayerNorm of each row of x [m, c]:
//
//   mean = sum16(x) / c
//   var = sum16((x - mean)^2) / c, where each square is added by fma
//   y = fma((x - mean) * (1 / sqrt(var + eps)), gamma, beta)
//
// and y + residual where there is a residual, which only layernorm reads.
struct NormArgs {
  int32_t m, c;
  const float* x;  // rows x_stride floats apart
  int64_t x_stride;
  const float* gamma;  // [c]
  const float* beta;   // [c]
  float eps;
  const float* residual = nullptr;  // [m, c] in rows residual_stride floats apart; may be y itself
  int64_t residual_stride = 0;
};

// Columns of x [m, c] that become codes, each with its own quantizer. With a group, a divisor of c,
// the columns of each group are scaled to length 1 before:
//
//   y = x * (1 / max(sqrt(sum16(x^2)), eps)) * weight, where each square is added by fma
struct ColumnArgs {
  int32_t m, c;
  const float* x;  // rows x_stride floats apart
  int64_t x_stride;
  int32_t group;        // 0: none, and the next two are not read
  const float* weight;  // [c]
  float eps;
};

constexpr float kMinLogRate = 0.5f, kMaxLogRate = 3.5f;

// Evenly spaced codes in one step size, or in two (the twin uniform codes of PTQ4ViT,
// arXiv:2111.12293). A "value" is a probability in 16-bit fixed point; all are below 2^16.
struct StepCodes {
  float fine_inverse, coarse_inverse;  // 1 / step
  int32_t fine_codes;                  // number of fine codes; 0: all codes are coarse
  int32_t coarse_top;                  // the last coarse code
  int32_t fine_value, coarse_value;    // value of one fine and of one coarse step
  int32_t fine_top;                    // value of the last fine code
};

// The codes of a row of probabilities, which are evaluated below.
enum class ProbabilityCodes : int32_t { kLog, kLogBySum, kSteps, kCarried };

// Softmax of each row of scores, quantized. The scores are made of exact products, which a constant
// of the row may be missing from, as softmax does not change by it. For row i:
//
//   v_j = unit float(products_ij + offset_j), or fma(unit, float(products_ij + offset_j), bias_ij),
//         then + (region_j == row_region_i ? 0 : -100) where there are regions
//   p = softmax(v), e_j = exp(v_j - max)
//
// kCarried: evenly spaced codes of e, whose rounding errors are carried along the row in 16 lanes,
// so that their sum is that of what they stand for. The caller divides by the codes' sum.
//
//   value_j = fma(e_j, 2^bits - 1 - 1/64, carry_(j mod 16)), carries begin with 0
//   code_j = round(value_j), carry_(j mod 16) = value_j - code_j
//
// The others are written as two planes of bytes of a probability in 16-bit fixed point,
// hi_j = value_j >> 8 and lo_j = value_j & 255.
//
// kLog: a log code is k_j = max(0, round(-rate log2(p_j / s))). The rate is the number of codes per
// halving of p: 1 gives log2 codes, 2 gives log sqrt 2 codes. It is evaluated with one logarithm
// per row, which errs by at most 0.52 ulp (vecmath-inl.h):
//
//   c = rate log2(s sum_j e_j)
//   k_j = clamp(round(fma(max - v_j, rate log2 e, c)), 0, 2^bits)
//   value_j = table[k_j]
//
// kLogBySum: codes of e_j instead of p_j / s, which is c = 0. The caller divides their values by
// the sum of the row's, 256 hi_sum + lo_sum, to get probabilities.
//
// kSteps: the codes are evenly spaced in `steps`:
//
//   p_j = e_j * (1 / sum_j e_j)
//   f = round(min(p_j fine_inverse, fine_codes)), c = round(min(p_j coarse_inverse, coarse_top))
//   value_j = f < fine_codes ? f fine_value : max(c coarse_value, fine_top)
struct SoftmaxArgs {
  int32_t m, n;
  int32_t* products;  // [m, n] in rows product_stride int32 apart; they are overwritten
  int64_t product_stride;
  const int32_t* offset;  // [n]
  float unit;
  const float* bias;  // [m, n] in rows bias_stride floats apart; null: no bias
  int64_t bias_stride;
  const uint8_t* region;      // [n], a region for each column; null: no mask
  const uint8_t* row_region;  // [m], a region for each row; null if and only if region is
  ProbabilityCodes codes;
  const StepCodes* steps;  // kSteps
  float scale;             // s of kLog
  int32_t bits;            // 3..8; not read with steps
  float rate;              // of log codes, kMinLogRate..kMaxLogRate
  // [2^bits + 1], read for log codes: round(65535 * 2^(-k / rate)), the last entry 0. Entries from
  // 63 on are taken to be 0 without being read; the formula gives 0 from k = 17 rate on.
  const uint16_t* table;
  uint8_t* hi;  // [m, n] in rows plane_stride bytes apart, with padding; kCarried: the codes
  uint8_t* lo;  // likewise; not written by kCarried, nor is lo_sum
  int64_t plane_stride;
  int32_t* hi_sum;  // [m]
  int32_t* lo_sum;
};

struct Kernels {
  const char* name;

  void (*gemm)(const GemmArgs& args);

  // y is [m, c] in rows y_stride floats apart.
  void (*layernorm)(const NormArgs& args, float* y, int64_t y_stride);
  // LayerNorm, quantized: codes [m, c] in rows code_stride bytes apart, with padding, and
  // code_sum[m], the sum of each row's codes.
  void (*layernorm_codes)(const NormArgs& args, Quantizer q, uint8_t* codes, int64_t code_stride,
                          int32_t* code_sum);

  // Quantizes x [m, c], in rows x_stride floats apart, to codes and code_sum as above.
  void (*quantize)(const float* x, int64_t x_stride, int32_t m, int32_t c, Quantizer q,
                   uint8_t* codes, int64_t code_stride, int32_t* code_sum);

  // The same with a range for each row (RowQuantizer): of x, of activation(x) unless the activation
  // is null, and of LayerNorm.
  void (*quantize_by_row)(const float* x, int64_t x_stride, int32_t m, int32_t c,
                          const Activation* activation, const RowCodes& to);
  void (*layernorm_by_row)(const NormArgs& args, const RowCodes& to);

  // Quantizes columns: codes [m, c] in rows code_stride bytes apart, without padding.
  void (*quantize_columns)(const ColumnArgs& args, ColumnQuantizers q, uint8_t* codes,
                           int64_t code_stride);

  // Quantizes heads: codes [m, heads head_dim] in rows code_stride bytes apart, without padding.
  void (*quantize_heads)(const HeadArgs& args, uint8_t* codes, int64_t code_stride);

  void (*softmax_codes)(const SoftmaxArgs& args);

  // sum[m]: the sum of each row of codes [m, k], whose padding is read too.
  void (*sum_rows)(const uint8_t* codes, int64_t stride, int32_t m, int32_t k, int32_t* sum);

  // Replaces each of codes [m, k] by table[code], where the table has 256 entries; sets the padding
  // to 0; sum[m] = the sum of each row.
  void (*map_rows)(const uint8_t* table, int32_t m, int32_t k, uint8_t* codes, int64_t stride,
                   int32_t* sum);

  // Packs attention's K as a weight. The codes are [n, k] (n tokens, k = head_dim) of `bits` bits
  // and need no padding here. The panels, pack_bytes(n, k, 8) bytes, hold the signed codes code -
  // 2^(bits-1) as 8-bit codes of a [n, k] weight; column_sum[n] = their sum over k. Panels and sums
  // are padded with 0.
  void (*pack_rows)(const uint8_t* codes, int64_t stride, int32_t n, int32_t k, int32_t bits,
                    uint8_t* panels, int32_t* column_sum);
  // Packs attention's V in the same way: the codes are [k, n] (k tokens, n = head_dim) and are
  // packed as a [n, k] weight.
  void (*pack_columns)(const uint8_t* codes, int64_t stride, int32_t k, int32_t n, int32_t bits,
                       uint8_t* panels, int32_t* column_sum);

  // Quantizes attention times V. hi and lo, [m, n] in rows raw_stride int32 apart, are the products
  // of the two planes with V, and zero is V's signed zero point. Padding is not written. Codes of
  // one plane have no lo and no lo_sum, which are null.
  //
  //   high = float(hi[i, j] - zero * hi_sum[i]), low = float(lo[i, j] - zero * lo_sum[i])
  //   codes[i, j] = quantize(scale[i] * fma(256, high, low)), of one plane scale[i] * high
  void (*combine_planes)(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                         const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero,
                         const float* scale, int32_t m, int32_t n, Quantizer q, uint8_t* codes,
                         int64_t code_stride);

  // The same before quantizing: y [m, n] in rows y_stride floats apart.
  void (*sum_planes)(const int32_t* hi, const int32_t* lo, int64_t raw_stride,
                     const int32_t* hi_sum, const int32_t* lo_sum, int32_t zero, const float* scale,
                     int32_t m, int32_t n, float* y, int64_t y_stride);

  // Element functions of [count] floats. exp errs by at most 1 ulp on [-87, 88] and is clamped
  // outside. GELU errs by at most 1.8 ulp for x > 0 and by at most 1e-7 for x <= 0; the other
  // activations by at most 1e-6 |x|.
  void (*exp)(const float* x, int64_t count, float* y);
  void (*activate)(Activation type, const float* x, int64_t count, float* y);
};

}  // namespace vitrun
