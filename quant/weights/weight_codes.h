// Weights to codes (method.md section 2): per output channel, range by the percentile search.
#pragma once

#include "kernels/pack.h"
#include "models/base/tensor.h"
#include "quant/ranges/observer.h"

namespace vitrun {

// A quantized weight [n, k].
struct WeightCodes {
  int n = 0, k = 0, bits = 0;
  std::vector<uint8_t> codes;        // [n, k], q_w in 0..2^bits - 1
  std::vector<UniformRange> ranges;  // [n]
};

// `weight` is [n, ...]; what follows n is the depth. Infinite or NaN weights were refused when
// loading.
WeightCodes quantize_weight(const Tensor& weight, int bits);

// The same with the rows' ranges given.
WeightCodes quantize_weight(const Tensor& weight, int bits,
                            const std::vector<UniformRange>& ranges);

// s (q - z) of every code, as [n, k].
Tensor dequantize_weight(const WeightCodes& weight);

}  // namespace vitrun
