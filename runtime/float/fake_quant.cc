#include "runtime/float/fake_quant.h"

#include <algorithm>
#include <cmath>

#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

float log_coded(float x, const CodeParams& p) {
  const float last = static_cast<float>(1 << p.bits);
  const float k = std::nearbyint(std::clamp(p.rate * std::log2(p.scale / x), 0.f, last));
  if (k == last) return 0;
  return p.scale * static_cast<float>(log_code_value(static_cast<int>(k), p.rate)) / 65535;
}

// The codes are those of StepCodes in kernels.h.
float step_coded(float x, const StepCodes& s, float unit) {
  const float fine = std::nearbyint(std::min(x * s.fine_inverse, static_cast<float>(s.fine_codes)));
  if (fine < static_cast<float>(s.fine_codes))
    return unit * fine * static_cast<float>(s.fine_value);
  const float coarse =
      std::nearbyint(std::min(x * s.coarse_inverse, static_cast<float>(s.coarse_top)));
  return unit *
         std::max(coarse * static_cast<float>(s.coarse_value), static_cast<float>(s.fine_top));
}

// Codes of the elements over the row's largest, whose values are divided by their sum.
void code_by_sum(std::span<float> row, const CodeParams& p) {
  const float last = static_cast<float>(1 << p.bits), top = *std::ranges::max_element(row);
  double sum = 0;
  for (float& x : row) {
    const float k = std::nearbyint(std::clamp(p.rate * std::log2(top / x), 0.f, last));
    x = k == last ? 0 : static_cast<float>(log_code_value(static_cast<int>(k), p.rate));
    sum += double{x};
  }
  for (float& x : row) x = static_cast<float>(double{x} / sum);
}

// Evenly spaced codes of the same, with rounding errors carried along the row, divided by their
// sum.
void code_carried(std::span<float> row, const CodeParams& p) {
  const float last = static_cast<float>(1 << p.bits) - 1 - 1 / 64.f;
  const float top = *std::ranges::max_element(row);
  float carry[kColumns] = {}, sum = 0;
  for (size_t j = 0; j < row.size(); j++) {
    const float value = std::fma(row[j] / top, last, carry[j % kColumns]);
    row[j] = std::nearbyint(value);
    carry[j % kColumns] = value - row[j];
    sum += row[j];
  }
  for (float& x : row) x /= sum;
}

float softmax_coded(float x, const CodeParams& p) {
  return p.twin == CodeParams::kLogCodes ? log_coded(x, p)
                                         : step_coded(x, step_codes(p), fixed_point_unit(p));
}

// Rounds each row in the range that is its own.
void round_rows(const CodeParams& params, float* values, int64_t count, int64_t cols, int64_t begin,
                int64_t end) {
  const int n = static_cast<int>(end - begin), stride = round_up(n, kDepthAlign);
  const Kernels& kernels = choose_kernels();
  std::vector<uint8_t> codes(static_cast<size_t>(stride));
  int32_t sum, zero;
  float scale;
  for (int64_t row = 0; row < count; row++) {
    float* const x = values + row * cols + begin;
    kernels.quantize_by_row(x, cols, 1, n, nullptr,
                            {params.row_quantizer(), codes.data(), stride, &sum, &scale, &zero});
    for (int j = 0; j < n; j++) x[j] = scale * static_cast<float>(at(codes, j) - zero);
  }
}

// Rounds the columns of a head, which are a group in each row.
void round_head(int bits, const UniformRange& of, float* values, int64_t count, int64_t cols,
                int64_t begin, int64_t n) {
  const float inverse = 1 / of.scale;
  const float low = static_cast<float>(group_margin(bits) - of.zero);
  const float high = static_cast<float>(255 - group_margin(bits) - of.zero);
  const Kernels& kernels = choose_kernels();
  std::vector<uint8_t> codes(static_cast<size_t>(n));
  for (int64_t row = 0; row < count; row++) {
    float* const x = values + row * cols + begin;
    kernels.quantize_heads(
        {1, 1, static_cast<int>(n), x, n, bits, {&inverse, &low, &high, &of.zero}}, codes.data(),
        n);
    for (int64_t j = 0; j < n; j++)
      x[j] = of.scale * static_cast<float>(codes[static_cast<size_t>(j)] - of.zero);
  }
}

}  // namespace

UniformRounding::UniformRounding(const CodeParams& params)
    : quantizer_(params.quantizer()), scale_(params.scale) {
  if (params.levels.empty()) return;
  for (uint8_t level : level_table(params.levels))
    levels_.push_back(static_cast<float>(level - params.zero));
}

float UniformRounding::operator()(float x) const {
  const Quantizer& q = quantizer_;
  const float low = static_cast<float>(-q.zero), high = static_cast<float>(q.max_code - q.zero);
  const float v = x * q.inv_scale;
  const float code = v > low ? std::nearbyint(std::min(v, high)) : low;
  if (levels_.empty()) return scale_ * code;
  return scale_ * at(levels_, static_cast<int>(code) + q.zero);
}

void fake_quantize(const CodeParams& params, bool softmax, float* values, int64_t count,
                   int64_t cols, int64_t begin, int64_t end) {
  if (params.by_row()) return round_rows(params, values, count, cols, begin, end);
  if (!params.heads.empty()) {
    const int heads = count_of(params.heads);
    const int64_t of_head = (end - begin) / heads;
    for (int head = 0; head < heads; head++) {
      const UniformRange of = params.of_head(head);
      if (params.by_head()) {
        round_head(params.bits, of, values, count, cols, begin + head * of_head, of_head);
        continue;
      }
      fake_quantize({params.bits, of.scale, of.zero}, softmax, values, count, cols,
                    begin + head * of_head, begin + (head + 1) * of_head);
    }
    return;
  }
  if (softmax && params.by_sum()) {
    const auto code = params.twin == CodeParams::kSumCodes ? code_by_sum : code_carried;
    for (int64_t row = 0; row < count; row++)
      code({values + row * cols + begin, values + row * cols + end}, params);
    return;
  }
  const UniformRounding uniform(params);
  for (int64_t row = 0; row < count; row++)
    for (float* x = values + row * cols + begin; x < values + row * cols + end; x++)
      *x = softmax ? softmax_coded(*x, params) : uniform(*x);
}

void fake_quantize(const Site& site, const CodeParams& params, Tensor& value) {
  fake_quantize(params, site.softmax, value.data.data(), value.dims[0] * value.dims[1],
                value.dims[2], site.begin, site.end);
}

}  // namespace vitrun
