// The error that quantization makes in each Linear, measured on calibration rows: Lambda of
// method.md section 5, and the signal-to-noise ratios of the table of units.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Node of a Linear -> rows of its input, [1, rows, K].
using InputRows = std::map<int, Tensor>;

// Keeps up to 256 evenly drawn rows of every Linear's input over the first eight images. They are
// enough to compare errors, not to choose ranges.
InputRows keep_inputs(Reference& engine, const ImageSource& images);

// Relative squared errors, sum (x^ - x)^2 / sum x^2; 0 where the sum below is 0.
struct LinearError {
  double input = 0, weight = 0;
  // y^ = x^ W^^T against y = x W^T. The sum below is that of (y - mean of its column)^2, which the
  // shifts of a fold do not change.
  double output = 0;
};

LinearError linear_error(Reference& engine, const Tensor& weight, const WeightCodes& codes,
                         const Tensor& rows, const SiteRange& input);

// The error of an output y^ [1, rows, N] against the exact y, as LinearError::output.
double output_error_of(const Tensor& exact, const Tensor& rounded);

// Returns Lambda_{u,b} of method.md section 5 for b = kMinBits .. kMaxBits: LinearError::output
// with weight and input of b bits, or with an input of `input_bits` if that is not 0. The range of
// the input is searched on the rows themselves.
std::vector<double> output_errors(Reference& engine, const Tensor& weight, const Tensor& rows,
                                  int input_bits);

// -10 log10(error) in dB, at most 99.
double decibels(double error);

}  // namespace vitrun
