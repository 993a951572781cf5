// Rounds the weight W [N, K] of a Linear so that tr(C E H E^T) is small, with E = W^ - W (method.md
// section 16, [ours] after OBQ, GPTQ and YAQA). H [K, K] is the second moment of the Linear's
// input, C [N, N] that of the logits' gradient at its output (method.md section 15).
#pragma once

#include "quant/weights/weight_codes.h"
#include "runtime/threads.h"

namespace vitrun {

using Doubles = std::vector<double>;

// The Cholesky factor of a damped matrix M [n, n], which is symmetric:
// M + part * mean(diag M) * I = L L^T, in an order of rows and columns with ascending diagonal.
// Rounding goes from the last to the first.
struct Factor {
  std::vector<int> order;
  std::vector<float> lower;  // L [n, n], row-major, zeros above; empty where M has no factor

  bool empty() const { return lower.empty(); }
  size_t size() const { return order.size(); }
};
Factor factor(const Doubles& m, double part);

// Rounds weight [n, k] row by row and within a row column by column. What is not yet rounded makes
// up for the errors of what was (Babai's nearest plane). Where the grid has no step, the range of
// each row is searched when the turn of its block of 16 rows comes.
WeightCodes round_with_feedback(const Tensor& weight, const Factor& columns, const Factor& rows,
                                const WeightGrid& grid);

// tr(C E H E^T).
double output_error(const Doubles& h, const Doubles& c, const Tensor& weight,
                    const WeightCodes& codes);

// H or C with the part of the mean of its diagonal that damping adds.
struct Damped {
  const Doubles& m;
  double part;
};

// Improves `codes` by coordinate descent: codes move one by one to where tr(C E H E^T) is least,
// and scales become the least squares' in between, but for those of a grid with a step. Rows go
// from the last of `row_order` to the first. The codes are the same for any number of threads.
void descend(const Damped& h, const Damped& c, const std::vector<int>& row_order,
             const Tensor& weight, WeightCodes& codes, ThreadPool& pool);

}  // namespace vitrun
