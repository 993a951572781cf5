// Runs a model, in integers or in float, from preprocessed images to its outputs.
#pragma once

#include <memory>
#include <string>

#include "models/graph/model_info.h"
#include "runtime/files/model_file.h"
#include "runtime/text/text_input.h"

namespace vitrun {

struct PredictorOptions {
  int threads = 1;
  int max_batch = 1;
  std::string isa;        // kernels for integer models; empty: VITRUN_ISA or the best
  bool verify = false;    // check a .qbin's weights against their checksums first
  WeightOptions weights;  // what a user says of a float model
};

// A model's text tower: texts' vectors, and the factor of their cosine with an image's.
struct TextSide {
  TextEmbedder embed;
  float logit_scale;
};

class Predictor {
 public:
  virtual ~Predictor() = default;
  virtual const ModelInfo& info() const = 0;
  // The names of the model's outputs: "logits", "embedding", "features".
  virtual std::vector<std::string> outputs() const = 0;
  // images is [batch, 3, H, W] with batch <= max_batch. The result has, for each name, [batch,
  // cols], or [batch, rows, cols] for an output of several rows. Fails on a name the model does not
  // have.
  virtual std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) = 0;
  // Returns the first output alone, which is the logits [batch, classes] of a classifier.
  Tensor run(const Tensor& images) { return std::move(run(images, {outputs().at(0)})[0]); }
  // The model's text tower, which lives as long as the model. Fails if it has none.
  virtual TextSide text();
  // Describes the computation: "float32, OpenBLAS" or "integers, avx512vnni".
  virtual std::string engine() const = 0;
};

std::vector<std::string> output_names(const Graph& graph);

// Whether a file is a .qbin, by its name or its first bytes. Others are taken for float weights.
bool is_qbin(const std::string& path);

// Opens a .qbin, which runs in integers, float weights, which run in float, or, for an empty
// path, the embedded model.
std::unique_ptr<Predictor> open_predictor(const std::string& path, const PredictorOptions& options);

// False in builds for boards, which have no OpenBLAS: float_predictor() and load_float_model()
// fail.
bool has_float_engine();
// Loads a float model and says on stderr what nobody stated of it.
FloatModel load_weights(const std::string& path, const WeightOptions& options);
// Fails, with the reason, on a float model whose text tower is not there.
void require_text(const FloatModel& model);
std::unique_ptr<Predictor> float_predictor(FloatModel model, int threads);

}  // namespace vitrun
