// Ranges of tensors: exact quantiles of a stream in bounded memory, and the percentile search of
// method.md section 2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vitrun {

// The percentiles the search tries; hi = quantile(p), lo = quantile(1 - p).
constexpr double kPercentiles[] = {0.999, 0.9999, 0.99999};

// Exact quantiles p and 1-p for p >= 0.999 of a stream whose length is known in advance: it keeps
// the largest and smallest 0.1 % of the values and nothing else.
class TailObserver {
 public:
  // `count` values will be given in all.
  explicit TailObserver(int64_t count);

  // May be called any number of times.
  void add(std::span<const float> values);
  // Linear interpolation between order statistics, as NumPy and PyTorch do. Valid once all values
  // were given.
  double high(double p);
  double low(double p);

 private:
  // The `keep_` largest of what was given, in `kept` (unordered, more than keep_ until trimmed).
  struct Tail {
    std::vector<float> kept;
    float threshold;  // values not above it cannot be among the largest
  };
  void trim(Tail& tail) const;
  double quantile_from_top(Tail& tail, double p) const;

  int64_t count_, seen_ = 0;
  size_t keep_;
  Tail top_, bottom_;  // bottom_ holds negated values
};

// A uniform quantizer's scale and zero point (method.md section 2), evaluated as kernels.h does.
struct UniformRange {
  float scale = 1;
  int zero = 0;

  bool operator==(const UniformRange&) const = default;
};

// s = (hi - lo) / (2^b - 1), z = round(-lo / s), after widening [lo, hi] to contain 0 so that 0 <=
// z < 2^b; an empty range gives scale 1.
UniformRange uniform_range(double lo, double hi, int bits);

// The code of x, and the value it stands for.
int quantize(float x, UniformRange range, int bits);
inline float dequantize(int code, UniformRange range) {
  return range.scale * static_cast<float>(code - range.zero);
}

// Sum over the values of (x - x̂)^2.
double squared_error(std::span<const float> values, UniformRange range, int bits);

// The percentile search over values at hand (one weight row): the candidate with the least squared
// error.
UniformRange search_range(std::span<const float> values, int bits);

}  // namespace vitrun
