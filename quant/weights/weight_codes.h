// Rounds weights to the nearest codes (method.md section 2).
#pragma once

#include "kernels/pack.h"
#include "models/base/tensor.h"
#include "quant/ranges/observer.h"

namespace vitrun {

// The codes that a weight may have: `bits` bits, and for each row a range that is searched. With a
// step above 0 all rows have that step instead, and the signed 0 as their zero point; the file then
// holds the codes in about as many bits as their entropy (runtime/files/coded_weight.h).
struct WeightGrid {
  int bits = kMaxBits;
  float step = 0;

  bool coded() const { return step > 0; }
  // The range of every row of a coded weight.
  UniformRange range() const { return {step, 1 << (bits - 1)}; }
};

// A quantized weight [n, k].
struct WeightCodes {
  int n = 0, k = 0, bits = 0;
  std::vector<uint8_t> codes;        // [n, k], q_w in 0..2^bits - 1
  std::vector<UniformRange> ranges;  // [n]
  bool coded = false;                // whether all rows have the range of a WeightGrid with a step
};

// Quantizes weight [n, ...], whose further dimensions together are the depth, with a range from the
// percentile search for each row. Weights are finite: loading refuses others.
WeightCodes quantize_weight(const Tensor& weight, int bits);

// Quantizes weight [n, ...] on a grid.
WeightCodes quantize_weight(const Tensor& weight, const WeightGrid& grid);

// Narrows the codes of a coded weight to the fewest bits that hold them.
void narrow(WeightCodes& weight);

// Quantizes weight [n, ...] with the given ranges of its rows.
WeightCodes quantize_weight(const Tensor& weight, int bits,
                            const std::vector<UniformRange>& ranges);

// Returns s (q - z) of every code, [n, k].
Tensor dequantize_weight(const WeightCodes& weight);

}  // namespace vitrun
