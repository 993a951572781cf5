#include "quant/ranges/code_levels.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vitrun {
namespace {

constexpr int kCodes = 256;

}  // namespace

void LevelHistogram::add(std::span<const float> row, std::span<const float> weights,
                         double weight) {
  const float inverse = 1 / range_.scale;
  for (size_t i = 0; i < row.size(); i++) {
    const double w = weight * double{weights[i]};
    const double x = double{row[i] * inverse} + range_.zero;
    Bin& bin = bins_[static_cast<size_t>(quantize(row[i], range_, 8))];
    bin.weight += w;
    bin.sum += w * x;
    bin.squares += w * x * x;
  }
}

LevelHistogram::Levels LevelHistogram::best(int bits, bool keep_last) const {
  std::array<Bin, kCodes + 1> before{};  // before[i] sums the bins below i
  for (size_t i = 0; i < kCodes; i++)
    before[i + 1] = {before[i].weight + bins_[i].weight, before[i].sum + bins_[i].sum,
                     before[i].squares + bins_[i].squares};
  struct Run {
    double error;
    int level;
  };
  const auto run = [&](size_t begin, size_t end) -> Run {
    const double w = before[end].weight - before[begin].weight,
                 s = before[end].sum - before[begin].sum,
                 q = before[end].squares - before[begin].squares;
    if (!(w > 0)) return {0, static_cast<int>(begin)};
    // Rounding up may lead out of the run, but levels must ascend.
    const double level =
        std::clamp(std::nearbyint(s / w), static_cast<double>(begin), static_cast<double>(end - 1));
    return {std::max(0.0, q - 2 * level * s + level * level * w), static_cast<int>(level)};
  };
  // least[n][end] is the least error of the bins below `end` in n runs; start[n][end] is where the
  // last of these runs begins.
  const size_t count = size_t{1} << bits;
  std::vector<std::vector<double>> least(
      count + 1, std::vector<double>(kCodes + 1, std::numeric_limits<double>::infinity()));
  std::vector<std::vector<size_t>> start(count + 1, std::vector<size_t>(kCodes + 1, 0));
  least[0][0] = 0;
  for (size_t end = 1; end <= kCodes; end++)
    for (size_t begin = end; begin-- > (keep_last && end == kCodes ? kCodes - 1 : 0);) {
      const double error = run(begin, end).error;
      for (size_t n = 1; n <= count; n++)
        if (const double sum = least[n - 1][begin] + error; sum < least[n][end]) {
          least[n][end] = sum;
          start[n][end] = begin;
        }
    }
  size_t n = 1;  // the fewest runs that have the least error
  for (size_t i = 2; i <= count; i++)
    if (least[i][kCodes] < least[n][kCodes]) n = i;
  Levels out{std::vector<LevelRun>(n), least[n][kCodes] * std::pow(double{range_.scale}, 2)};
  for (size_t end = kCodes; n > 0; n--) {
    const size_t begin = start[n][end];
    out.runs[n - 1] = {static_cast<uint8_t>(begin), static_cast<uint8_t>(run(begin, end).level)};
    end = begin;
  }
  return out;
}

}  // namespace vitrun
