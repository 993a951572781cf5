// Rounds weights to the nearest codes (method.md section 2).
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

// Quantizes weight [n, ...], whose further dimensions together are the depth, with a range from the
// percentile search for each row. Weights are finite: loading refuses others.
WeightCodes quantize_weight(const Tensor& weight, int bits);

// Quantizes weight [n, ...] with the given ranges of its rows.
WeightCodes quantize_weight(const Tensor& weight, int bits,
                            const std::vector<UniformRange>& ranges);

// Returns s (q - z) of every code, [n, k].
Tensor dequantize_weight(const WeightCodes& weight);

}  // namespace vitrun
