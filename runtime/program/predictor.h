// What the programs run: a model of either kind, from preprocessed images to its outputs.
#pragma once

#include <memory>
#include <string>

#include "models/graph/model_info.h"
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
  virtual const ModelInfo& info() const = 0;
  // Names of what it can give: "logits", "embedding", "features".
  virtual std::vector<std::string> outputs() const = 0;
  // images [batch, 3, H, W], batch <= max_batch -> for each name [batch, cols], or [batch, rows,
  // cols] of an output of several rows. Fails on a name the model does not have.
  virtual std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) = 0;
  // The first output alone: the logits [batch, classes] of a classifier.
  Tensor run(const Tensor& images) { return std::move(run(images, {outputs().at(0)})[0]); }
  // How it computes: "float32, OpenBLAS" or "int8 weights, avx512vnni".
  virtual std::string engine() const = 0;
};

std::vector<std::string> output_names(const Graph& graph);

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
  explicit ImageLoader(const ModelInfo& config);
  ~ImageLoader();
  Tensor load(const std::vector<Sample>& samples, size_t first, size_t count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vitrun
