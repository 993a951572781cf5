#include "quant/pipeline.h"

#include "models/status.h"
#include "quant/reparam.h"

namespace vitrun {
namespace {

constexpr double kCalibrationPart = 0.8;  // of the progress

void check_bits(const char* what, int bits) {
  if (bits < kMinBits || bits > kMaxBits)
    fail(what, " must be ", kMinBits, " to ", kMaxBits, ", got ", bits);
}

// Bits of every site; the image itself is 8 bits deep.
std::vector<int> site_bits(const Graph& graph, const std::vector<Site>& sites,
                           int activation_bits) {
  std::vector<int> bits;
  for (const Site& s : sites) {
    const bool image = graph.nodes[static_cast<size_t>(s.node)].kind == NodeKind::kPatches;
    bits.push_back(image ? 8 : activation_bits);
  }
  return bits;
}

std::map<std::string, WeightCodes> quantize_weights(const FloatModel& model, int bits,
                                                    const Progress& progress) {
  std::map<std::string, WeightCodes> out;
  size_t done = 0;
  for (const Node& n : model.graph.nodes) {
    if (progress)
      progress(static_cast<double>(done++) / static_cast<double>(model.graph.nodes.size()));
    if (n.kind == NodeKind::kLinear)
      out[n.name] = quantize_weight(model.weights.at(n.weight), bits);
  }
  return out;
}

}  // namespace

QbinWriter quantize_model(FloatModel model, const ImageSource& calibration,
                          const QuantizeOptions& options, const Progress& progress) {
  check_bits("weight bits", options.weight_bits);
  check_bits("activation bits", options.activation_bits);
  auto part = [&](double from, double to) {
    return [&progress, from, to](double done) {
      if (progress) progress(from + (to - from) * done);
    };
  };
  fold_layer_scale(model);
  const std::vector<Site> sites = activation_sites(model.graph);
  const std::vector<int> bits = site_bits(model.graph, sites, options.activation_bits);
  Reference engine(model.graph, model.weights, options.threads);
  const auto ranges =
      calibrate(engine, sites, bits, calibration, options.objective, part(0, kCalibrationPart));
  const auto weights = quantize_weights(model, options.weight_bits, part(kCalibrationPart, 1));

  std::map<std::string, QbinValue> recipe = options.provenance;
  recipe["method"] = std::string("layerwise");
  recipe["objective"] =
      std::string(options.objective == Objective::kResidual ? "residual" : "tensor");
  recipe["weight_bits"] = int64_t{options.weight_bits};
  recipe["activation_bits"] = int64_t{options.activation_bits};
  if (progress) progress(1);
  return export_model(model, weights, ranges, recipe);
}

}  // namespace vitrun
