// The float part of predictor.h; builds without OpenBLAS have no_float_predictor.cc instead.
#include "models/base/error.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/files/detector_file.h"
#include "runtime/float/reference.h"
#include "runtime/float/text_encoder.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/predictor.h"

namespace vitrun {
namespace {

class FloatPredictor : public Predictor {
 public:
  FloatPredictor(FloatModel model, int threads)
      : model_(std::move(model)),
        threads_(threads),
        engine_(model_.graph, model_.weights, threads) {}

  const ModelInfo& info() const override { return model_.info; }
  std::vector<std::string> outputs() const override { return output_names(model_.graph); }
  std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) override {
    return engine_.run_outputs(images, names);
  }
  std::string engine() const override { return "float32, OpenBLAS"; }

  TextSide text() override {
    require_text(model_);
    if (!encoder_) encoder_.emplace(*model_.text, threads_);
    return {[this](const std::vector<std::string>& texts) { return encoder_->embed(texts); },
            model_.text->logit_scale};
  }

 private:
  FloatModel model_;
  int threads_;
  Reference engine_;
  std::optional<TextEncoder> encoder_;
};

class FloatDetectorEngine : public ObjectDetector {
 public:
  FloatDetectorEngine(FloatDetector model, int threads)
      : model_(std::move(model)),
        pool_(threads),
        networks_(model_.detector, [this](const auto& graph, const auto& input, const auto& names) {
          return engines_.at(graph).run_outputs(input, names);
        }) {
    for (const auto& [name, part] : model_.parts)
      engines_.try_emplace(name, part.graph, part.weights, threads);
  }

  const ModelInfo& info() const override { return model_.info; }
  Detections run(const PixelView& image) override {
    return detect(image, model_.detector, model_.info.preprocess, networks_, &pool_);
  }
  std::string engine() const override { return "float32, OpenBLAS"; }

 private:
  FloatDetector model_;
  std::map<std::string, Reference> engines_;
  ThreadPool pool_;
  GraphNetworks networks_;
};

}  // namespace

bool has_float_engine() {
  return true;
}

bool float_weights_detect(const std::string& path) {
  return is_float_detector(path);
}

std::unique_ptr<ObjectDetector> float_detector(const std::string& path,
                                               const WeightOptions& options, int threads) {
  return std::make_unique<FloatDetectorEngine>(load_float_detector(path, options), threads);
}

std::unique_ptr<Predictor> float_predictor(FloatModel model, int threads) {
  return std::make_unique<FloatPredictor>(std::move(model), threads);
}

}  // namespace vitrun
