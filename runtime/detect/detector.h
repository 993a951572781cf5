// The whole inference of Mask R-CNN and Cascade Mask R-CNN around their networks, as mmdetection
// does it. Float operations have one fixed order, so equal networks find equal boxes.
#pragma once

#include <vector>

#include "models/graph/detector_info.h"
#include "models/graph/model_info.h"
#include "runtime/detect/boxes.h"
#include "runtime/detect/networks.h"
#include "runtime/detect/rle.h"
#include "runtime/threads.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {

struct Detection {
  Box box;  // in the original image's pixels, within it
  float score = 0;
  int label = 0;
};

struct Detections {
  std::vector<Detection> found;  // best first
  std::vector<Rle> masks;        // masks[i] is of found[i], at the original image's size
};

// Finds the objects of an image with sides of 1..kMaxImageSide. Nothing found is an empty answer.
// Scores and boxes that are not finite are never found. The networks are called on the caller's
// thread; RoIs are read from the maps by the pool's threads, if there is one. Fails on an `info`
// that check_detector_info() refuses and on outputs of the networks whose shapes do not fit.
Detections detect(const PixelView& image, const DetectorInfo& info,
                  const PreprocessConfig& preprocess, DetectorNetworks& networks,
                  ThreadPool* pool = nullptr);

}  // namespace vitrun
