// Ranges of tensors: exact quantiles of a stream in bounded memory, and the percentile search of
// method.md section 2.
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

// Scale s and zero point z of each channel of a LayerNorm's output, of `bits` bits. z is not held
// to 0 .. 2^bits - 1: it disappears into beta.
struct ChannelStatistics {
  int bits = 8;
  std::vector<double> scale, zero;

  // s and z held to mean +- k standard deviations over the channels; an infinite k changes nothing.
  ChannelStatistics clipped(double k) const;
  // s~ = mean(s), z~ = round(mean(z)), within the codes: the quantizer of the folded output.
  UniformRange mean() const;
};

// Between which ranges a channel may choose.
enum class ChannelSearch {
  kByPercentile,  // its own, by the percentile search
  kByPowerOfTwo,  // FQ-ViT (2111.13824): 2^a s with a in 0..3, and z, where 8 s and z are the range
                  // of all channels together
};

// The least squared error for every channel of a stream of rows [.., channels] at once: add() all
// rows, then set_candidates(), then add_error() all rows again. Memory as TailObserver, by channel.
class ChannelObserver {
 public:
  // `rows` will be given in all.
  ChannelObserver(int channels, int64_t rows, int bits);

  void add(std::span<const float> rows);
  void set_candidates(ChannelSearch search);
  void add_error(std::span<const float> rows);
  ChannelStatistics best() const;

 private:
  struct Candidate {
    std::vector<UniformRange> ranges;  // of the channels
    std::vector<double> error;
  };

  int bits_;
  std::vector<TailObserver> tails_;
  std::vector<Candidate> candidates_;

  Candidate percentile(double p);
  Candidate power_of_two(int exponent);
};

}  // namespace vitrun
