// The detector that a file holds: a .qbin, whose networks run in integers, or float weights.
#pragma once

#include <memory>
#include <string>

#include "runtime/detect/detector.h"
#include "runtime/program/predictor.h"

namespace vitrun {

// Finds objects in images of any size. Only one thread may use it at a time.
class ObjectDetector {
 public:
  virtual ~ObjectDetector() = default;
  virtual const ModelInfo& info() const = 0;
  virtual Detections run(const PixelView& image) = 0;
  // Describes the computation: "float32, OpenBLAS" or "integers, avx512vnni".
  virtual std::string engine() const = 0;
};

// Whether a .qbin or float weights are a detector. An empty path, the embedded model, is none.
bool holds_detector(const std::string& path);
std::unique_ptr<ObjectDetector> open_detector(const std::string& path,
                                              const PredictorOptions& options);

// The float part; builds without OpenBLAS have no_float_predictor.cc, which fails.
bool float_weights_detect(const std::string& path);
std::unique_ptr<ObjectDetector> float_detector(const std::string& path,
                                               const WeightOptions& options, int threads);

}  // namespace vitrun
