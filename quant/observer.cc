#include "quant/observer.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
    sum += static_cast<double>(error * error);
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

}  // namespace vitrun
