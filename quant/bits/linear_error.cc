#include "quant/bits/linear_error.h"

#include <algorithm>
#include <cmath>

#include "kernels/pack.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

constexpr int64_t kImages = 8, kRows = 256;

// Returns min(rows, kRows) evenly spaced rows of value [images, tokens, cols] as [1, rows, cols].
Tensor draw_rows(const Tensor& value) {
  const int64_t cols = value.dims[2], rows = value.dims[0] * value.dims[1],
                kept = std::min(rows, kRows);
  Tensor out({1, kept, cols});
  for (int64_t i = 0; i < kept; i++)
    std::copy_n(value.data.begin() + i * rows / kept * cols, cols, out.data.begin() + i * cols);
  return out;
}

double squared_difference(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (size_t i = 0; i < a.data.size(); i++)
    sum += std::pow(double{a.data[i]} - double{b.data[i]}, 2);
  return sum;
}

double relative(double error, double energy) {
  return energy > 0 ? error / energy : 0;
}

double squares(const Tensor& value) {
  double sum = 0;
  for (float x : value.data) sum += std::pow(double{x}, 2);
  return sum;
}

// The sum of (x - mean of its column)^2 over value [1, rows, cols].
double variation(const Tensor& value) {
  const auto cols = static_cast<size_t>(value.dims[2]);
  std::vector<double> sum(cols);
  for (size_t i = 0; i < value.data.size(); i++) sum[i % cols] += value.data[i];
  double mean_squares = 0;
  for (double s : sum) mean_squares += s * s / static_cast<double>(value.dims[1]);
  return squares(value) - mean_squares;
}

Tensor rounded(const Tensor& rows, const SiteRange& range) {
  Tensor out = rows;
  const int64_t cols = rows.dims[2];
  fake_quantize(range.params(), false, out.data.data(), rows.dims[1], cols, 0, cols);
  return out;
}

}  // namespace

InputRows keep_inputs(Reference& engine, const ImageSource& images) {
  std::map<int, std::vector<int>> readers;  // node -> the Linears that read it
  const Graph& graph = engine.graph();
  for (int i = 0; i < graph.size(); i++)
    if (graph.is(i, NodeKind::kLinear)) readers[graph[i].in[0]].push_back(i);
  InputRows rows;
  engine.run_outputs(images.load(0, std::min(kImages, images.count)), {},
                     [&](int node, Tensor& value) {
                       if (const auto found = readers.find(node); found != readers.end())
                         for (int linear : found->second) rows[linear] = draw_rows(value);
                     });
  return rows;
}

LinearError linear_error(Reference& engine, const Tensor& weight, const WeightCodes& codes,
                         const Tensor& rows, const SiteRange& input) {
  const Tensor x = rounded(rows, input), w = dequantize_weight(codes);
  const Tensor y = engine.multiply(rows, weight);
  return {relative(squared_difference(rows, x), squares(rows)),
          relative(squared_difference(weight, w), squares(weight)),
          output_error_of(y, engine.multiply(x, w))};
}

double output_error_of(const Tensor& exact, const Tensor& rounded) {
  return relative(squared_difference(exact, rounded), variation(exact));
}

std::vector<double> output_errors(Reference& engine, const Tensor& weight, const Tensor& rows,
                                  int input_bits) {
  std::vector<double> errors;
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    const int width = input_bits ? input_bits : bits;
    errors.push_back(linear_error(engine, weight, quantize_weight(weight, bits), rows,
                                  {width, search_range(rows.data, width)})
                         .output);
  }
  return errors;
}

double decibels(double error) {
  return std::min(99.0, -10 * std::log10(std::max(error, 1e-12)));
}

}  // namespace vitrun
