#include "quant/ranges/observer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace vitrun {

TailObserver::TailObserver(int64_t count) : count_(count) {
  const double tail = (1 - kPercentiles[0]) * static_cast<double>(count);
  keep_ = static_cast<size_t>(std::ceil(tail)) + 2;  // both neighbours of the interpolation point
  for (Tail* t : {&top_, &bottom_}) {
    t->threshold = -std::numeric_limits<float>::infinity();
    t->kept.reserve(2 * keep_);
  }
}

void TailObserver::trim(Tail& tail) const {
  if (tail.kept.size() <= keep_) return;
  auto nth = tail.kept.begin() + static_cast<std::ptrdiff_t>(keep_) - 1;
  std::nth_element(tail.kept.begin(), nth, tail.kept.end(), std::greater<>());
  tail.threshold = *nth;
  tail.kept.resize(keep_);
}

void TailObserver::add(std::span<const float> values) {
  seen_ += static_cast<int64_t>(values.size());
  for (float x : values) {
    if (x > top_.threshold) top_.kept.push_back(x);
    if (-x > bottom_.threshold) bottom_.kept.push_back(-x);
    if (top_.kept.size() == 2 * keep_) trim(top_);
    if (bottom_.kept.size() == 2 * keep_) trim(bottom_);
  }
}

double TailObserver::quantile_from_top(Tail& tail, double p) const {
  std::sort(tail.kept.begin(), tail.kept.end(), std::greater<>());
  const double from_top = (1 - p) * static_cast<double>(count_ - 1);
  const size_t i = static_cast<size_t>(from_top);
  const double a = tail.kept[i], b = tail.kept[std::min(i + 1, tail.kept.size() - 1)];
  return a + (b - a) * (from_top - static_cast<double>(i));
}

double TailObserver::high(double p) {
  return quantile_from_top(top_, p);
}
double TailObserver::low(double p) {
  return -quantile_from_top(bottom_, p);
}

UniformRange uniform_range(double lo, double hi, int bits) {
  lo = std::min(lo, 0.0);
  hi = std::max(hi, 0.0);
  const int top = (1 << bits) - 1;
  const float scale = static_cast<float>((hi - lo) / top);
  if (!(scale >= std::numeric_limits<float>::min())) return {};
  return {scale, std::clamp(static_cast<int>(std::nearbyint(-lo / scale)), 0, top)};
}

int quantize(float x, UniformRange range, int bits) {
  const float low = static_cast<float>(-range.zero),
              high = static_cast<float>((1 << bits) - 1 - range.zero);
  return static_cast<int>(std::nearbyint(std::clamp(x * (1 / range.scale), low, high))) +
         range.zero;
}

double squared_error(std::span<const float> values, UniformRange range, int bits) {
  const float inverse = 1 / range.scale;
  const float low = static_cast<float>(-range.zero),
              high = static_cast<float>((1 << bits) - 1 - range.zero);
  double sum = 0;
  for (float x : values) {
    const float error = x - range.scale * std::nearbyint(std::clamp(x * inverse, low, high));
    sum += double{error * error};
  }
  return sum;
}

UniformRange search_range(std::span<const float> values, int bits) {
  TailObserver observer(static_cast<int64_t>(values.size()));
  observer.add(values);
  UniformRange best;
  double least = std::numeric_limits<double>::infinity();
  for (double p : kPercentiles) {
    const UniformRange range = uniform_range(observer.low(p), observer.high(p), bits);
    const double error = squared_error(values, range, bits);
    if (error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

namespace {

// Returns the range of one channel, which is widened to contain 0 only where it is nearly a point
// (method.md section 3).
UniformRange channel_range(double low, double high, int bits) {
  const double scale = (high - low) / ((1 << bits) - 1);
  if (high - low < 1e-3 * std::max(std::fabs(low), std::fabs(high)) || scale < 1e-30)
    return uniform_range(low, high, bits);
  const float s = static_cast<float>(scale);
  return {s, static_cast<int>(std::nearbyint(-low / double{s}))};
}

constexpr int kLargestExponent = 3;  // FQ-ViT's K

struct MeanAndDeviation {
  double mean, deviation;
};

MeanAndDeviation moments(const std::vector<double>& x) {
  const double n = static_cast<double>(x.size());
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double squares = 0;
  for (double v : x) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / n)};
}

std::vector<double> held(std::vector<double> x, double k) {
  const MeanAndDeviation m = moments(x);
  if (std::isinf(k)) return x;
  for (double& v : x) v = std::clamp(v, m.mean - k * m.deviation, m.mean + k * m.deviation);
  return x;
}

}  // namespace

ChannelStatistics ChannelStatistics::clipped(double k) const {
  return {bits, held(scale, k), held(zero, k)};
}

UniformRange ChannelStatistics::mean() const {
  const double top = (1 << bits) - 1;
  return {static_cast<float>(moments(scale).mean),
          static_cast<int>(std::clamp(std::nearbyint(moments(zero).mean), 0.0, top))};
}

ChannelObserver::ChannelObserver(int channels, int64_t rows, int bits)
    : bits_(bits), tails_(static_cast<size_t>(channels), TailObserver(rows)) {}

void ChannelObserver::add(std::span<const float> rows) {
  for (size_t i = 0; i < rows.size(); i++) tails_[i % tails_.size()].add(rows.subspan(i, 1));
}

ChannelObserver::Candidate ChannelObserver::percentile(double p) {
  Candidate out;
  for (TailObserver& t : tails_) out.ranges.push_back(channel_range(t.low(p), t.high(p), bits_));
  return out;
}

ChannelObserver::Candidate ChannelObserver::power_of_two(int exponent) {
  double low = 0, high = 0;
  for (TailObserver& t : tails_) {
    low = std::min(low, t.low(1));
    high = std::max(high, t.high(1));
  }
  UniformRange range = uniform_range(low, high, bits_);
  range.scale = std::ldexp(range.scale, exponent - kLargestExponent);
  return {std::vector<UniformRange>(tails_.size(), range), {}};
}

void ChannelObserver::set_candidates(ChannelSearch search) {
  if (search == ChannelSearch::kByPercentile)
    for (double p : kPercentiles) candidates_.push_back(percentile(p));
  else
    for (int a = 0; a <= kLargestExponent; a++) candidates_.push_back(power_of_two(a));
  for (Candidate& c : candidates_) c.error.assign(tails_.size(), 0);
  tails_.clear();
}

void ChannelObserver::add_error(std::span<const float> rows) {
  for (Candidate& candidate : candidates_) {
    const size_t channels = candidate.ranges.size();
    for (size_t i = 0; i < rows.size(); i++) {
      const UniformRange& r = candidate.ranges[i % channels];
      const float e = rows[i] - dequantize(quantize(rows[i], r, bits_), r);
      candidate.error[i % channels] += double{e * e};
    }
  }
}

ChannelStatistics ChannelObserver::best() const {
  ChannelStatistics out{bits_, {}, {}};
  for (size_t c = 0; c < candidates_[0].ranges.size(); c++) {
    const auto least = std::min_element(
        candidates_.begin(), candidates_.end(),
        [&](const Candidate& a, const Candidate& b) { return a.error[c] < b.error[c]; });
    out.scale.push_back(double{least->ranges[c].scale});
    out.zero.push_back(least->ranges[c].zero);
  }
  return out;
}

}  // namespace vitrun
