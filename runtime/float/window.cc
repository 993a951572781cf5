// Window gathers neighbourhoods into rows, Unwindow adds rows back to neighbourhoods: each is the
// other's adjoint.
#include <algorithm>

#include "models/graph/neighbourhoods.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

// Calls body(element of the row, element of the map, floats) for runs of a neighbourhood's elements
// that lie side by side in both; outside elements are left out. `channels` of a map, `planar` an
// image.
template <class Body>
void for_each_run(const Neighbourhoods& n, ElementOrder order, bool planar, int channels,
                  int position, const Body& body) {
  const int64_t area = int64_t{n.height} * n.width;
  for (int ky = 0; ky < n.kernel_height; ky++)
    for (int kx = 0; kx < n.kernel_width; kx++) {
      const int row = n.row(position, ky, kx);
      if (row < 0) continue;
      const int k = order == ElementOrder::kColumnsFirst ? kx * n.kernel_height + ky
                                                         : ky * n.kernel_width + kx;
      if (order != ElementOrder::kChannelsFirst && !planar) {
        body(int64_t{k} * channels, int64_t{row} * channels, channels);
        continue;
      }
      for (int c = 0; c < channels; c++)
        body(order == ElementOrder::kChannelsFirst ? int64_t{c} * n.kernel() + k
                                                   : int64_t{k} * channels + c,
             planar ? c * area + row : int64_t{row} * channels + c, 1);
    }
}

ElementOrder order_of(const Node& n) {
  return static_cast<ElementOrder>(n.whole(Attribute::kOrder));
}

// Rows of neighbourhoods from maps, or maps from rows.
Values to_map(const Neighbourhoods& n, ElementOrder order, const Shape& map, const Values& rows) {
  Values out(static_cast<size_t>(map.size()), 0);
  const int64_t cols = int64_t{n.kernel()} * map.cols;
  for (int p = 0; p < n.positions(); p++)
    for_each_run(n, order, map.planar, map.cols, p, [&](int64_t from, int64_t to, int count) {
      for (int i = 0; i < count; i++)
        out[static_cast<size_t>(to + i)] += rows[static_cast<size_t>(p * cols + from + i)];
    });
  return out;
}

Values to_rows(const Neighbourhoods& n, const Shape& map, const Values& values) {
  const int64_t cols = int64_t{n.kernel()} * map.cols;
  Values out(static_cast<size_t>(n.positions() * cols), 0);
  for (int p = 0; p < n.positions(); p++)
    for_each_run(n, ElementOrder::kRowsFirst, false, map.cols, p,
                 [&](int64_t to, int64_t from, int count) {
                   std::copy_n(values.data() + from, count, out.data() + p * cols + to);
                 });
  return out;
}

}  // namespace

void forward_window(const ForwardCall& c) {
  const Shape& map = c.shape_of(0);
  const Neighbourhoods n = neighbourhoods_of(c.node(), map, c.shape());
  const ElementOrder order = order_of(c.node());
  parallel(c.pool, c.batch() * n.positions(), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* from = c.in[0]->data.data() + row / n.positions() * map.size();
      float* to = c.y.data.data() + row * c.shape().cols;
      for_each_run(n, order, map.planar, map.cols, static_cast<int>(row % n.positions()),
                   [&](int64_t at_row, int64_t at_map, int count) {
                     std::copy_n(from + at_map, count, to + at_row);
                   });
    }
  });
}

// Relevance that elements outside the map received is lost.
double backward_window(const BackwardCall& c, Flows& to) {
  const Shape& map = c.shape_of(0);
  const Neighbourhoods n = neighbourhoods_of(c.node(), map, c.shape());
  const ElementOrder order = order_of(c.node());
  to[0].gradient = to_map(n, order, map, c.flow.gradient);
  if (!c.flow.relevant()) return 0;
  to[0].relevance = to_map(n, order, map, c.flow.relevance);
  return sum(c.flow.relevance) - sum(to[0].relevance);
}

// Every element of the map is the sum of its contributions in the order of their rows.
void forward_unwindow(const ForwardCall& c) {
  const Neighbourhoods n = neighbourhoods_of(c.node(), c.shape(), c.shape_of(0));
  const float* bias = c.param(c.node().bias);
  const int channels = c.shape().cols;
  parallel(c.pool, c.batch(), [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; image++) {
      const float* rows = c.in[0]->data.data() + image * c.shape_of(0).size();
      float* map = c.y.data.data() + image * c.shape().size();
      for (int p = 0; p < n.positions(); p++, rows += c.shape_of(0).cols)
        for_each_run(n, ElementOrder::kRowsFirst, false, channels, p,
                     [&](int64_t from, int64_t to, int count) {
                       for (int i = 0; i < count; i++) map[to + i] += rows[from + i];
                     });
      for (int64_t i = 0; bias && i < c.shape().size(); i++) map[i] += bias[i % channels];
    }
  });
}

// R_i = x_i safe(R, y - b): contributions to a sum get their parts of it.
double backward_unwindow(const BackwardCall& c, Flows& to) {
  const Neighbourhoods n = neighbourhoods_of(c.node(), c.shape(), c.shape_of(0));
  to[0].gradient = to_rows(n, c.shape(), c.flow.gradient);
  if (!c.flow.relevant()) return 0;
  const float* bias = c.node().bias.empty() ? nullptr : c.weights.at(c.node().bias).data.data();
  const auto channels = static_cast<size_t>(c.shape().cols);
  Values s(c.out.data.size());
  double lost = 0;
  for (size_t i = 0; i < s.size(); i++) {
    const float y = c.out.data[i] - (bias ? bias[i % channels] : 0);
    s[i] = safe_divide(c.flow.relevance[i], y);
    if (y == 0) lost += double{c.flow.relevance[i]};
  }
  to[0].relevance = to_rows(n, c.shape(), s);
  for (size_t i = 0; i < to[0].relevance.size(); i++) to[0].relevance[i] *= c.in[0]->data[i];
  return lost;
}

}  // namespace vitrun
