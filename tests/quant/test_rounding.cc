// Rounding weights with feedback against GPTQ's own recursion in numpy (golden/make_quant.py).
#include <doctest/doctest.h>

#include "quant/weights/rounding.h"
#include "runtime/files/npy.h"

namespace vitrun {
namespace {

const std::string kGolden = std::string(VITRUN_TEST_DIR) + "/golden/quant/";

struct FeedbackGolden {
  Tensor weight, codes, ranges;
  Factor columns;
};

Factor factor_golden(const std::string& lower, const std::string& order) {
  const Tensor o = read_npy(kGolden + order + ".npy");
  return {{o.data.begin(), o.data.end()}, read_npy(kGolden + lower + ".npy").data};
}

FeedbackGolden feedback_golden(const std::string& prefix) {
  const auto file = [&](const char* name) { return read_npy(kGolden + prefix + name + ".npy"); };
  return {file("_weight"), file("_codes"), file("_ranges"),
          factor_golden(prefix + "_factor", prefix + "_columns")};
}

void check_feedback(const FeedbackGolden& golden, const Factor& rows) {
  const WeightCodes got = round_with_feedback(golden.weight, golden.columns, rows, {4});
  int different = 0;  // float rounding may move a code over an edge, and with it those after
  for (size_t i = 0; i < got.codes.size(); i++)
    different += got.codes[i] != static_cast<int>(golden.codes.data[i]);
  CHECK(different <= 2);
  for (size_t row = 0; row < got.ranges.size(); row++) {
    CHECK(got.ranges[row].scale == doctest::Approx(golden.ranges.data[2 * row]).epsilon(1e-5));
    CHECK(got.ranges[row].zero == static_cast<int>(golden.ranges.data[2 * row + 1]));
  }
}

TEST_CASE("rounding with feedback gives the codes of GPTQ's inverse Hessian") {
  const FeedbackGolden golden = feedback_golden("feedback");
  const auto n = static_cast<size_t>(golden.weight.dims[0]);
  Doubles apart(n * n);
  for (size_t i = 0; i < n; i++) apart[i * (n + 1)] = 1;
  check_feedback(golden, factor(apart, 0));
}

TEST_CASE("rows with feedback are one row of Kronecker's product of Hessians") {
  check_feedback(feedback_golden("rows"), factor_golden("rows_between", "rows_order"));
}

TEST_CASE("the error of a rounding is tr(C E H E^T), and descent lowers it") {
  const FeedbackGolden golden = feedback_golden("rows");
  const size_t n = static_cast<size_t>(golden.weight.dims[0]),
               k = static_cast<size_t>(golden.weight.dims[1]);
  const auto square = [](const Factor& f) {  // L L^T, back in its own order
    const size_t size = f.size();
    Doubles m(size * size);
    for (size_t i = 0; i < size; i++)
      for (size_t j = 0; j < size; j++)
        for (size_t l = 0; l < size; l++)
          m[static_cast<size_t>(f.order[i]) * size + static_cast<size_t>(f.order[j])] +=
              double{f.lower[i * size + l]} * double{f.lower[j * size + l]};
    return m;
  };
  const Factor rows = factor_golden("rows_between", "rows_order");
  const Doubles h = square(golden.columns), c = square(rows);
  WeightCodes codes = quantize_weight(golden.weight, 3);
  const auto error = [&] {
    const Tensor w = dequantize_weight(codes);
    double sum = 0;
    for (size_t a = 0; a < n; a++)
      for (size_t b = 0; b < n; b++)
        for (size_t i = 0; i < k; i++)
          for (size_t j = 0; j < k; j++)
            sum += c[a * n + b] * h[i * k + j] *
                   double{w.data[a * k + i] - golden.weight.data[a * k + i]} *
                   double{w.data[b * k + j] - golden.weight.data[b * k + j]};
    return sum;
  };
  ThreadPool pool(2);
  const double nearest = error();
  CHECK(output_error(h, c, golden.weight, codes) == doctest::Approx(nearest).epsilon(1e-3));
  descend({h, 0}, {c, 0}, rows.order, golden.weight, codes, pool);
  CHECK(error() < 0.7 * nearest);
  const double descended = error();
  descend({h, 0}, {c, 0}, rows.order, golden.weight, codes, pool);
  CHECK(error() <= descended * (1 + 1e-6));
}

}  // namespace
}  // namespace vitrun
