// Compares the polynomial functions of every ISA with the C library's functions in double.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/registry.h"

namespace vitrun {
namespace {

// The error of `got` in units of the last place of the float nearest to `want`.
double ulps(float got, double want) {
  const float nearest = static_cast<float>(want);
  const float next = std::nextafter(std::fabs(nearest), std::numeric_limits<float>::infinity());
  return std::fabs(got - want) / (double{next} - std::fabs(double{nearest}));
}

// Evenly spaced values from low to high. The count is odd, so that the last vector is not full.
std::vector<float> sweep(double low, double high, int count = 200003) {
  std::vector<float> x(static_cast<size_t>(count));
  for (int i = 0; i < count; i++) {
    x[static_cast<size_t>(i)] = static_cast<float>(low + (high - low) * i / (count - 1));
  }
  return x;
}

std::vector<float> apply(void (*f)(const float*, int64_t, float*), const std::vector<float>& x) {
  std::vector<float> y(x.size());
  f(x.data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

std::vector<float> activate(const Kernels& k, Activation type, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  k.activate(type, x.data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("exp is within 1 ulp of the double on [-87, 88]") {
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    const std::vector<float> x = sweep(-87, 88), y = apply(k->exp, x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); i++)
      worst = std::max(worst, ulps(y[i], std::exp(double{x[i]})));
    CHECK(worst <= 1.0);
  }
}

TEST_CASE("exp: exact at 0, clamped outside its range, finite for everything") {
  const std::vector<float> x = {0.0f, -0.0f, -100.0f, -kInf, kNan, 1e30f, kInf};
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    const std::vector<float> y = apply(k->exp, x);
    CHECK(y[0] == 1.0f);
    CHECK(y[1] == 1.0f);
    for (size_t i : {2u, 3u, 4u}) CHECK((y[i] > 0 && y[i] < 2e-38f));
    for (size_t i : {5u, 6u}) CHECK((y[i] > 3e38f && y[i] < kInf));
  }
}

TEST_CASE("gelu is within 1.8 ulp for x > 0 and 1e-7 for x <= 0") {
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    const std::vector<float> x = sweep(-12, 12), y = activate(*k, Activation::kGelu, x);
    double worst_ulps = 0, worst_absolute = 0;
    for (size_t i = 0; i < x.size(); i++) {
      const double want = 0.5 * x[i] * std::erfc(-x[i] / std::sqrt(2.0));
      if (x[i] > 0) {
        worst_ulps = std::max(worst_ulps, ulps(y[i], want));
      } else {
        worst_absolute = std::max(worst_absolute, std::fabs(y[i] - want));
      }
    }
    CHECK(worst_ulps <= 1.8);
    CHECK(worst_absolute <= 1e-7);
  }
}

double exact(Activation type, double x) {
  switch (type) {
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    default:
      return x / (1 + std::exp(-x));
  }
}

TEST_CASE("relu is exact, and has no negative zero") {
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    const std::vector<float> x = sweep(-3, 3), y = activate(*k, Activation::kRelu, x);
    for (size_t i = 0; i < x.size(); i++) CHECK(y[i] == (x[i] > 0 ? x[i] : 0.0f));
    const std::vector<float> ends = activate(*k, Activation::kRelu, {0.0f, -0.0f, 1e30f, kNan});
    CHECK(!std::signbit(ends[0]));
    CHECK(!std::signbit(ends[1]));
    CHECK(ends[2] == 1e30f);
    CHECK(std::isnan(ends[3]));
  }
}

TEST_CASE("activations by a sigmoid are within 1e-6 of their argument") {
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    for (Activation type : {Activation::kGeluTanh, Activation::kQuickGelu, Activation::kSilu}) {
      const std::vector<float> x = sweep(-40, 40), y = activate(*k, type, x);
      double worst = 0;
      for (size_t i = 0; i < x.size(); i++)
        worst = std::max(worst, std::fabs(y[i] - exact(type, double{x[i]})) /
                                    std::max(std::fabs(double{x[i]}), 1e-30));
      CHECK(worst <= 1e-6);
      const std::vector<float> ends = activate(*k, type, {0.0f, 1e30f, -1e9f, kNan});
      CHECK(ends[0] == 0.0f);
      CHECK(ends[1] > 0.99e30f);
      CHECK(std::fabs(ends[2]) <= 1e-7);
      CHECK(std::isnan(ends[3]));
    }
  }
}

TEST_CASE("gelu: zero, large, infinite and NaN arguments") {
  const std::vector<float> x = {0.0f, 100.0f, -100.0f, kInf, -kInf, kNan, 1e-40f};
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    CAPTURE(std::string(k->name));
    const std::vector<float> y = activate(*k, Activation::kGelu, x);
    CHECK(y[0] == 0.0f);
    CHECK(y[1] == 100.0f);
    CHECK(std::fabs(y[2]) <= 1e-7);
    CHECK(y[3] == kInf);
    CHECK(std::fabs(y[4]) <= 1e-7);
    CHECK(std::isnan(y[5]));
    CHECK(y[6] >= 0.0f);
  }
}

}  // namespace
}  // namespace vitrun
