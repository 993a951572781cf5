#include "runtime/detect/proposals.h"

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/graph/shapes.h"
#include "runtime/detect/logit_scores.h"

namespace vitrun {
namespace {

// Levels without a map, P6, have every second pixel of the level before.
std::vector<MapSize> level_sizes(const BackboneOutputs& outputs, int levels) {
  std::vector<MapSize> sizes;
  for (const FeatureMap& map : outputs.maps) sizes.push_back({map.height, map.width});
  if (sizes.empty() || count_of(sizes) > levels)
    fail("detector: maps of ", sizes.size(), " levels, expected 1..", levels);
  while (count_of(sizes) < levels)
    sizes.push_back({(sizes.back().height + 1) / 2, (sizes.back().width + 1) / 2});
  return sizes;
}

void check_shape(const char* what, const Tensor& tensor, const Dims& expected) {
  if (tensor.dims != expected)
    fail("detector: ", what, " of shape ", to_string(tensor.dims), ", expected ",
         to_string(expected));
}

// The indices of the best `count` scores, best first, equal ones by index, without NaN.
std::vector<int> best(const std::vector<float>& scores, int count) {
  std::vector<int> order;
  for (int i = 0; i < count_of(scores); i++)
    if (!std::isnan(at(scores, i))) order.push_back(i);
  const auto before = [&](int a, int b) {
    return at(scores, a) != at(scores, b) ? at(scores, a) > at(scores, b) : a < b;
  };
  const auto last = order.begin() + std::min(count, count_of(order));
  std::partial_sort(order.begin(), last, order.end(), before);
  order.erase(last, order.end());
  return order;
}

// Appends the usable boxes of a level.
void decode_level(const BackboneOutputs& outputs, int level, int map_width,
                  const DetectorInfo& info, const DeltaDecoder& decode,
                  std::vector<Candidate>& to) {
  const int stride = at(info.strides, level), per_position = info.anchors();
  const std::vector<Box> anchors = base_anchors(info, stride);
  std::vector<float> scores = at(outputs.scores, level).data;
  sigmoid(scores);
  for (int i : best(scores, info.rpn_pre_nms)) {
    const int position = i / per_position;
    const Box anchor =
        moved(at(anchors, i % per_position), static_cast<float>(position % map_width * stride),
              static_cast<float>(position / map_width * stride));
    const Box box = decode(anchor, at(outputs.deltas, level).data.data() + ptrdiff_t{4} * i);
    if (box.width() > info.rpn_min_size && box.height() > info.rpn_min_size)
      to.push_back({box, at(scores, i), level});
  }
}

}  // namespace

std::vector<Candidate> propose(const BackboneOutputs& outputs, const DetectorInfo& info, int width,
                               int height) {
  const int levels = count_of(info.strides);
  if (count_of(outputs.scores) != levels || count_of(outputs.deltas) != levels)
    fail("detector: proposals of ", outputs.scores.size(), " levels, expected ", levels);
  const std::vector<MapSize> sizes = level_sizes(outputs, levels);
  const DeltaDecoder decode({1, 1, 1, 1}, static_cast<float>(width), static_cast<float>(height));
  std::vector<Candidate> candidates;
  for (int level = 0; level < levels; level++) {
    const MapSize size = at(sizes, level);
    const int64_t positions = int64_t{size.height} * size.width;
    check_shape("scores of proposals", at(outputs.scores, level), {positions, info.anchors()});
    check_shape("deltas of proposals", at(outputs.deltas, level), {positions, 4 * info.anchors()});
    decode_level(outputs, level, size.width, info, decode, candidates);
  }
  std::vector<Candidate> kept;
  for (int i : nms(candidates, info.rpn_nms_threshold, info.rpn_post_nms))
    kept.push_back(at(candidates, i));
  return kept;
}

}  // namespace vitrun
