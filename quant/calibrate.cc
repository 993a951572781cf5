#include "quant/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/status.h"

namespace vitrun {
namespace {

constexpr int64_t kBatch = 8;
constexpr size_t kCandidates = std::size(kPercentiles);

// The elements of a site: columns [begin, end) of every row of its node's value.
template <class Body>  // body(std::span<const float>)
void for_each_row(const Site& site, const Tensor& value, const Body& body) {
  const int64_t cols = value.dims[2];
  if (site.end - site.begin == cols) return body(std::span(value.data));
  for (int64_t row = 0; row < value.dims[0] * value.dims[1]; row++)
    body(std::span(value.data)
             .subspan(static_cast<size_t>(row * cols + site.begin),
                      static_cast<size_t>(site.end - site.begin)));
}

// Sum of (x - x̂)^2 for each scale, sharing the logarithm between them.
void add_log_error(std::span<const float> values, const UniformRange* scales, int bits,
                   double* error) {
  float log_scale[kCandidates];
  for (size_t c = 0; c < kCandidates; c++) log_scale[c] = std::log2(scales[c].scale);
  std::vector<float> table;
  for (int k = 0; k < 1 << bits; k++)
    table.push_back(static_cast<float>(log_code_value(k)) / 65535);
  table.push_back(0);
  for (float x : values) {
    const float log_x = std::log2(x);  // -inf for 0, which falls to the code for 0
    for (size_t c = 0; c < kCandidates; c++) {
      const float k = std::nearbyint(
          std::clamp(2 * (log_scale[c] - log_x), 0.f, static_cast<float>(1 << bits)));
      const float e = x - scales[c].scale * table[static_cast<size_t>(k)];
      error[c] += static_cast<double>(e * e);
    }
  }
}

struct Search {
  const Site* site;
  int bits;
  TailObserver tails;
  UniformRange candidates[kCandidates];
  double error[kCandidates] = {};

  void set_candidates() {
    for (size_t c = 0; c < kCandidates; c++) {
      const double high = tails.high(kPercentiles[c]);
      candidates[c] = site->kind == CodeKind::kUniform
                          ? uniform_range(tails.low(kPercentiles[c]), high, bits)
                          : UniformRange{static_cast<float>(std::max(high, 1e-6)), 0};
    }
  }

  void add_error(const Tensor& value) {
    for_each_row(*site, value, [&](std::span<const float> row) {
      if (site->kind == CodeKind::kLogSqrt2) return add_log_error(row, candidates, bits, error);
      for (size_t c = 0; c < kCandidates; c++) error[c] += squared_error(row, candidates[c], bits);
    });
  }

  SiteRange best() const {
    return {bits, candidates[std::min_element(error, error + kCandidates) - error]};
  }
};

int64_t elements_per_image(const Graph& graph, const Site& site) {
  const Node& n = graph.nodes[static_cast<size_t>(site.node)];
  return n.size() / n.cols * (site.end - site.begin);
}

}  // namespace

std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const Progress& progress) {
  if (images.count < 1) fail("calibration needs at least one image");
  const Graph& graph = engine.graph();
  std::vector<Search> searches;
  for (size_t i = 0; i < sites.size(); i++)
    searches.push_back(
        {&sites[i], bits[i], TailObserver(images.count * elements_per_image(graph, sites[i])), {}});

  auto pass = [&](double done, const std::function<void(Search&, const Tensor&)>& see) {
    for (int64_t first = 0; first < images.count; first += kBatch) {
      const int64_t n = std::min(kBatch, images.count - first);
      engine.run(images.load(first, n), [&](int node, Tensor& value) {
        for (Search& s : searches)
          if (s.site->node == node) see(s, value);
      });
      if (progress)
        progress(done + 0.5 * static_cast<double>(first + n) / static_cast<double>(images.count));
    }
  };
  pass(0, [](Search& s, const Tensor& value) {
    for_each_row(*s.site, value, [&](std::span<const float> row) { s.tails.add(row); });
  });
  for (Search& s : searches) s.set_candidates();
  pass(0.5, [](Search& s, const Tensor& value) { s.add_error(value); });

  std::vector<SiteRange> ranges;
  for (const Search& s : searches) ranges.push_back(s.best());
  return ranges;
}

}  // namespace vitrun
