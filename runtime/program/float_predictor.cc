// The float part of predictor.h; builds without OpenBLAS have no_float_predictor.cc instead.
#include "models/base/error.h"
#include "runtime/float/reference.h"
#include "runtime/float/text_encoder.h"
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

}  // namespace

bool has_float_engine() {
  return true;
}

std::unique_ptr<Predictor> float_predictor(FloatModel model, int threads) {
  return std::make_unique<FloatPredictor>(std::move(model), threads);
}

}  // namespace vitrun
