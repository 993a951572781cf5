#include "runtime/detect/masks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

// The pixels of one direction that lie near the box, and where they fall on the mask.
struct PasteAxis {
  // Pixels [begin, end) between cells `low` and low + 1, of which one may be outside the mask.
  struct Stretch {
    int low, begin, end;
  };
  int begin = 0;            // the first pixel
  std::vector<float> part;  // by pixel: this far from cell `low` to the next
  std::vector<Stretch> stretches;
  int count() const { return count_of(part); }
};

// The image's pixels from one before the box to one behind it.
PasteAxis plan_axis(float start, float end, int length, int side) {
  const auto limit = static_cast<float>(length);
  PasteAxis axis;
  axis.begin = static_cast<int>(std::clamp(std::floor(start) - 1, 0.0f, limit));
  const int stop = static_cast<int>(std::clamp(std::ceil(end) + 1, 0.0f, limit));
  for (int i = axis.begin; i < stop; i++) {
    const float unit = (static_cast<float>(i) + 0.5f - start) / (end - start) * 2 - 1;
    const float place = ((unit + 1) * static_cast<float>(side) - 1) / 2;
    const float cell = std::floor(place);
    const bool inside = cell >= -1 && cell < static_cast<float>(side);
    const int low = inside ? static_cast<int>(cell) : side;  // two cells outside
    if (axis.stretches.empty() || axis.stretches.back().low != low)
      axis.stretches.push_back({low, i, i});
    axis.stretches.back().end++;
    axis.part.push_back(inside ? place - cell : 0);
  }
  return axis;
}

float blend(float a, float b, float part) {
  return a + part * (b - a);
}

// Resamples the mask along x for one column of pixels: cells [side + 3], a zero before the mask's
// and two behind.
void blend_column(std::span<const float> mask, int side, int low, float part,
                  std::vector<float>& cells) {
  const auto cell = [&](int row, int x) {
    return x >= 0 && x < side ? mask[array_size(row, side) + array_size(x)] : 0;
  };
  for (int row = 0; row < side; row++)
    at(cells, row + 1) = blend(cell(row, low), cell(row, low + 1), part);
}

constexpr float kThreshold = 0.5f;

// Adds the runs of one column. A stretch between two cells of one side of the threshold is one run.
void add_column(const std::vector<float>& cells, const PasteAxis& y, RunWriter& runs) {
  for (const PasteAxis::Stretch& stretch : y.stretches) {
    const float a = at(cells, stretch.low + 1), b = at(cells, stretch.low + 2);
    if ((a >= kThreshold) == (b >= kThreshold)) {
      runs.add(a >= kThreshold, stretch.end - stretch.begin);
      continue;
    }
    for (int i = stretch.begin; i < stretch.end; i++)
      runs.add(blend(a, b, at(y.part, i - y.begin)) >= kThreshold, 1);
  }
}

// The runs of the columns under the box, with what is above and below it.
void add_columns(std::span<const float> mask, int side, const PasteAxis& x, const PasteAxis& y,
                 int height, RunWriter& runs) {
  std::vector<float> cells(static_cast<size_t>(side) + 3);
  for (const PasteAxis::Stretch& stretch : x.stretches) {
    for (int i = stretch.begin; i < stretch.end; i++) {
      blend_column(mask, side, stretch.low, at(x.part, i - x.begin), cells);
      runs.add(false, y.begin);
      add_column(cells, y, runs);
      runs.add(false, height - y.begin - y.count());
    }
  }
}

}  // namespace

Rle paste_mask(std::span<const float> mask, int side, const Box& box, int height, int width) {
  if (side < 1 || mask.size() != array_size(side, side))
    fail("mask: ", mask.size(), " elements, expected ", side, "x", side);
  RunWriter runs(height, width);
  if (!box.is_finite() || !(box.width() > 0 && box.height() > 0)) {
    runs.add(false, int64_t{height} * width);
    return runs.finish();
  }
  const PasteAxis x = plan_axis(box.x1, box.x2, width, side);
  const PasteAxis y = plan_axis(box.y1, box.y2, height, side);
  runs.add(false, int64_t{height} * x.begin);
  add_columns(mask, side, x, y, height, runs);
  runs.add(false, int64_t{height} * (width - x.begin - x.count()));
  return runs.finish();
}

}  // namespace vitrun
