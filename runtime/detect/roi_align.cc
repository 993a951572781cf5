#include "runtime/detect/roi_align.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

constexpr float kFinestSize = 56;  // of a box on level 0

// A sample's place on a map's side: pixel `low` with weight 1 - part, the next one with `part`.
struct Sample {
  int low;
  float part;
};

// Samples up to a pixel outside the map take its border's value.
Sample sample_at(float x, int side) {
  x = std::max(x, 0.0f);
  const int low = static_cast<int>(x);
  if (low >= side - 1) return {side - 1, 0};
  return {low, x - static_cast<float>(low)};
}

bool is_outside(float x, int side) {
  return !(x >= -1 && x <= static_cast<float>(side));
}

void plan_bin(float start, float step, int side, RoiAxis& axis) {
  RoiAxis::Bin bin;
  bin.weights = axis.weights.size();
  for (int i = 0; i < axis.samples; i++) {
    const float x =
        start + (static_cast<float>(i) + 0.5f) * step / static_cast<float>(axis.samples);
    if (is_outside(x, side)) continue;
    const Sample sample = sample_at(x, side);
    if (bin.count == 0) bin.begin = sample.low;
    const int last = std::min(sample.low + 1, side - 1);
    bin.count = std::max(bin.count, last + 1 - bin.begin);
    axis.weights.resize(bin.weights + static_cast<size_t>(bin.count));
    float* weights = axis.weights.data() + bin.weights;
    weights[sample.low - bin.begin] += 1 - sample.part;
    weights[last - bin.begin] += sample.part;
  }
  axis.bins.push_back(bin);
}

// The buffers of a thread.
struct Scratch {
  RoiAxis x, y;
};

void add_bin(const FeatureMap& map, const Scratch& s, const RoiAxis::Bin& y, const RoiAxis::Bin& x,
             size_t channels, float* out) {
  for (int row = 0; row < y.count; row++) {
    const float row_weight = s.y.weights[y.weights + static_cast<size_t>(row)];
    const int64_t first = int64_t{y.begin + row} * map.width + x.begin;
    const float* pixel = map.rows.data.data() + static_cast<size_t>(first) * channels;
    for (int column = 0; column < x.count; column++, pixel += channels) {
      const float weight = row_weight * s.x.weights[x.weights + static_cast<size_t>(column)];
      for (size_t c = 0; c < channels; c++) out[c] += weight * pixel[c];
    }
  }
}

// out [bins * bins, channels] is all zeros.
void align_one(const FeatureMap& map, int stride, const Box& box, int bins, Scratch& s,
               float* out) {
  if (!box.is_finite()) return;
  plan_roi_axis(box.x1, box.x2, stride, map.width, bins, s.x);
  plan_roi_axis(box.y1, box.y2, stride, map.height, bins, s.y);
  if (s.x.samples == 0 || s.y.samples == 0) return;
  const auto channels = static_cast<size_t>(map.rows.dims[1]);
  const float count = static_cast<float>(s.x.samples) * static_cast<float>(s.y.samples);
  for (const RoiAxis::Bin& y : s.y.bins) {
    for (const RoiAxis::Bin& x : s.x.bins) {
      add_bin(map, s, y, x, channels, out);
      for (size_t c = 0; c < channels; c++) out[c] /= count;
      out += channels;
    }
  }
}

float sum_of(const RoiAxis& axis, const RoiAxis::Bin& bin) {
  const auto first = axis.weights.begin() + static_cast<std::ptrdiff_t>(bin.weights);
  return std::accumulate(first, first + bin.count, 0.0f);
}

// Adds a bin's values `from` [channels], times `factor`, to the pixels under it.
void spread_bin(const Scratch& s, const RoiAxis::Bin& y, const RoiAxis::Bin& x, int map_width,
                float factor, std::span<const float> from, float* map) {
  for (int row = 0; row < y.count; row++) {
    const float row_weight = factor * s.y.weights[y.weights + static_cast<size_t>(row)];
    const int64_t first = int64_t{y.begin + row} * map_width + x.begin;
    float* pixel = map + static_cast<size_t>(first) * from.size();
    for (int column = 0; column < x.count; column++, pixel += from.size()) {
      const float weight = row_weight * s.x.weights[x.weights + static_cast<size_t>(column)];
      for (size_t c = 0; c < from.size(); c++) pixel[c] += weight * from[c];
    }
  }
}

int64_t check_maps(std::span<const FeatureMap> maps, std::span<const int> strides) {
  if (maps.empty() || strides.size() < maps.size())
    fail("RoIAlign: ", maps.size(), " maps and ", strides.size(), " strides");
  for (const FeatureMap& map : maps) {
    const Dims& dims = map.rows.dims;
    if (map.height < 1 || map.width < 1 || dims.size() != 2 ||
        dims[0] != int64_t{map.height} * map.width || dims[1] != maps[0].rows.dims[1])
      fail("RoIAlign: a map of ", map.height, "x", map.width, " has the shape ", to_string(dims));
  }
  return maps[0].rows.dims[1];
}

}  // namespace

void plan_roi_axis(float start, float end, int stride, int side, int bins, RoiAxis& axis) {
  axis.bins.clear();
  axis.weights.clear();
  const float scale = 1 / static_cast<float>(stride);
  const float first = start * scale - 0.5f, size = end * scale - 0.5f - first;
  const float step = size / static_cast<float>(bins);
  axis.samples = step > 0 ? static_cast<int>(std::min(std::ceil(step), float{kMaxRoiSamples})) : 0;
  for (int i = 0; i < bins; i++) plan_bin(first + static_cast<float>(i) * step, step, side, axis);
}

int roi_level(const Box& box, int levels) {
  const float size = std::sqrt(box.width() * box.height()) / kFinestSize + 1e-6f;
  int level = 0;
  while (level < levels - 1 && size >= std::ldexp(2.0f, level)) level++;
  return level;
}

Tensor roi_align(std::span<const FeatureMap> maps, std::span<const int> strides,
                 std::span<const Box> boxes, int bins, ThreadPool* pool) {
  const int64_t channels = check_maps(maps, strides), count = count_of(boxes);
  Tensor out({count, int64_t{bins} * bins, channels});
  const auto align = [&](int thread) {
    Scratch scratch;
    const Range mine = share(count, thread, pool ? pool->size() : 1);
    for (int64_t i = mine.begin; i < mine.end; i++) {
      const Box& box = boxes[static_cast<size_t>(i)];
      const auto level = static_cast<size_t>(roi_level(box, count_of(maps)));
      align_one(maps[level], strides[level], box, bins, scratch,
                out.data.data() + i * bins * bins * channels);
    }
  };
  if (pool)
    pool->run(align);
  else
    align(0);
  return out;
}

double roi_align_back(RoiFlow flow, const Box& box, int stride, MapSize map, int bins,
                      std::span<const float> from, std::span<float> to) {
  const size_t channels = from.size() / array_size(bins, bins);
  Scratch s;
  if (box.is_finite()) {
    plan_roi_axis(box.x1, box.x2, stride, map.width, bins, s.x);
    plan_roi_axis(box.y1, box.y2, stride, map.height, bins, s.y);
  }
  if (s.x.samples == 0 || s.y.samples == 0) return std::accumulate(from.begin(), from.end(), 0.0);
  const float samples = static_cast<float>(s.x.samples) * static_cast<float>(s.y.samples);
  double lost = 0;
  for (const RoiAxis::Bin& y : s.y.bins) {
    for (const RoiAxis::Bin& x : s.x.bins) {
      const auto values = from.first(channels);
      from = from.subspan(channels);
      const float whole = sum_of(s.y, y) * sum_of(s.x, x);
      if (!(whole > 0)) {
        lost += std::accumulate(values.begin(), values.end(), 0.0);
        continue;
      }
      spread_bin(s, y, x, map.width, 1 / (flow == RoiFlow::kGradient ? samples : whole), values,
                 to.data());
    }
  }
  return lost;
}

}  // namespace vitrun
