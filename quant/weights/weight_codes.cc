#include "quant/weights/weight_codes.h"

#include <algorithm>

namespace vitrun {

namespace {

std::span<const float> row_of(const Tensor& weight, size_t row) {
  const size_t k = weight.data.size() / static_cast<size_t>(weight.dims[0]);
  return std::span(weight.data).subspan(row * k, k);
}

}  // namespace

WeightCodes quantize_weight(const Tensor& weight, int bits) {
  std::vector<UniformRange> ranges;
  for (size_t row = 0; row < static_cast<size_t>(weight.dims[0]); row++)
    ranges.push_back(search_range(row_of(weight, row), bits));
  return quantize_weight(weight, bits, ranges);
}

WeightCodes quantize_weight(const Tensor& weight, int bits,
                            const std::vector<UniformRange>& ranges) {
  const int n = static_cast<int>(weight.dims[0]);
  WeightCodes out{n, static_cast<int>(element_count(weight.dims) / n), bits, {}, ranges};
  out.codes.reserve(weight.data.size());
  for (size_t row = 0; row < ranges.size(); row++)
    for (float x : row_of(weight, row))
      out.codes.push_back(static_cast<uint8_t>(quantize(x, ranges[row], bits)));
  return out;
}

WeightCodes quantize_weight(const Tensor& weight, const WeightGrid& grid) {
  if (!grid.coded()) return quantize_weight(weight, grid.bits);
  WeightCodes out =
      quantize_weight(weight, grid.bits,
                      std::vector<UniformRange>(static_cast<size_t>(weight.dims[0]), grid.range()));
  out.coded = true;
  return out;
}

void narrow(WeightCodes& weight) {
  const auto [least, most] = std::ranges::minmax(weight.codes);
  const int zero = 1 << (weight.bits - 1), low = least - zero, high = most - zero;
  int bits = kMinBits;
  while (low < -(1 << (bits - 1)) || high >= 1 << (bits - 1)) bits++;
  const int shift = zero - (1 << (bits - 1));
  for (uint8_t& code : weight.codes) code = static_cast<uint8_t>(code - shift);
  for (UniformRange& range : weight.ranges) range.zero -= shift;
  weight.bits = bits;
}

Tensor dequantize_weight(const WeightCodes& weight) {
  Tensor out({weight.n, weight.k});
  const size_t k = static_cast<size_t>(weight.k);
  for (size_t i = 0; i < out.data.size(); i++)
    out.data[i] = dequantize(weight.codes[i], weight.ranges[i / k]);
  return out;
}

}  // namespace vitrun
