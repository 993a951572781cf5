// Which of the 8-bit codes a tensor of fewer bits should use: few levels, close together where the
// values are. [ours] It covers what AdaLog's logarithms and PTQ4ViT's twin ranges do after a GELU
// (method.md section 6) without their form, and runs as one 8-bit plane (kernels.h, map_rows).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/ranges/observer.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// Weighted values by their 8-bit code; exact for levels that are codes, clipped values included.
class LevelHistogram {
 public:
  explicit LevelHistogram(UniformRange range) : range_(range) {}

  UniformRange range() const { return range_; }
  // weights [columns] of the row's values, all times `weight`.
  void add(std::span<const float> row, std::span<const float> weights, double weight);

  struct Levels {
    std::vector<LevelRun> runs;
    double error = 0;  // sum of weight (x^ - x)^2
  };
  // The best of all ways to part the codes into at most 2^bits runs, by dynamic programming; with
  // `keep_last` of those in which code 255 stays alone, as copies of an outlier channel need, which
  // are at that code all at once (split.h).
  Levels best(int bits, bool keep_last = false) const;

 private:
  struct Bin {
    double weight = 0, sum = 0, squares = 0;  // of w, w x, w x^2; x in steps from code 0
  };

  UniformRange range_;
  std::array<Bin, 256> bins_{};
};

}  // namespace vitrun
