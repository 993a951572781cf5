#include "models/families/resize_positions.h"

#include <algorithm>
#include <cmath>

#include "models/base/index.h"

namespace vitrun {
namespace {

// Keys' cubic convolution kernel.
double cubic(double x, double a) {
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// The weights [to, from] of one axis.
std::vector<double> axis_weights(int from, int to, PositionFilter filter) {
  std::vector<double> weights(array_size(to, from));
  const bool antialias = filter == PositionFilter::kBicubicAntialias,
             bilinear = filter == PositionFilter::kBilinear;
  const double scale = static_cast<double>(from) / to, width = antialias ? std::max(scale, 1.0) : 1;
  for (int i = 0; i < to; i++) {
    double* row = weights.data() + int64_t{i} * from;
    const double centre = scale * (i + 0.5) - 0.5;
    if (!antialias) {
      const int first = static_cast<int>(std::floor(centre)) - 1;
      for (int j = first; j < first + 4; j++)
        row[std::clamp(j, 0, from - 1)] +=
            bilinear ? std::max(1 - std::fabs(j - centre), 0.0) : cubic(j - centre, -0.75);
      continue;
    }
    double sum = 0;
    for (int j = 0; j < from; j++) sum += row[j] = cubic((j - centre) / width, -0.5);
    for (int j = 0; j < from; j++) row[j] /= sum;
  }
  return weights;
}

}  // namespace

Tensor resize_positions(const Tensor& positions, int prefix, const GridChange& g,
                        PositionFilter filter) {
  const int64_t cols = positions.dims[2];
  const std::vector<double> down = axis_weights(g.from_height, g.to_height, filter),
                            across = axis_weights(g.from_width, g.to_width, filter);
  Tensor out({1, prefix + int64_t{g.to_height} * g.to_width, cols});
  std::copy_n(positions.data.begin(), prefix * cols, out.data.begin());
  const float* from = positions.data.data() + prefix * cols;
  float* to = out.data.data() + prefix * cols;
  std::vector<double> row(array_size(cols));
  for (int y = 0; y < g.to_height; y++)
    for (int x = 0; x < g.to_width; x++) {
      std::ranges::fill(row, 0);
      for (int j = 0; j < g.from_height; j++)
        for (int i = 0; i < g.from_width; i++) {
          const double w =
              at(down, int64_t{y} * g.from_height + j) * at(across, int64_t{x} * g.from_width + i);
          if (w == 0) continue;
          const float* source = from + (int64_t{j} * g.from_width + i) * cols;
          for (int64_t k = 0; k < cols; k++) row[static_cast<size_t>(k)] += w * double{source[k]};
        }
      for (double v : row) *to++ = static_cast<float>(v);
    }
  return out;
}

}  // namespace vitrun
