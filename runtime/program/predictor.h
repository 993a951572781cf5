// What the programs run: a model of either kind, from preprocessed images to logits.
#pragma once

#include <memory>
#include <string>

#include "models/checkpoints/config.h"
#include "runtime/files/model_file.h"
#include "runtime/vision/dataset.h"

namespace vitrun {

struct PredictorOptions {
  int threads = 1;
  int max_batch = 1;
  std::string isa;  // of integer models; empty: VITRUN_ISA or the best
  bool verify =
      false;         // check a .qbin's weights against their checksums before anything is computed
  std::string arch;  // of float models without a config.json
};

class Predictor {
 public:
  virtual ~Predictor() = default;
  virtual const ModelConfig& config() const = 0;
  // images [batch, 3, H, W], batch <= max_batch -> [batch, classes]
  virtual Tensor run(const Tensor& images) = 0;
  // How it computes: "float32, OpenBLAS" or "int8 weights, avx512vnni".
  virtual std::string engine() const = 0;
};

// By its name or its first bytes; anything else is taken for a .safetensors.
bool is_qbin(const std::string& path);

// `path`: a .qbin (integers), a .safetensors (float), or empty for the embedded model. Told apart
// by content.
std::unique_ptr<Predictor> open_predictor(const std::string& path, const PredictorOptions& options);

// False in builds for boards, without OpenBLAS: float_predictor() and load_float_model() then fail.
bool has_float_engine();
std::unique_ptr<Predictor> float_predictor(FloatModel model, int threads);

// Decodes and preprocesses images into one tensor [n, 3, H, W]. Not thread-safe.
class ImageLoader {
 public:
  explicit ImageLoader(const ModelConfig& config);
  ~ImageLoader();
  Tensor load(const std::vector<Sample>& samples, size_t first, size_t count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vitrun
