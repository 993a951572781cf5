#include "runtime/program/predictor.h"

#include <fstream>

#include "models/base/error.h"
#include "models/cifar10/embedded.h"
#include "runtime/choose_kernels.h"
#include "runtime/files/model_file.h"
#include "runtime/integer/engine.h"
#include "runtime/vision/image.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {
namespace {

class IntegerPredictor : public Predictor {
 public:
  IntegerPredictor(QbinFile file, const PredictorOptions& o)
      : model_(std::move(file)),
        engine_(
            model_,
            {.threads = o.threads, .max_batch = o.max_batch, .kernels = &choose_kernels(o.isa)}) {}

  const ModelConfig& config() const override { return model_.config(); }

  Tensor run(const Tensor& images) override {
    Tensor logits({images.dims[0], config().num_classes});
    engine_.run(images.data.data(), static_cast<int>(images.dims[0]), logits.data.data());
    return logits;
  }

  std::string engine() const override { return cat("integers, ", engine_.kernels().name); }

 private:
  QuantModel model_;
  Engine engine_;
};

}  // namespace

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
    return float_predictor(load_float_model(path, options.arch), options.threads);
  }
  QbinFile file = path.empty() ? QbinFile::from_memory(embedded_model(), "the embedded model")
                               : QbinFile::open(path);
  if (options.verify) file.verify();
  return std::make_unique<IntegerPredictor>(std::move(file), options);
}

struct ImageLoader::State {
  ModelConfig config;
  PreprocessScratch scratch;
};

ImageLoader::ImageLoader(const ModelConfig& config) : state_(new State{config, {}}) {}
ImageLoader::~ImageLoader() = default;

Tensor ImageLoader::load(const std::vector<Sample>& samples, size_t first, size_t count) {
  const ModelConfig& c = state_->config;
  Tensor out({static_cast<int64_t>(count), 3, c.image_height, c.image_width});
  const size_t per_image = out.data.size() / count;
  for (size_t i = 0; i < count; i++) {
    const std::string& path = samples[first + i].path;
    const Image image = load_image(path);
    try {
      preprocess({image.rgb.data(), image.width, image.height, int64_t{3} * image.width}, c,
                 std::span(out.data).subspan(i * per_image, per_image), state_->scratch);
    } catch (const Error& e) {
      fail(path, ": ", e.what());
    }
  }
  return out;
}

}  // namespace vitrun
