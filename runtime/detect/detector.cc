#include "runtime/detect/detector.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/box_stages.h"
#include "runtime/detect/detector_input.h"
#include "runtime/detect/logit_scores.h"
#include "runtime/detect/masks.h"
#include "runtime/detect/proposals.h"
#include "runtime/detect/roi_align.h"

namespace vitrun {
namespace {

// Adds the probabilities of the boxes' own classes, from a head's [n, side^2, classes or 1].
void add_masks(const Tensor& logits, std::span<const Candidate> boxes, std::vector<float>& sums) {
  const Dims& dims = logits.dims;
  if (dims.size() != 3 || dims[0] != count_of(boxes) || dims[1] < 1 || dims[2] < 1)
    fail("detector: a mask head gave the shape ", to_string(dims), " for ", boxes.size(), " boxes");
  const auto cells = static_cast<size_t>(dims[1]), classes = static_cast<size_t>(dims[2]);
  if (sums.empty()) sums.resize(boxes.size() * cells);
  if (sums.size() != boxes.size() * cells) fail("detector: the mask heads differ in size");
  std::vector<float> mask(cells);
  for (size_t i = 0; i < boxes.size(); i++) {
    const auto label = classes == 1 ? 0 : static_cast<size_t>(boxes[i].group);
    if (label >= classes)
      fail("detector: a mask head has ", classes, " classes, the box head more");
    for (size_t p = 0; p < cells; p++) mask[p] = logits.data[(i * cells + p) * classes + label];
    sigmoid(mask);
    for (size_t p = 0; p < cells; p++) sums[i * cells + p] += mask[p];
  }
}

// The masks of a batch on the scaled image: [boxes, side^2], the mean of all stages.
std::vector<float> find_masks(const RoiSource& source, std::span<const Candidate> boxes,
                              const DetectorInfo& info, DetectorNetworks& networks) {
  const Tensor rois =
      roi_align(source.maps, info.strides, boxes_of(boxes), info.mask_bins, source.pool);
  std::vector<float> masks;
  for (int stage = 0; stage < info.stages; stage++)
    add_masks(networks.masks(stage, rois), boxes, masks);
  for (float& v : masks) v /= static_cast<float>(info.stages);
  return masks;
}

// The box on the original image. Dividing by a rounded scale may leave it by a rounding error.
Box original_box(const Box& box, const DetectorInput& input, const PixelView& image) {
  const auto width = static_cast<float>(image.width), height = static_cast<float>(image.height);
  return {std::min(box.x1 / input.scale_x, width), std::min(box.y1 / input.scale_y, height),
          std::min(box.x2 / input.scale_x, width), std::min(box.y2 / input.scale_y, height)};
}

void paste_batch(const std::vector<float>& masks, std::span<const Detection> found,
                 const PixelView& image, std::vector<Rle>& to) {
  const size_t cells = masks.size() / found.size();
  const int side = static_cast<int>(std::lround(std::sqrt(static_cast<double>(cells))));
  for (size_t i = 0; i < found.size(); i++) {
    const std::span<const float> mask(masks.data() + i * cells, cells);
    to.push_back(paste_mask(mask, side, found[i].box, image.height, image.width));
  }
}

}  // namespace

Detections detect(const PixelView& image, const DetectorInfo& info,
                  const PreprocessConfig& preprocess, DetectorNetworks& networks,
                  ThreadPool* pool) {
  check_detector_info(info);
  DetectorInput input = detector_input(image, info, preprocess);
  const BackboneOutputs outputs = networks.backbone(input.image);
  input.image = {};  // the heads may have its memory
  std::vector<Box> proposals = boxes_of(propose(outputs, info, input.width, input.height));
  const RoiSource source = {outputs.maps, input.width, input.height, pool};
  const std::vector<Candidate> boxes =
      find_boxes(source, std::move(proposals), info, networks).found;
  Detections detections;
  for (const Candidate& c : boxes)
    detections.found.push_back({original_box(c.box, input, image), c.score, c.group});
  const std::span<const Candidate> all = boxes;
  for (size_t begin = 0; begin < all.size(); begin += kMaskBatch) {
    const size_t count = std::min<size_t>(kMaskBatch, all.size() - begin);
    const auto masks = find_masks(source, all.subspan(begin, count), info, networks);
    paste_batch(masks, std::span(detections.found).subspan(begin, count), image, detections.masks);
  }
  return detections;
}

}  // namespace vitrun
