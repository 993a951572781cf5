#include "quant/pipeline.h"

#include <algorithm>

#include "models/status.h"

namespace vitrun {
namespace {

constexpr double kFoldPart = 0.3, kCalibrationPart = 0.85;  // of the progress

void check_bits(const std::string& what, int bits) {
  if (bits < kMinBits || bits > kMaxBits)
    fail(what, " must be ", kMinBits, " to ", kMaxBits, ", got ", bits);
}

// The bits of every unit: the plan's, or the base widths.
BitPlan complete_plan(const Graph& graph, const QuantizeOptions& options) {
  check_bits("weight bits", options.weight_bits);
  check_bits("activation bits", options.activation_bits);
  BitPlan plan;
  for (const std::string& unit : unit_names(graph))
    plan[unit] = {options.weight_bits, options.activation_bits};
  for (const auto& [unit, bits] : options.bits) {
    if (!plan.contains(unit)) fail("bits for '", unit, "': the model has no such unit");
    check_bits(unit + ": weight bits", bits.weight);
    check_bits(unit + ": activation bits", bits.activation);
    plan[unit] = bits;
  }
  return plan;
}

// Bits of every site; the image itself is 8 bits deep.
std::vector<int> site_bits(const Graph& graph, const std::vector<Site>& sites,
                           const BitPlan& plan) {
  std::vector<int> bits;
  for (const Site& s : sites) {
    const bool image = graph.nodes[static_cast<size_t>(s.node)].kind == NodeKind::kPatches;
    bits.push_back(image ? 8 : plan.at(s.unit).activation);
  }
  return bits;
}

std::map<int, UnitBits> linear_bits(const Graph& graph, const BitPlan& plan) {
  std::map<int, UnitBits> bits;
  for (const Site& s : activation_sites(graph))
    if (graph.nodes[static_cast<size_t>(s.consumer)].kind == NodeKind::kLinear)
      bits[s.consumer] = plan.at(s.unit);
  return bits;
}

std::map<std::string, WeightCodes> quantize_weights(const FloatModel& model,
                                                    const std::map<int, UnitBits>& bits,
                                                    const Progress& progress) {
  std::map<std::string, WeightCodes> out;
  for (const auto& [node, unit] : bits) {
    if (progress) progress(static_cast<double>(out.size()) / static_cast<double>(bits.size()));
    const Node& n = model.graph.nodes[static_cast<size_t>(node)];
    out[n.name] = quantize_weight(model.weights.at(n.weight), unit.weight);
  }
  return out;
}

// The ranges of all sites; those of folded LayerNorms follow from the fold.
std::vector<SiteRange> site_ranges(Reference& engine, const BitPlan& plan,
                                   const std::map<int, NormFold>& folds, const ImageSource& images,
                                   const CalibrateOptions& options, const Progress& progress) {
  const std::vector<Site> sites = activation_sites(engine.graph());
  const std::vector<int> bits = site_bits(engine.graph(), sites, plan);
  std::vector<Site> searched;
  std::vector<int> searched_bits;
  for (size_t i = 0; i < sites.size(); i++) {
    if (folds.contains(sites[i].node)) continue;
    searched.push_back(sites[i]);
    searched_bits.push_back(bits[i]);
  }
  const std::vector<SiteRange> found =
      calibrate(engine, searched, searched_bits, images, options, progress);
  std::vector<SiteRange> ranges;
  for (size_t i = 0, next = 0; i < sites.size(); i++) {
    const auto fold = folds.find(sites[i].node);
    ranges.push_back(fold == folds.end() ? found[next++] : SiteRange{bits[i], fold->second.range});
  }
  return ranges;
}

void put_recipe(std::map<std::string, QbinValue>& recipe, const QuantizeOptions& options,
                const BitPlan& plan, const Graph& graph, const std::map<int, NormFold>& folds) {
  recipe["method"] = std::string(method_name(options.method));
  recipe["objective"] =
      std::string(options.objective == Objective::kResidual ? "residual" : "tensor");
  recipe["weight_bits"] = int64_t{options.weight_bits};
  recipe["activation_bits"] = int64_t{options.activation_bits};
  const bool mixed = std::any_of(plan.begin(), plan.end(), [&](const auto& unit) {
    return unit.second != UnitBits{options.weight_bits, options.activation_bits};
  });
  recipe["mixed"] = int64_t{mixed};
  if (options.method != Method::kCrl) return;
  std::vector<std::string> norms;
  std::vector<double> k;
  for (const auto& [node, fold] : folds) {
    norms.push_back(graph.nodes[static_cast<size_t>(node)].name);
    k.push_back(fold.k);
  }
  recipe["clip_norm"] = norms;
  recipe["clip_k"] = k;
}

}  // namespace

QbinWriter quantize_model(FloatModel model, const ImageSource& calibration,
                          const QuantizeOptions& options, const Progress& progress) {
  if (calibration.count < 1) fail("calibration needs at least one image");
  const BitPlan plan = complete_plan(model.graph, options);
  auto part = [&](double from, double to) {
    return [&progress, from, to](double done) {
      if (progress) progress(from + (to - from) * done);
    };
  };
  fold_layer_scale(model);
  const std::map<int, UnitBits> bits = linear_bits(model.graph, plan);
  std::map<int, NormFold> folds;
  if (options.method != Method::kLayerwise)
    folds = fold_norms(model, calibration, {options.method, options.clip_k, bits, options.threads},
                       part(0, kFoldPart));
  Reference engine(model.graph, model.weights, options.threads);
  const auto ranges = site_ranges(engine, plan, folds, calibration,
                                  {options.objective, options.method == Method::kFqVit ? 1.f : 2.f},
                                  part(kFoldPart, kCalibrationPart));
  const auto weights = quantize_weights(model, bits, part(kCalibrationPart, 1));

  std::map<std::string, QbinValue> recipe = options.provenance;
  put_recipe(recipe, options, plan, model.graph, folds);
  if (progress) progress(1);
  return export_model(model, weights, ranges, recipe);
}

}  // namespace vitrun
