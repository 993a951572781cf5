// Fuzz target: the functions around a detector's networks, with numbers that no network gives: NaN,
// infinities, huge boxes, broken run lengths.
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "runtime/detect/detector.h"
#include "runtime/detect/detector_input.h"
#include "runtime/detect/masks.h"
#include "runtime/detect/roi_align.h"
#include "tests/fuzz/fuzz_target.h"

namespace vitrun {
namespace {

// A number of a few kinds: any bits, one near the image, one of the edges.
float hostile(Choices& choices) {
  constexpr float kEdges[] = {0, -0.0f, 1, 56, 1e-30f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN};
  switch (choices.below(4)) {
    case 0:
      return choices.number<float>();
    case 1:
      return kEdges[choices.below(10)];
    default:
      return static_cast<float>(choices.number<int16_t>()) / 64;
  }
}

Box hostile_box(Choices& choices) {
  Box box = {hostile(choices), hostile(choices), hostile(choices), hostile(choices)};
  if (choices.below(4) == 0) return box;
  return {std::min(box.x1, box.x2), std::min(box.y1, box.y2), std::max(box.x1, box.x2),
          std::max(box.y1, box.y2)};
}

float overlap(const Box& a, const Box& b) {
  const float width = std::max(0.0f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
  const float height = std::max(0.0f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
  const float both = width * height;
  return both / (a.width() * a.height() + b.width() * b.height() - both);
}

// The definition of NMS, box by box: a usable one is kept if none kept before it suppresses it.
void fuzz_nms(Choices& choices) {
  const float threshold = 0.25f * static_cast<float>(choices.below(5));
  std::vector<Candidate> all;
  for (int n = choices.between(0, 20); n > 0; n--)
    all.push_back({hostile_box(choices), hostile(choices), choices.below(3)});
  const int limit = choices.between(0, 20);
  const std::vector<int> kept = nms(all, threshold, limit);
  FUZZ_CHECK(kept.size() <= static_cast<size_t>(limit));
  const auto candidate = [&](int i) { return all[static_cast<size_t>(i)]; };
  const auto before = [&](int i, int j) {
    return candidate(i).score > candidate(j).score ||
           (candidate(i).score == candidate(j).score && i < j);
  };
  const auto suppresses = [&](int i, int j) {
    return candidate(i).group == candidate(j).group && before(i, j) &&
           overlap(candidate(i).box, candidate(j).box) > threshold;
  };
  FUZZ_CHECK(std::is_sorted(kept.begin(), kept.end(), before));
  const bool is_full = kept.size() == static_cast<size_t>(limit);
  for (int j = 0; j < static_cast<int>(all.size()); j++) {
    const bool usable = !std::isnan(candidate(j).score) && candidate(j).box.is_finite();
    const bool is_kept = std::ranges::find(kept, j) != kept.end();
    const bool suppressed = std::ranges::any_of(kept, [&](int i) { return suppresses(i, j); });
    const bool late = is_full && (kept.empty() || before(kept.back(), j));
    FUZZ_CHECK(is_kept == (usable && !suppressed && !late));
  }
}

// Finite maps give finite values, no larger than the map's.
void fuzz_roi_align(Choices& choices) {
  std::vector<FeatureMap> maps;
  std::vector<int> strides;
  const int channels = choices.between(1, 3), bins = choices.between(1, 9);
  for (int level = choices.between(1, 4); level > 0; level--) {
    FeatureMap map = {choices.between(1, 20), choices.between(1, 20), {}};
    map.rows = Tensor({int64_t{map.height} * map.width, channels});
    for (size_t i = 0; i < map.rows.data.size(); i++)
      map.rows.data[i] = static_cast<float>(i * 7 % 13) / 6 - 1;
    strides.push_back(choices.between(1, 64));
    maps.push_back(std::move(map));
  }
  std::vector<Box> boxes;
  for (int n = choices.between(0, 4); n > 0; n--) boxes.push_back(hostile_box(choices));
  const Tensor out = roi_align(maps, strides, boxes, bins);
  FUZZ_CHECK(out.data.size() == boxes.size() * static_cast<size_t>(bins * bins * channels));
  for (float v : out.data) FUZZ_CHECK(std::abs(v) <= 1.001f);
}

int64_t pixels_of(const Rle& rle) {
  int64_t sum = 0;
  for (uint32_t count : rle.counts) sum += count;
  return sum;
}

// Run lengths are written as they are read, and are those of the mask that they decode to.
void check_rle(const Rle& rle) {
  FUZZ_CHECK(pixels_of(rle) == int64_t{rle.height} * rle.width);
  FUZZ_CHECK(rle_of_text(rle_text(rle), rle.height, rle.width).counts == rle.counts);
  if (pixels_of(rle) > 1 << 16) return;
  std::vector<uint8_t> pixels(static_cast<size_t>(rle.height) * static_cast<size_t>(rle.width));
  decode_rle(rle, pixels);
  FUZZ_CHECK(std::ranges::count(pixels, 1) == rle.area());
  const Rle again = encode_rle(pixels, rle.height, rle.width);
  FUZZ_CHECK(again.area() == rle.area() && again.counts.size() <= rle.counts.size() + 1);
}

void fuzz_rle(Choices& choices) {
  const bool small = choices.below(2);
  const int height = small ? choices.between(0, 40) : choices.number<int>();
  const int width = small ? choices.between(0, 40) : choices.number<int>();
  std::string text;
  while (choices.left()) text += static_cast<char>(choices.number<uint8_t>());
  check_rle(rle_of_text(text, height, width));
}

void fuzz_masks(Choices& choices) {
  const int side = choices.between(1, 9);
  std::vector<float> mask(static_cast<size_t>(side * side), choices.below(2) ? 1.0f : 0.25f);
  for (int n = choices.below(4); n > 0; n--)
    mask[static_cast<size_t>(choices.below(side * side))] = hostile(choices);
  const Box box = hostile_box(choices);
  check_rle(paste_mask(mask, side, box, choices.between(1, 90), choices.between(1, 90)));
}

void fuzz_deltas(Choices& choices) {
  const float width = static_cast<float>(choices.between(1, 200)), height = 77;
  const DeltaDecoder decode({hostile(choices), 0.1f, 0.2f, 0.2f}, width, height);
  const float delta[4] = {hostile(choices), hostile(choices), hostile(choices), hostile(choices)};
  const Box box = decode(hostile_box(choices), delta);
  if (!box.is_finite()) return;
  FUZZ_CHECK(box.x1 >= 0 && box.x2 <= width && box.y1 >= 0 && box.y2 <= height);
}

void fuzz_input(Choices& choices) {
  const int width = choices.between(1, 60), height = choices.between(1, 60);
  std::vector<uint8_t> bytes(static_cast<size_t>(3 * width * height));
  uint32_t state = choices.number<uint32_t>();
  for (uint8_t& b : bytes) b = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  DetectorInfo info;
  info.shortest_edge = choices.between(1, 64);
  info.longest_edge = choices.between(1, 64);
  info.size_divisor = choices.between(1, 40);
  const DetectorInput input = detector_input({bytes.data(), width, height, 3 * width}, info, {});
  FUZZ_CHECK(input.width <= 64 && input.height <= 64 && input.image.dims[2] >= input.height);
  FUZZ_CHECK(first_not_finite(input.image.data) == input.image.data.size());
}

// Networks whose outputs are small numbers with hostile ones among them.
class HostileNetworks : public DetectorNetworks {
 public:
  HostileNetworks(Choices& choices, const DetectorInfo& info)
      : choices_(choices), info_(info), classes_(choices.between(1, 3)) {}

  BackboneOutputs backbone(const Tensor& image) override {
    BackboneOutputs outputs;
    int height = static_cast<int>(image.dims[2]), width = static_cast<int>(image.dims[3]);
    for (int level = 0; level < 2; level++, height = (height + 1) / 2, width = (width + 1) / 2) {
      const int64_t positions = int64_t{height} * width;
      outputs.maps.push_back({height, width, values({positions, 2})});
      outputs.scores.push_back(values({positions, info_.anchors()}));
      outputs.deltas.push_back(values({positions, 4 * info_.anchors()}));
    }
    return outputs;
  }
  Boxes boxes(int, const Tensor& rois) override {
    return {values({rois.dims[0], classes_ + 1}), values({rois.dims[0], 4 * classes_})};
  }
  Tensor masks(int, const Tensor& rois) override { return values({rois.dims[0], 16, classes_}); }

 private:
  Tensor values(Dims dims) {
    Tensor tensor(std::move(dims));
    for (float& v : tensor.data)
      v = static_cast<float>((state_ = state_ * 1664525 + 1013904223) >> 16) / 8192 - 4;
    for (int n = choices_.below(6); n > 0 && !tensor.data.empty(); n--)
      tensor.data[choices_.number<uint16_t>() % tensor.data.size()] = hostile(choices_);
    return tensor;
  }

  Choices& choices_;
  const DetectorInfo& info_;
  int classes_;
  uint32_t state_ = 1;
};

void fuzz_detector(Choices& choices) {
  DetectorInfo info;
  info.shortest_edge = info.longest_edge = choices.between(1, 8);
  info.size_divisor = choices.between(1, 4);
  info.strides = {1, 2};
  info.scales = {choices.below(8) ? 2.0f : hostile(choices)};
  info.score_threshold = choices.below(8) ? 0.05f : hostile(choices);
  info.rpn_post_nms = choices.between(1, 20);
  info.max_detections = choices.between(1, 10);
  info.stages = choices.between(1, 3);
  info.stds.assign(static_cast<size_t>(info.stages), {0.1f, 0.1f, 0.2f, 0.2f});
  info.box_bins = info.mask_bins = 2;
  const std::vector<uint8_t> bytes(3 * 30 * 30, 90);
  const PixelView image = {bytes.data(), choices.between(1, 30), choices.between(1, 30), 90};
  HostileNetworks networks(choices, info);
  const Detections d = detect(image, info, {}, networks);
  FUZZ_CHECK(d.found.size() == d.masks.size());
  for (size_t i = 0; i < d.found.size(); i++) {
    FUZZ_CHECK(d.found[i].box.is_finite() && d.found[i].score > info.score_threshold);
    FUZZ_CHECK(d.masks[i].height == image.height && d.masks[i].width == image.width);
    check_rle(d.masks[i]);
  }
}

}  // namespace

void fuzz_target(std::span<const uint8_t> bytes) {
  Choices choices(bytes);
  constexpr void (*kTargets[])(Choices&) = {fuzz_nms,    fuzz_roi_align, fuzz_rle,     fuzz_masks,
                                            fuzz_deltas, fuzz_input,     fuzz_detector};
  kTargets[choices.below(7)](choices);
}

}  // namespace vitrun
