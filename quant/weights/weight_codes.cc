#include "quant/weights/weight_codes.h"

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

Tensor dequantize_weight(const WeightCodes& weight) {
  Tensor out({weight.n, weight.k});
  const size_t k = static_cast<size_t>(weight.k);
  for (size_t i = 0; i < out.data.size(); i++)
    out.data[i] = dequantize(weight.codes[i], weight.ranges[i / k]);
  return out;
}

}  // namespace vitrun
