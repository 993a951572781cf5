// A quantized model: what a .qbin holds, checked and ready for the engine. quant/export.cc writes
// it; QbinFile and QbinWriter (qbin.h) know only containers.
//
// Layout. Metadata: "model.*" is ModelConfig, "preprocess.*" its preprocessing, "labels" one string
// per class, "site.name|bits|scale|zero" one entry per activation site (sites.h), "recipe.*" how it
// was made. Tensors, for every Linear U of the graph:
//   U.weight        kPacked [N, K], signed codes q' = q - 2^(b-1)
//   U.weight_scale  kF32 [N]   s_w
//   U.weight_zero   kI8 [N]    z_w' = z_w - 2^(b-1)
//   U.weight_sum    kI16 or kI32 [N]   sum over K of q'
//   U.bias          kF16 or kF32 [N], where it has one (folds may give a bias to a Linear without)
// and every other parameter of the graph under its own name as kF32 or kF16.
#pragma once

#include <map>
#include <memory>

#include "kernels/kernels.h"
#include "models/sites.h"
#include "runtime/qbin.h"

namespace vitrun {

// Arrays are padded with zeros to a multiple of kColumns. `panels` points into the file.
struct QuantLinear {
  int n = 0, k = 0, bits = 0;
  const uint8_t* panels = nullptr;
  std::vector<float> scale, bias;
  std::vector<int32_t> zero, sum;
};

// Bits, scale and zero point of an activation site; a kLog site has no zero point,
// but codes an octave.
struct SiteParams {
  int bits = 8;
  float scale = 1;
  int zero = 0;
  float rate = 2;

  Quantizer quantizer() const { return {1 / scale, zero, (1 << bits) - 1}; }
};

// Immutable after construction; may be shared by threads.
class QuantModel {
 public:
  // Checks that the file is a whole model with usable numbers; fails naming the file and the part
  // at fault.
  explicit QuantModel(QbinFile file);

  const QbinFile& file() const { return file_; }
  const ModelConfig& config() const { return graph_.config; }
  const Graph& graph() const { return graph_; }
  const std::vector<Site>& sites() const { return sites_; }
  const std::vector<SiteParams>& site_params() const { return site_params_; }

  // `node` is a kLinear.
  const QuantLinear& linear(int node) const { return linears_.at(node); }
  // The i-th site that `consumer` reads: a kLinear's input; q, k of kScores; softmax code, v of
  // kMix.
  const SiteParams& site(int consumer, int i = 0) const;
  // Parameters of the nodes that are not Linear, in float.
  const Weights& params() const { return params_; }

 private:
  void read_sites();
  void read_linear(int index, Node& node);
  Tensor read_floats(const std::string& name, const Dims& dims) const;

  QbinFile file_;
  Graph graph_;
  std::vector<Site> sites_;
  std::vector<SiteParams> site_params_;
  std::map<int, QuantLinear> linears_;
  Weights params_;
};

// The "model.*", "preprocess.*" and "labels" metadata.
ModelConfig get_config(const QbinFile& file);

}  // namespace vitrun
