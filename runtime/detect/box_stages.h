// The box heads of a detector, one in Mask R-CNN and three in a cascade: from proposals to
// detections on the scaled image.
#pragma once

#include <span>
#include <vector>

#include "runtime/detect/boxes.h"
#include "runtime/detect/networks.h"
#include "runtime/threads.h"

namespace vitrun {

// The maps that RoIs are read from, on an image of width x height without padding.
struct RoiSource {
  const std::vector<FeatureMap>& maps;
  int width, height;
  ThreadPool* pool;
};

struct FoundBoxes {
  std::vector<Candidate> found;          // best first; a candidate's group is its class
  std::vector<int> rows;                 // of each found: the proposal that became it
  std::vector<std::vector<Box>> stages;  // the boxes that each stage's head read, by proposal
};

// Returns at most max_detections boxes. Between stages each box moves by the deltas of its best
// class. Scores are the softmax of the mean of all stages' logits, boxes those of the last stage;
// NMS runs within a class.
FoundBoxes find_boxes(const RoiSource& source, std::vector<Box> proposals, const DetectorInfo& info,
                      DetectorNetworks& networks);

}  // namespace vitrun
