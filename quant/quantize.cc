#include "quant/quantize.h"

namespace vitrun {

WeightCodes quantize_weight(const Tensor& weight, int bits) {
  WeightCodes out;
  out.n = static_cast<int>(weight.dims[0]);
  out.k = static_cast<int>(element_count(weight.dims) / out.n);
  out.bits = bits;
  out.codes.reserve(weight.data.size());
  const size_t k = static_cast<size_t>(out.k);
  for (size_t row = 0; row < static_cast<size_t>(out.n); row++) {
    const std::span<const float> values = std::span(weight.data).subspan(row * k, k);
    out.ranges.push_back(search_range(values, bits));
    for (float x : values)
      out.codes.push_back(static_cast<uint8_t>(quantize(x, out.ranges.back(), bits)));
  }
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
