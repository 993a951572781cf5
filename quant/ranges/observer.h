// Finds ranges of tensors by the percentile search of method.md section 2, from exact quantiles of
// a stream in bounded memory.
#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "runtime/integer/qmodel.h"

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
  // Quantiles p and 1 - p, by linear interpolation between order statistics, as NumPy and PyTorch
  // do. Valid once all values were given.
  double high(double p);
  double low(double p);

 private:
  // `kept` holds the `keep_` largest of the values given, unordered, and more until it is trimmed.
  struct Tail {
    std::vector<float> kept;
    float threshold;  // a value that is not above it cannot be among the largest
  };
  void trim(Tail& tail) const;
  double quantile_from_top(Tail& tail, double p) const;

  int64_t count_, seen_ = 0;
  size_t keep_;
  Tail top_, bottom_;  // bottom_ holds negated values
};

// s = (hi - lo) / (2^b - 1), z = round(-lo / s), after widening [lo, hi] to contain 0 so that 0 <=
// z < 2^b; an empty range gives scale 1.
UniformRange uniform_range(double lo, double hi, int bits);

// Return the code of x, and the value that a code stands for.
int quantize(float x, UniformRange range, int bits);
inline float dequantize(int code, UniformRange range) {
  return range.scale * static_cast<float>(code - range.zero);
}

// sum (x - x^)^2 over the values.
double squared_error(std::span<const float> values, UniformRange range, int bits);

// The percentile search over values at hand (one row of a weight): returns the range of least
// squared error.
UniformRange search_range(std::span<const float> values, int bits);

// s and z of method.md section 3: the scale and zero point of each channel of a LayerNorm's output.
// z is not held to 0 .. 2^bits - 1, because it disappears into beta.
struct ChannelStatistics {
  int bits = 8;
  std::vector<double> scale, zero;

  // Holds s and z to mean +- k standard deviations over the channels, k > 0 or infinity.
  ChannelStatistics clipped(double k) const;
  // The quantizer of the folded output: s~ = mean(s), z~ = round(mean(z)), held within the codes.
  UniformRange mean() const;
};

// The ranges among which a channel may choose.
enum class ChannelSearch {
  kByPercentile,  // those of the percentile search on the channel
  kByPowerOfTwo,  // FQ-ViT's (method.md section 19): scale 2^a s8 / 8 with a in 0..3, where (s8, z)
                  // is the range of all channels together
};

// Finds the range of least squared error for every channel of a stream of rows [.., channels]:
// add() all rows, then set_candidates(), then add_error() all rows again. Each channel takes the
// memory of a TailObserver.
class ChannelObserver {
 public:
  // `rows` rows will be given in all.
  ChannelObserver(int channels, int64_t rows, int bits);

  void add(std::span<const float> rows);
  void set_candidates(ChannelSearch search);
  void add_error(std::span<const float> rows);
  ChannelStatistics best() const;

 private:
  struct Candidate {
    std::vector<UniformRange> ranges;  // by channel
    std::vector<double> error;         // by channel
  };

  int bits_;
  std::vector<TailObserver> tails_;
  std::vector<Candidate> candidates_;

  Candidate percentile(double p);
  Candidate power_of_two(int exponent);
};

}  // namespace vitrun
