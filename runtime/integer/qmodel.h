// A quantized model: what a .qbin holds, checked and ready for the engine. quant/export.cc writes
// it; QbinFile and QbinWriter (qbin.h) know only containers.
//
// Layout. Metadata: "model.*" is ModelConfig, "preprocess.*" its preprocessing, "labels" one string
// per class, "site.name|bits|scale|zero" and, where not all are 2 or -1, "site.rate|twin" one entry
// per activation site (sites.h), "recipe.*" how it was made. Tensors, for every Linear U of the
// graph:
//   U.weight        kPacked [N, K], signed codes q' = q - 2^(b-1)
//   U.weight_scale  kF32 [N]   s_w
//   U.weight_zero   kI8 [N]    z_w' = z_w - 2^(b-1)
//   U.weight_sum    kI16 or kI32 [N]   sum over K of q'
//   U.bias          kF16 or kF32 [N], where it has one (folds may give a bias to a Linear without)
//   U.input_levels  kU8 [1..2^bits, 2]   first code and level of each run (SiteParams), if it has
//   any
//   U.head_scale    kF32 [3, heads]   of a qkv: scale and zero point of q, k and v of each head
//   U.head_zero     kI16 [3, heads]   instead of their sites', if heads differ
// and every other parameter of the graph under its own name as kF32 or kF16.
#pragma once

#include <map>
#include <memory>

#include "kernels/kernels.h"
#include "models/graph/sites.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// Arrays are padded with zeros to a multiple of kColumns. `panels` points into the file.
struct QuantLinear {
  int n = 0, k = 0, bits = 0;
  const uint8_t* panels = nullptr;
  std::vector<float> scale, bias;
  std::vector<int32_t> zero, sum;
};

// The 8-bit codes from `first` up to the next run's first are replaced by `level`.
struct LevelRun {
  uint8_t first, level;
};

// A uniform quantizer's scale and zero point (method.md section 2), evaluated as kernels.h does.
struct UniformRange {
  float scale = 1;
  int zero = 0;

  bool operator==(const UniformRange&) const = default;
};

// Bits, scale and zero point of an activation site; a kSoftmax site has no zero point, but log
// codes of `rate` an octave, or evenly spaced ones: steps of `scale` alone (twin 0), or half of the
// codes in such steps and half in steps finer by 2^twin. Where there are levels, scale and zero
// point are those of 8-bit codes, which only take the levels' values: a code of `bits` bits says
// which. Of q, k and v each head may have its own scale and zero point.
struct SiteParams {
  static constexpr int kLogCodes = -1;

  int bits = 8;
  float scale = 1;
  int zero = 0;
  float rate = 2;
  int twin = kLogCodes;
  std::vector<LevelRun> levels = {};     // from code 0, ascending in both; empty: as they are
  std::vector<UniformRange> heads = {};  // empty: all heads have `scale` and `zero`

  int code_bits() const { return levels.empty() ? bits : 8; }
  Quantizer quantizer() const { return {1 / scale, zero, (1 << code_bits()) - 1}; }
  UniformRange of_head(int head) const {
    return heads.empty() ? UniformRange{scale, zero} : heads[static_cast<size_t>(head)];
  }
};

// Of a kSoftmax site: its evenly spaced codes, and what one unit of their or the log codes' 16-bit
// fixed-point values is worth.
StepCodes step_codes(const SiteParams& site);
float fixed_point_unit(const SiteParams& site);
// The largest `twin` whose fine steps are whole units.
constexpr int most_twin(int bits) {
  return 17 - bits;
}

// The level of each of the 256 codes.
std::vector<uint8_t> level_table(const std::vector<LevelRun>& levels);

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
  std::vector<LevelRun> read_levels(const Site& site, int bits) const;
  std::vector<UniformRange> read_heads(const Site& site) const;
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
