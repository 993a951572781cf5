// Chooses the 2^bits levels of a tensor among 256 8-bit codes, close together where the values are
// (method.md section 9, [ours]). Products with levels run as 8-bit ones behind a table look-up
// (kernels/kernels.h, map_rows).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/ranges/observer.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// A histogram of weighted values by their 8-bit code. Its sums give the exact squared error of any
// levels that are codes, clipped values included.
class LevelHistogram {
 public:
  explicit LevelHistogram(UniformRange range) : range_(range) {}

  UniformRange range() const { return range_; }
  // Adds row [columns]; the value in column i weighs weights[i] * weight.
  void add(std::span<const float> row, std::span<const float> weights, double weight);

  struct Levels {
    std::vector<LevelRun> runs;
    double error = 0;  // sum of weight * (x^ - x)^2
  };
  // Finds the cut of the codes into at most 2^bits runs that has the least error, by dynamic
  // programming. With `keep_last` code 255 stays a run of its own: all full copies of an outlier
  // channel are at that code (quant/rewrite/split_outliers.h).
  Levels best(int bits, bool keep_last = false) const;

 private:
  struct Bin {
    double weight = 0, sum = 0, squares = 0;  // sums of w, w x, w x^2; x in steps from code 0
  };

  UniformRange range_;
  std::array<Bin, 256> bins_{};
};

}  // namespace vitrun
