#include "runtime/program/coco/coco_masks.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

constexpr int kFifths = 5;
constexpr int64_t kMaxBoundary = 1 << 24;

struct GridPoint {
  int x, y;  // in fifths of a pixel
};

// Half up for positive coordinates; C's cast goes to zero for the others.
int rounded(double x) {
  return static_cast<int>(x + .5);
}

// Collects where a boundary on the fine grid crosses the centres of pixel columns.
class Crossings {
 public:
  Crossings(int height, int width) : height_(height), width_(width) {}

  void visit(GridPoint p) {
    if (started_ && p.x != last_.x) cross(p);
    last_ = p;
    started_ = true;
  }

  // Inside and outside take turns at the crossings; two at one place are none.
  Rle runs() {
    std::ranges::sort(places_);
    RunWriter writer(height_, width_);
    int64_t done = 0;
    bool inside = false;
    for (int64_t place : places_) {
      writer.add(inside, place - done);
      inside = !inside;
      done = place;
    }
    writer.add(inside, int64_t{height_} * width_ - done);
    return writer.finish();
  }

 private:
  // A step between fine columns 5 n + 2 and 5 n + 3 passes the centre of pixel column n. The pixels
  // from the row below it on change sides.
  void cross(GridPoint p) {
    const int column = p.x < last_.x ? p.x : p.x - 1;
    if (column < 0 || column % kFifths != 2 || column / kFifths >= width_) return;
    const int y = std::min(p.y, last_.y);
    const int row = y <= 2 ? 0 : std::min((y + 2) / kFifths, height_);
    places_.push_back(int64_t{column / kFifths} * height_ + row);
  }

  int height_, width_;
  GridPoint last_ = {0, 0};
  bool started_ = false;
  std::vector<int64_t> places_;  // x height + y
};

// Visits the points from a to b, one a column or, where the edge is steep, one a row. Both
// directions visit the same points.
void walk_edge(GridPoint a, GridPoint b, Crossings& crossings) {
  const int dx = std::abs(b.x - a.x), dy = std::abs(b.y - a.y);
  const bool flat = dx >= dy, backward = flat ? a.x > b.x : a.y > b.y;
  if (backward) std::swap(a, b);
  const int length = std::max(dx, dy);
  const double slope = length == 0 ? 0 : static_cast<double>(flat ? b.y - a.y : b.x - a.x) / length;
  for (int step = 0; step <= length; step++) {
    const int t = backward ? length - step : step;
    if (flat)
      crossings.visit({a.x + t, rounded(a.y + slope * t)});
    else
      crossings.visit({rounded(a.x + slope * t), a.y + t});
  }
}

// Calls visit(in a, in b, pixels) for each stretch over which neither mask changes.
template <class Visit>
void for_each_stretch(const Rle& a, const Rle& b, Visit visit) {
  size_t i = 0, j = 0;
  uint32_t left_a = 0, left_b = 0;
  for (;;) {
    while (left_a == 0 && i < a.counts.size()) left_a = a.counts[i++];
    while (left_b == 0 && j < b.counts.size()) left_b = b.counts[j++];
    const uint32_t pixels = std::min(left_a, left_b);
    if (pixels == 0) return;
    visit(i % 2 == 0, j % 2 == 0, pixels);
    left_a -= pixels;
    left_b -= pixels;
  }
}

}  // namespace

Rle rle_of_polygon(std::span<const double> points, int height, int width) {
  std::vector<GridPoint> grid;
  for (size_t i = 0; i + 1 < points.size(); i += 2)
    grid.push_back({rounded(kFifths * points[i]), rounded(kFifths * points[i + 1])});
  grid.push_back(grid.front());
  int64_t boundary = 0;
  for (size_t i = 1; i < grid.size(); i++)
    boundary += std::max(std::abs(grid[i].x - grid[i - 1].x), std::abs(grid[i].y - grid[i - 1].y));
  if (boundary > kMaxBoundary)
    fail("a polygon has a boundary of ", boundary / kFifths, " pixels, at most ",
         kMaxBoundary / kFifths);
  Crossings crossings(height, width);
  for (size_t i = 1; i < grid.size(); i++) walk_edge(grid[i - 1], grid[i], crossings);
  return crossings.runs();
}

Rle rle_union(const Rle& a, const Rle& b) {
  RunWriter writer(a.height, a.width);
  for_each_stretch(a, b, [&](bool in_a, bool in_b, uint32_t n) { writer.add(in_a || in_b, n); });
  return writer.finish();
}

double mask_overlap(const Rle& detection, const Rle& object, bool crowd) {
  int64_t both = 0, either = 0;
  for_each_stretch(detection, object, [&](bool in_a, bool in_b, uint32_t pixels) {
    if (in_a && in_b) both += pixels;
    if (in_a || in_b) either += pixels;
  });
  if (both == 0) return 0;
  return ratio(both, crowd ? detection.area() : either);
}

double box_overlap(const CocoBox& d, const CocoBox& o, bool crowd) {
  const double width = std::fmin(d.width + d.x, o.width + o.x) - std::fmax(d.x, o.x);
  const double height = std::fmin(d.height + d.y, o.height + o.y) - std::fmax(d.y, o.y);
  if (width <= 0 || height <= 0) return 0;
  const double both = width * height, own = d.width * d.height;
  return both / (crowd ? own : own + o.width * o.height - both);
}

}  // namespace vitrun
