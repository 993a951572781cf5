// What quantization does to each Linear, measured on calibration rows: the Lambda of method.md
// section 5, and the signal-to-noise ratios of the table of units.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Rows of a Linear's input, [1, rows, K], by its node.
using InputRows = std::map<int, Tensor>;

// Up to 256 rows of every Linear's input, evenly drawn from the first eight images: for measuring
// and comparing, not for choosing ranges.
InputRows keep_inputs(Reference& engine, const ImageSource& images);

// Sums of squares of the error, relative to those of the value; 0 for a value of zeros.
struct LinearError {
  double input = 0, weight = 0;
  double output = 0;  // of x^ W^^T against x W^T; relative to its sum of squares about each
                      // column's mean, which the shifts of a fold do not change
};

LinearError linear_error(Reference& engine, const Tensor& weight, const WeightCodes& codes,
                         const Tensor& rows, const SiteRange& input);

// Lambda_{u,b}, b = kMinBits .. kMaxBits: the relative squared error of a Linear's output with
// weight and input of b bits, or with the input at `input_bits` if that is not 0. The input's
// range is searched on the rows themselves.
std::vector<double> output_errors(Reference& engine, const Tensor& weight, const Tensor& rows,
                                  int input_bits);

// -10 log10(error) in dB, at most 99.
double decibels(double error);

}  // namespace vitrun
