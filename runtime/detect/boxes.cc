#include "runtime/detect/boxes.h"

#include <algorithm>
#include <numeric>

#include "models/base/index.h"
#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

const float kMaxLogRatio = 4.135166556742356f;  // |ln(16 / 1000)|

float area(const Box& box) {
  return box.width() * box.height();
}

bool overlaps(const Box& a, const Box& b, float threshold) {
  const float width = std::max(0.0f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
  const float height = std::max(0.0f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
  const float both = width * height;
  return both / (area(a) + area(b) - both) > threshold;  // false for 0 / 0
}

// The usable candidates, best first.
std::vector<int> ranked(std::span<const Candidate> candidates) {
  std::vector<int> order;
  order.reserve(candidates.size());
  for (int i = 0; i < count_of(candidates); i++) {
    const Candidate& c = candidates[static_cast<size_t>(i)];
    if (!std::isnan(c.score) && c.box.is_finite()) order.push_back(i);
  }
  std::ranges::stable_sort(order, [&](int a, int b) {
    return candidates[static_cast<size_t>(a)].score > candidates[static_cast<size_t>(b)].score;
  });
  return order;
}

}  // namespace

std::vector<Box> boxes_of(std::span<const Candidate> candidates) {
  std::vector<Box> boxes;
  for (const Candidate& c : candidates) boxes.push_back(c.box);
  return boxes;
}

std::vector<Box> base_anchors(const DetectorInfo& info, int stride) {
  std::vector<Box> anchors;
  for (float ratio : info.ratios) {
    const float high = std::sqrt(ratio), wide = 1 / high;
    for (float scale : info.scales) {
      const float half_width = 0.5f * (static_cast<float>(stride) * wide * scale);
      const float half_height = 0.5f * (static_cast<float>(stride) * high * scale);
      anchors.push_back({-half_width, -half_height, half_width, half_height});
    }
  }
  return anchors;
}

DeltaDecoder::DeltaDecoder(const std::array<float, 4>& stds, float width, float height)
    : kernels_(choose_kernels()), stds_(stds), width_(width), height_(height) {}

Box DeltaDecoder::operator()(const Box& box, const float* delta) const {
  float d[4];
  for (size_t k = 0; k < 4; k++) d[k] = delta[k] * stds_[k];
  if (std::isnan(d[0]) || std::isnan(d[1]) || std::isnan(d[2]) || std::isnan(d[3]))
    return {NAN, NAN, NAN, NAN};
  float ratio[2] = {std::clamp(d[2], -kMaxLogRatio, kMaxLogRatio),
                    std::clamp(d[3], -kMaxLogRatio, kMaxLogRatio)};
  kernels_.exp(ratio, 2, ratio);
  const float x = (box.x1 + box.x2) * 0.5f + box.width() * d[0];
  const float y = (box.y1 + box.y2) * 0.5f + box.height() * d[1];
  const float half_width = box.width() * ratio[0] * 0.5f;
  const float half_height = box.height() * ratio[1] * 0.5f;
  return {std::clamp(x - half_width, 0.0f, width_), std::clamp(y - half_height, 0.0f, height_),
          std::clamp(x + half_width, 0.0f, width_), std::clamp(y + half_height, 0.0f, height_)};
}

std::vector<int> nms(std::span<const Candidate> candidates, float threshold, int limit) {
  int groups = 0;
  for (const Candidate& c : candidates) groups = std::max(groups, c.group + 1);
  std::vector<std::vector<Box>> kept_boxes(static_cast<size_t>(groups));
  std::vector<int> kept;
  for (int i : ranked(candidates)) {
    if (count_of(kept) >= limit) break;
    const Candidate& c = candidates[static_cast<size_t>(i)];
    std::vector<Box>& before = at(kept_boxes, c.group);
    const auto suppresses = [&](const Box& b) { return overlaps(b, c.box, threshold); };
    if (std::ranges::any_of(before, suppresses)) continue;
    before.push_back(c.box);
    kept.push_back(i);
  }
  return kept;
}

}  // namespace vitrun
