// Rounding the weight W [N, K] of a Linear so that tr(C E H E^T) is small, E = W^ - W: H [K, K]
// from its inputs, C [N, N] from what its outputs do to the logits. Kronecker's product of the two
// stands for the Hessian of vec(W) (K-FAC 1503.05671). [ours] after OBQ 2208.11580 and GPTQ
// 2210.17323 for H alone, and YAQA 2505.22988 for both.
#pragma once

#include "quant/weights/weight_codes.h"

namespace vitrun {

using Doubles = std::vector<double>;

// M + part * mean of M's diagonal [n, n], symmetric, as L L^T in the order in which its rows and
// columns are rounded, the last first, which has the largest diagonal.
struct Factor {
  std::vector<int> order;
  std::vector<float> lower;  // L [n, n], row-major, zeros above; empty where there is none

  bool empty() const { return lower.empty(); }
  size_t size() const { return order.size(); }
};
Factor factor(const Doubles& m, double part);

// Codes for `weight` [n, k]: row by row and, within, column by column, the errors of those before
// are made up for by those to come (Babai's nearest plane); each row's range is searched when its
// turn comes.
WeightCodes round_with_feedback(const Tensor& weight, const Factor& columns, const Factor& rows,
                                int bits);

// tr(C E H E^T).
double output_error(const Doubles& h, const Doubles& c, const Tensor& weight,
                    const WeightCodes& codes);

// H or C as coordinate descent takes it: with `part` of its mean diagonal added.
struct Damped {
  const Doubles& m;
  double part;
};

// Codes move one by one to where the error is least, and scales to the least squares' in turn.
void descend(const Damped& h, const Damped& c, const std::vector<int>& row_order,
             const Tensor& weight, WeightCodes& codes);

}  // namespace vitrun
