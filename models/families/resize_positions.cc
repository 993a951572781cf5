#include "models/families/resize_positions.h"

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
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

// The places among the new offsets that timm gives the old ones, -(from / 2) to from / 2.
std::vector<double> geometric_offsets(int from, int to) {
  const int reach = from / 2;
  double low = 1.01, high = 1.5, q = low;
  while (high - low > 1e-6) {
    q = (low + high) / 2;
    ((1 - std::pow(q, reach)) / (1 - q) > to / 2 ? high : low) = q;
  }
  std::vector<double> offsets(array_size(2 * reach + 1));
  double offset = 0;
  for (int i = 1; i <= reach; i++) {
    offset += std::pow(q, i - 1);
    at(offsets, reach + i) = offset;
    at(offsets, reach - i) = -offset;
  }
  return offsets;
}

std::vector<double> geometric_weights(int from, int to) {
  const std::vector<double> offsets = geometric_offsets(from, to);
  std::vector<double> weights(array_size(to, from));
  for (int i = 0; i < to; i++) {
    double* row = weights.data() + int64_t{i} * from;
    const double x = std::clamp(static_cast<double>(i - to / 2), offsets.front(), offsets.back());
    const auto right = std::ranges::lower_bound(offsets, x) - offsets.begin();
    const double step = right > 0 ? at(offsets, right) - at(offsets, right - 1) : 1;
    const double left = (at(offsets, right) - x) / step;
    row[right] = 1 - left;
    if (right > 0) row[right - 1] = left;
  }
  return weights;
}

// The weights [to, from] of one axis.
std::vector<double> axis_weights(int from, int to, PositionFilter filter) {
  if (filter == PositionFilter::kGeometric) return geometric_weights(from, to);
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

// Resizes a grid of rows of `cols` numbers.
void resize_grid(const float* from, float* to, int64_t cols, const GridChange& g,
                 PositionFilter filter) {
  const std::vector<double> down = axis_weights(g.from_height, g.to_height, filter),
                            across = axis_weights(g.from_width, g.to_width, filter);
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
}

}  // namespace

Tensor resize_positions(const Tensor& positions, int prefix, const GridChange& g,
                        PositionFilter filter) {
  const int64_t cols = positions.dims[2];
  Tensor out({1, prefix + int64_t{g.to_height} * g.to_width, cols});
  std::copy_n(positions.data.begin(), prefix * cols, out.data.begin());
  resize_grid(positions.data.data() + prefix * cols, out.data.data() + prefix * cols, cols, g,
              filter);
  return out;
}

Tensor resize_relative_positions(const Tensor& table, const std::string& name,
                                 const GridChange& grid, PositionFilter filter) {
  const GridChange offsets{2 * grid.from_height - 1, 2 * grid.from_width - 1,
                           2 * grid.to_height - 1, 2 * grid.to_width - 1};
  const int64_t from = int64_t{offsets.from_height} * offsets.from_width,
                to = int64_t{offsets.to_height} * offsets.to_width;
  if (table.dims.size() != 2 || table.dims[0] < from)
    fail("'", name, "' is ", to_string(table.dims), ", expected at least ", from,
         " rows, as the grid is ", grid.from_height, "x", grid.from_width);
  const int64_t rest = table.dims[0] - from, cols = table.dims[1];
  Tensor out({to + rest, cols});
  resize_grid(table.data.data(), out.data.data(), cols, offsets, filter);
  std::copy_n(table.data.begin() + from * cols, rest * cols, out.data.begin() + to * cols);
  return out;
}

}  // namespace vitrun
