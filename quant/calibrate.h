// Activation ranges from calibration images (method.md section 2).
#pragma once

#include <functional>
#include <vector>

#include "models/sites.h"
#include "quant/observer.h"
#include "runtime/reference.h"

namespace vitrun {

// What a site needs at run time. kLogSqrt2 has no zero point.
struct SiteRange {
  int bits = 8;
  UniformRange range;
};

// Calibration input: `count` preprocessed images, handed out in batches so that only one batch is
// in memory.
struct ImageSource {
  int64_t count = 0;
  // Images [first, first + n) as [n, 3, H, W].
  std::function<Tensor(int64_t first, int64_t n)> load;
};

// Called with the fraction done, 0..1.
using Progress = std::function<void(double)>;

// The range of every site by the percentile search: two passes over the images, the first for exact
// quantiles, the second for the squared error of each candidate. bits[i] belongs to sites[i].
// Memory is bounded by one batch and 0.2 % of the observed values.
std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const Progress& progress = {});

}  // namespace vitrun
