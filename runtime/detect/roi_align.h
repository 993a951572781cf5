// RoIAlign: the part of a feature map under a box, resampled to bins x bins. Samples are half a
// pixel off ("aligned"), ceil(size / bins) of them along each side of a bin.
#pragma once

#include <span>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/shapes.h"
#include "runtime/detect/boxes.h"
#include "runtime/detect/networks.h"
#include "runtime/threads.h"

namespace vitrun {

// One direction of a RoI. The samples of a bin are a grid, so a bin is
//   sum_y sum_x w_y w_x map[y, x] / (samples of y * samples of x),
// where w_y and w_x add up what the bilinear samples take of a row or column of the map.
struct RoiAxis {
  struct Bin {
    int begin = 0, count = 0;  // rows or columns of the map
    size_t weights = 0;        // the first of `count`
  };
  int samples = 0;  // a bin; 0: the box has no size, and its bins are zeros
  std::vector<Bin> bins;
  std::vector<float> weights;
};

// The bins of [start, end) in the image's pixels on a map of `side` pixels of `stride`. The buffers
// of `axis` are used again. No work beyond kMaxRoiSamples a bin, whatever the numbers.
inline constexpr int kMaxRoiSamples = 8192;
void plan_roi_axis(float start, float end, int stride, int side, int bins, RoiAxis& axis);

// The level whose map a box reads: floor(log2(sqrt(w h) / 56 + 1e-6)), in 0..levels - 1.
int roi_level(const Box& box, int levels);

// Returns [boxes, bins * bins, C], bins row by row. strides[i] is that of maps[i]. A box that is
// not finite gives zeros. The RoIs are shared among the pool's threads, if there is one. Fails if
// the maps differ in C or are not of their size.
Tensor roi_align(std::span<const FeatureMap> maps, std::span<const int> strides,
                 std::span<const Box> boxes, int bins, ThreadPool* pool = nullptr);

// A pixel of the map gets back from a bin the gradient, by its part of the bin's value, or a share
// of the bin's relevance, all shares of a bin being 1 together.
enum class RoiFlow { kGradient, kRelevance };

// The transpose of roi_align() for one box on a map: adds `from` [bins * bins, C] to the map's
// pixels, `to` [height * width, C]. Returns the sum of the bins that lie outside the map, which no
// pixel gets.
double roi_align_back(RoiFlow flow, const Box& box, int stride, MapSize map, int bins,
                      std::span<const float> from, std::span<float> to);

}  // namespace vitrun
