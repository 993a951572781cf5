#include "runtime/program/detect/object_detector.h"

#include "models/base/error.h"
#include "runtime/choose_kernels.h"
#include "runtime/detect/detector_section.h"
#include "runtime/integer/integer_detector.h"

namespace vitrun {
namespace {

class QbinDetector : public ObjectDetector {
 public:
  QbinDetector(QbinFile file, const PredictorOptions& o)
      : model_(std::move(file)), detector_(model_, choose_kernels(o.isa), o.threads) {}

  const ModelInfo& info() const override { return model_.info(); }
  Detections run(const PixelView& image) override { return detector_.run(image); }
  std::string engine() const override { return cat("integers, ", detector_.kernels().name); }

 private:
  QuantModel model_;
  IntegerDetector detector_;
};

}  // namespace

bool holds_detector(const std::string& path) {
  if (path.empty()) return false;
  return is_qbin(path) ? is_detector(QbinFile::open(path)) : float_weights_detect(path);
}

std::unique_ptr<ObjectDetector> open_detector(const std::string& path,
                                              const PredictorOptions& options) {
  if (!is_qbin(path)) {
    if (!options.isa.empty()) fail("--isa chooses integer kernels, ", path, " is a float model");
    return float_detector(path, options.weights, options.threads);
  }
  QbinFile file = QbinFile::open(path);
  if (options.verify) file.verify();
  return std::make_unique<QbinDetector>(std::move(file), options);
}

}  // namespace vitrun
