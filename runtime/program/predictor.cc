#include "runtime/program/predictor.h"

#include <fstream>
#include <iostream>

#include "models/base/error.h"
#include "models/cifar10/embedded.h"
#include "runtime/choose_kernels.h"
#include "runtime/files/model_file.h"
#include "runtime/integer/engine.h"
#include "runtime/text/integer_text_encoder.h"

namespace vitrun {
namespace {

class IntegerPredictor : public Predictor {
 public:
  IntegerPredictor(QbinFile file, const PredictorOptions& o)
      : model_(std::move(file)),
        engine_(
            model_.graph(),
            {.threads = o.threads, .max_batch = o.max_batch, .kernels = &choose_kernels(o.isa)}) {
    if (model_.detector())
      fail(model_.file().where(),
           ": is a detector, which vitrun runs on images and viteval --coco "
           "measures");
  }

  const ModelInfo& info() const override { return model_.info(); }
  std::vector<std::string> outputs() const override { return output_names(model_.graph().graph); }

  std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) override {
    engine_.select({{static_cast<int>(images.dims[2]), static_cast<int>(images.dims[3])}}, names);
    std::vector<Tensor> out;
    std::vector<float*> pointers;
    for (const PlannedOutput& o : engine_.outputs()) {
      out.emplace_back(o.rows == 1 ? Dims{images.dims[0], o.cols}
                                   : Dims{images.dims[0], o.rows, o.cols});
      pointers.push_back(out.back().data.data());
    }
    const int batch = static_cast<int>(images.dims[0]);
    engine_.run(images.data.data(), batch, pointers.data());
    engine_.check_finite(batch, pointers.data());
    return out;
  }

  std::string engine() const override { return cat("integers, ", engine_.kernels().name); }

  TextSide text() override {
    if (!text_) text_.emplace(model_, engine_.kernels(), engine_.threads());
    return {[this](const std::vector<std::string>& texts) { return text_->embed(texts); },
            text_->logit_scale()};
  }

 private:
  QuantModel model_;
  Engine engine_;
  std::optional<IntegerTextEncoder> text_;
};

}  // namespace

TextSide Predictor::text() {
  fail("the model has no text tower");
}

std::vector<std::string> output_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Output& o : graph.outputs) names.push_back(o.name);
  return names;
}

FloatModel load_weights(const std::string& path, const WeightOptions& options) {
  FloatModel model = load_float_model(path, options);
  if (model.guesses.empty()) return model;
  std::string text;
  for (const std::string& guess : model.guesses) text += (text.empty() ? "" : "; ") + guess;
  std::cerr << path << ": nothing states these, so they are guessed: " << text
            << " (see --config, --arch, --heads and --pool)\n";
  return model;
}

void require_text(const FloatModel& model) {
  if (model.text) return;
  if (model.no_text.empty())
    fail("the model has no text tower, which reads --classes and --search");
  fail("--classes and --search need the text tower: ", model.no_text);
}

bool is_qbin(const std::string& path) {
  uint8_t magic[8] = {};
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(magic), sizeof magic);
  const std::string_view name = path;
  return name.ends_with(".qbin") || (in && std::equal(magic, magic + 8, kQbinMagic));
}

std::unique_ptr<Predictor> open_predictor(const std::string& path,
                                          const PredictorOptions& options) {
  if (!path.empty() && !is_qbin(path)) {
    if (!options.isa.empty()) fail("--isa chooses integer kernels, ", path, " is a float model");
    return float_predictor(load_weights(path, options.weights), options.threads);
  }
  QbinFile file = path.empty() ? QbinFile::from_memory(embedded_model(), "the embedded model")
                               : QbinFile::open(path);
  if (options.verify) file.verify();
  return std::make_unique<IntegerPredictor>(std::move(file), options);
}

}  // namespace vitrun
