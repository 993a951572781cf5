#include "quant/pipeline.h"

#include <algorithm>
#include <cmath>

#include "kernels/pack.h"
#include "lrp/walk/scores.h"
#include "models/base/error.h"
#include "models/graph/rewrite.h"
#include "quant/bits/knapsack.h"
#include "quant/rewrite/rotate.h"
#include "quant/rewrite/split_outliers.h"
#include "quant/rivals/hessian_ranges.h"
#include "quant/weights/compensate.h"
#include "quant/weights/tune.h"

namespace vitrun {
namespace {

constexpr double kFoldPart = 0.3;        // share of the progress
constexpr double kRangePart = 0.8;       // share of the progress that follows the fold
constexpr double kAllocationPart = 0.4;  // share of the progress where there is a budget
constexpr double kTunePart = 0.6;        // share of the progress that tuning takes
constexpr double kPredictPart = 0.4;     // share of the weights' progress where they are coded
constexpr int64_t kReportBytes = 2048;   // a PlanReport takes less in a file

void check_bits(const std::string& what, int bits) {
  if (bits < kMinBits || bits > kMaxBits)
    fail(what, " must be ", kMinBits, " to ", kMaxBits, ", got ", bits);
}

// The bits of every unit: the plan's, or the base widths.
BitPlan complete_plan(const Graph& graph, const QuantizeOptions& options) {
  check_bits("weight bits", options.weight_bits);
  check_bits("activation bits", options.activation_bits);
  BitPlan plan = uniform_plan(graph, {options.weight_bits, options.activation_bits});
  for (const auto& [unit, bits] : options.bits) {
    if (!plan.contains(unit)) fail("bits for '", unit, "': the model has no such unit");
    check_bits(unit + ": weight bits", bits.weight);
    check_bits(unit + ": activation bits", bits.activation);
    plan[unit] = bits;
  }
  return plan;
}

// Returns the bits of a unit; a matrix product that belongs to no unit has 8.
UnitBits bits_of(const BitPlan& plan, const std::string& unit) {
  return unit.empty() ? UnitBits{} : plan.at(unit);
}

// Returns the bits of every site. The image always has 8.
std::vector<int> site_bits(const Graph& graph, const std::vector<Site>& sites,
                           const BitPlan& plan) {
  std::vector<int> bits;
  const Shapes shapes = infer_shapes(graph);
  for (const Site& s : sites)
    bits.push_back(is_image(graph, shapes, s.node) ? 8 : bits_of(plan, s.unit).activation);
  return bits;
}

std::map<int, UnitBits> linear_bits(const Graph& graph, const BitPlan& plan) {
  std::map<int, UnitBits> bits;
  for (const Site& s : activation_sites(graph))
    if (graph[s.consumer].kind == NodeKind::kLinear) bits[s.consumer] = bits_of(plan, s.unit);
  return bits;
}

std::map<std::string, WeightCodes> quantize_weights(const FloatModel& model,
                                                    const std::map<int, UnitBits>& bits,
                                                    StepPlan* steps, const Progress& progress) {
  std::map<std::string, WeightCodes> out;
  for (const auto& [node, unit] : bits) {
    if (progress) progress(ratio(out.size(), bits.size()));
    const Node& n = model.graph[node];
    const Tensor& weight = model.weights.at(n.weight);
    out[n.name] = round_planned(steps, n.name, unit.weight, [&](const WeightGrid& grid) {
      return quantize_weight(weight, grid);
    });
  }
  return out;
}

// Whether inputs of Linears get levels. On a target they do not, since levels take the time of
// 8-bit codes.
bool input_levels(const QuantizeOptions& options) {
  return options.levels && !(options.budget && options.budget->costs);
}

// Returns the ranges of all sites. Those of folded LayerNorms follow from the fold, unless levels
// are searched for them.
std::vector<SiteRange> site_ranges(Reference& engine, const BitPlan& plan,
                                   const std::map<int, NormFold>& folds, const ImageSource& images,
                                   const CalibrateOptions& options, int row_group,
                                   const Progress& progress) {
  const std::vector<Site> sites = activation_sites(engine.graph());
  const std::vector<int> bits = site_bits(engine.graph(), sites, plan);
  const auto by_fold = [&](size_t i) {
    return folds.contains(sites[i].node) && !(options.levels && bits[i] < 8);
  };
  const auto by_row = [&](size_t i) {
    return row_group > 0 && may_go_by_row(engine.graph(), engine.shapes(), sites[i]);
  };
  const auto in_groups = [&](size_t i) {
    return row_group > 0 && options.heads && bits[i] < 8 &&
           has_head_ranges(engine.graph(), engine.shapes(), sites[i], true);
  };
  std::vector<Site> searched;
  std::vector<int> searched_bits;
  for (size_t i = 0; i < sites.size(); i++) {
    if (by_row(i) || by_fold(i)) continue;
    searched.push_back(sites[i]);
    searched_bits.push_back(in_groups(i) ? 8 : bits[i]);
  }
  const std::vector<SiteRange> found =
      calibrate(engine, searched, searched_bits, images, options, progress);
  std::vector<SiteRange> ranges;
  for (size_t i = 0, next = 0; i < sites.size(); i++)
    ranges.push_back(by_row(i)      ? SiteRange{.bits = bits[i], .group = row_group}
                     : by_fold(i)   ? SiteRange{bits[i], folds.at(sites[i].node).range}
                     : in_groups(i) ? in_head_groups(found[next++], bits[i],
                                                     engine.shapes().geometry(sites[i].consumer))
                                    : found[next++]);
  return ranges;
}

// Returns the rates of log codes after softmax that are tried (method.md section 10): 1 is log2, 2
// is log sqrt 2.
std::vector<float> log_rates(const QuantizeOptions& options) {
  if (options.method == Method::kFqVit) return {1};
  if (options.levels) return {1, 1.5, 2, 2.5, 3, 3.5};
  return {2};
}

// Returns the table of the plan, with its errors not yet measured.
UnitTable table_of(const Graph& graph, const BitPlan& plan) {
  UnitTable table;
  const Shapes shapes = infer_shapes(graph);
  for (const Site& s : activation_sites(graph)) {
    if (s.unit.empty() || (!table.empty() && table.back().name == s.unit))
      continue;  // q and k are one unit
    UnitRow row{s.unit, plan.at(s.unit)};
    if (graph.is(s.consumer, NodeKind::kLinear)) {
      const LinearSize size = linear_size(graph, s.consumer);
      row.parameters = int64_t{size.n} * size.k;
      row.bytes = pack_bytes(size.n, size.k, row.bits.weight);
      if (is_image(graph, shapes, s.node)) row.bits.activation = 8;
    }
    table.push_back(row);
  }
  return table;
}

// Returns the rows of the table that are Linears, with their nodes.
std::vector<std::pair<UnitRow*, int>> linear_rows(const Graph& graph, UnitTable& table) {
  std::vector<std::pair<UnitRow*, int>> rows;
  for (UnitRow& row : table) {
    if (!row.parameters) continue;
    for (const Site& s : activation_sites(graph))
      if (s.unit == row.name) rows.push_back({&row, s.consumer});
  }
  return rows;
}

// Measures the errors of plain layer-wise quantization at these bits, for comparison.
void measure_before(Reference& engine, const InputRows& inputs, UnitTable& table) {
  for (const auto& [row, node] : linear_rows(engine.graph(), table)) {
    const Tensor& weight = engine.weights().at(engine.graph()[node].weight);
    const Tensor& rows = inputs.at(node);
    const int bits = row->bits.activation;
    row->before = linear_error(engine, weight, quantize_weight(weight, row->bits.weight), rows,
                               {bits, search_range(rows.data, bits)});
  }
}

void measure_after(Reference& engine, const InputRows& inputs, const Operands& operands,
                   const std::map<int, NormFold>& folds, UnitTable& table) {
  const std::vector<Site> sites = activation_sites(engine.graph());
  std::map<int, const SiteRange*> range_of;  // Linear -> the range of its input
  for (size_t i = 0; i < sites.size(); i++) range_of[sites[i].consumer] = &operands.sites[i];
  for (const auto& [row, node] : linear_rows(engine.graph(), table)) {
    const Node& n = engine.graph()[node];
    const SiteRange& input = *range_of.at(node);
    const WeightCodes& codes = operands.weights.at(n.name);
    row->after = linear_error(engine, engine.weights().at(n.weight), codes, inputs.at(node), input);
    row->coded = codes.coded;
    if (codes.coded) {
      row->bits.weight = codes.bits;
      row->bytes = stored_bytes(codes);
    }
    row->by_row = input.params().by_row();
    if (!row->by_row) {
      row->low = dequantize(0, input.range);
      row->high = dequantize(input.params().quantizer().max_code, input.range);
    }
    if (const auto fold = folds.find(n.in[0]); fold != folds.end()) row->clip_k = fold->second.k;
  }
}

const char* rotate_name(Rotate rotate) {
  return rotate == Rotate::kAll ? "all" : rotate == Rotate::kScores ? "scores" : "none";
}

std::map<std::string, QbinValue> recipe_of(const QuantizeOptions& options, const Graph& graph,
                                           const std::map<int, NormFold>& folds,
                                           const UnitTable& table,
                                           const std::optional<PlanReport>& plans) {
  std::map<std::string, QbinValue> recipe = options.provenance;
  recipe["method"] = std::string(method_name(options.method));
  recipe["objective"] =
      std::string(options.objective == Objective::kResidual ? "residual" : "tensor");
  recipe["activation_ranges"] = std::string(options.row_group ? "rows" : "calibrated");
  if (options.row_group) recipe["activation_group"] = int64_t{options.row_group};
  recipe["activation_codes"] = std::string(input_levels(options) ? "levels" : "uniform");
  recipe["outliers"] = std::string(options.split ? "split" : "kept");
  recipe["heads"] = std::string(options.heads ? "own" : "shared");
  recipe["rotation"] = std::string(rotate_name(options.rotate));
  recipe["rounding"] = std::string(options.compensate ? "compensated" : "nearest");
  if (options.coded) {
    recipe["coded_bytes"] = options.coded->bytes;
    recipe["rates_by"] = std::string(name_of(options.coded->by));
  }
  if (options.tuning.count > 0) recipe["tuning_images"] = options.tuning.count;
  recipe["weight_bits"] = int64_t{options.weight_bits};
  recipe["activation_bits"] = int64_t{options.activation_bits};
  const bool mixed = std::any_of(table.begin(), table.end(), [&](const UnitRow& row) {
    return row.bits.weight != options.weight_bits ||
           (row.bits.activation != options.activation_bits && row.name != "patch_embed");
  });
  recipe["mixed"] = int64_t{mixed};
  put_units(table, recipe);
  if (plans) put_report(*plans, recipe);
  if (options.method != Method::kCrl) return recipe;
  std::vector<std::string> norms;
  std::vector<double> k;
  for (const auto& [node, fold] : folds) {
    norms.push_back(graph[node].name);
    k.push_back(fold.k);
  }
  recipe["clip_norm"] = norms;
  recipe["clip_k"] = k;
  return recipe;
}

std::optional<Guidance> guidance_of(Method method) {
  if (method == Method::kPtq4Vit) return Guidance::kProduct;
  if (method == Method::kApqVit) return Guidance::kBlock;
  return std::nullopt;
}

std::map<int, NormFold> fold(FloatModel& model, const ImageSource& images,
                             const QuantizeOptions& options, const BitPlan& plan,
                             const Progress& progress) {
  if (options.method == Method::kLayerwise || guidance_of(options.method)) return {};
  return fold_norms(
      model, images,
      {options.method, options.clip_k, linear_bits(model.graph, plan), options.threads}, progress);
}

// Whether a site has rows with ranges of their own.
bool goes_by_row(const QuantizeOptions& options, const Graph& graph, const Shapes& shapes,
                 const Site& site) {
  return options.row_group > 0 && may_go_by_row(graph, shapes, site);
}

// Whether a site may have levels, searched or as PTQ4ViT's twin codes: the inputs of Linears may
// whose range is calibrated.
bool may_have_levels(const QuantizeOptions& options, const Graph& graph, const Shapes& shapes,
                     const Site& site) {
  return (input_levels(options) || options.method == Method::kPtq4Vit) && !site.unit.empty() &&
         graph.is(site.consumer, NodeKind::kLinear) && !goes_by_row(options, graph, shapes, site);
}

// Whether a budget may give inputs of Linears fewer than 8 bits, or levels at 8 bits.
bool may_be_narrow(const QuantizeOptions& options) {
  const Budget& budget = *options.budget;
  return options.activation_bits < kMaxBits || options.method == Method::kPtq4Vit ||
         (!budget.importance.empty() && budget.operands == MixedOperands::kBoth);
}

// Returns an upper bound on the bytes of the file that are neither weight_bytes() nor levels. It
// exports the model with all weights as 8-bit codes of 0 and subtracts the packed weights.
int64_t other_bytes(const FloatModel& model, const QuantizeOptions& options,
                    const std::map<int, NormFold>& folds, const BitPlan& plan) {
  std::map<std::string, WeightCodes> zeros;
  for (const Node& n : model.graph.nodes)
    if (n.kind == NodeKind::kLinear && n.unit.empty())
      zeros[n.name] = quantize_weight(model.weights.at(n.weight), kMaxBits);
  int64_t packed = 0;
  UnitTable table = table_of(model.graph, plan);
  for (const auto& [row, node] : linear_rows(model.graph, table)) {
    const Node& n = model.graph[node];
    const LinearSize size = linear_size(model.graph, node);
    zeros[n.name] = {size.n, size.k, 8,
                     std::vector<uint8_t>(array_size(row->parameters), 128),  // signed 0
                     std::vector<UniformRange>(array_size(size.n))};
    packed += pack_bytes(size.n, size.k, 8);
  }
  std::vector<SiteRange> ranges;
  const Shapes shapes = infer_shapes(model.graph);
  for (const Site& s : activation_sites(model.graph)) {
    // The scales differ, so that no two sites share a Quantize node.
    ranges.push_back({8, {static_cast<float>(ranges.size() + 1), 0}});
    if (s.softmax) ranges.back().rate = 1, ranges.back().twin = 0;
    if (goes_by_row(options, model.graph, shapes, s))  // groups differ as the scales do
      ranges.back() = {.bits = 8, .group = kLeastGroup + count_of(ranges)};
    if (may_be_narrow(options) && may_have_levels(options, model.graph, shapes, s))
      ranges.back().levels = {{0, 0}};
    if (has_head_ranges(model.graph, shapes, s, options.heads)) {
      const AttentionGeometry& g = shapes.geometry(s.consumer);
      ranges.back().heads.resize(array_size(g.heads));
      if (options.row_group && may_be_narrow(options))
        ranges.back() = in_head_groups({8, ranges.back().range}, 8, g);
    }
  }
  const auto file =
      export_model(model, zeros, ranges, recipe_of(options, model.graph, folds, table, {}));
  return static_cast<int64_t>(file.serialize().size()) - packed +
         (options.budget->costs ? kReportBytes : 0);
}

struct Allocation {
  BitPlan plan;
  std::optional<double> ranking;  // Quantized::ranking
  std::optional<PlanReport> report;
};

// Minimises the sum of relevance times Lambda within `bytes` (budget_plan()).
Allocation allocate_by_importance(const FloatModel& model, const ImageSource& images,
                                  const QuantizeOptions& options, UnitTable& table, int64_t bytes) {
  const Budget& budget = *options.budget;
  Reference engine(model.graph, model.weights, options.threads);
  const InputRows inputs = keep_inputs(engine, images);
  OutputErrors errors;
  std::vector<double> omega, lambda;
  for (const auto& [row, node] : linear_rows(model.graph, table)) {
    const Node& n = model.graph[node];
    errors[row->name] =
        output_errors(engine, model.weights.at(n.weight), inputs.at(node),
                      budget.operands == MixedOperands::kBoth ? 0 : row->bits.activation);
    const auto importance = budget.importance.find(row->name);
    if (importance == budget.importance.end()) continue;
    omega.push_back(importance->second);
    lambda.push_back(at(errors[row->name], options.weight_bits - kMinBits));
  }
  const Shapes shapes = infer_shapes(model.graph);
  const bool levels = std::ranges::any_of(activation_sites(model.graph), [&](const Site& s) {
    return may_have_levels(options, model.graph, shapes, s);
  });
  return {
      budget_plan(model.graph, budget.importance, errors,
                  {options.weight_bits, options.activation_bits}, budget.operands, bytes, levels),
      kendall_tau(omega, lambda),
      {}};
}

// Minimises the predicted error of the logits within the budget (plan_within()).
Allocation allocate_by_prediction(const FloatModel& model, const ImageSource& images,
                                  const QuantizeOptions& options, std::optional<int64_t> bytes,
                                  const Progress& progress) {
  const Budget& budget = *options.budget;
  const LogitsErrors errors = predict_errors(model, images,
                                             {.compensate = options.compensate,
                                              .activations = budget.costs.has_value(),
                                              .objective = options.objective,
                                              .heads = options.heads,
                                              .threads = options.threads},
                                             progress);
  TargetPlan found =
      plan_within(model.graph, errors, budget.costs ? &*budget.costs : nullptr,
                  {options.weight_bits, options.activation_bits}, {bytes, budget.milliseconds});
  return {std::move(found.bits), {}, std::move(found.report)};
}

// Chooses the bits of every unit within the budget. The errors that decide are those of the model
// as it would be folded at the base widths.
Allocation allocate(FloatModel model, const ImageSource& images, const QuantizeOptions& options,
                    const Progress& progress) {
  const BitPlan base = complete_plan(model.graph, options);
  const Budget& budget = *options.budget;
  const auto folds =
      fold(model, images, options, base, [&](double done) { progress(kFoldPart * done); });
  UnitTable table = table_of(model.graph, base);
  std::optional<int64_t> left;  // bytes for weights and levels
  if (budget.bytes) left = *budget.bytes - other_bytes(model, options, folds, base);
  if (!budget.importance.empty())
    return allocate_by_importance(model, images, options, table, left.value_or(0));
  if (left) {
    const Shapes shapes = infer_shapes(model.graph);
    const std::vector<Site> sites = activation_sites(model.graph);
    const std::vector<int> bits = site_bits(model.graph, sites, base);
    for (size_t i = 0; i < sites.size(); i++)
      if (may_have_levels(options, model.graph, shapes, sites[i])) *left -= level_bytes(bits[i]);
  }
  return allocate_by_prediction(model, images, options, left,
                                [&](double done) { progress(kFoldPart + (1 - kFoldPart) * done); });
}

// Says the smallest size of a file where none fits.
Allocation allocate_within(const FloatModel& model, const ImageSource& images,
                           const QuantizeOptions& options, const Progress& progress) {
  try {
    return allocate(model, images, options, progress);
  } catch (const TooFewBytes& e) {
    const int64_t asked = options.budget->bytes.value_or(0);
    fail("no choice of bits fits into a file of ", asked, " bytes: the smallest possible has ",
         asked + e.missing());
  }
}

// The bytes of the file that do not depend on the coded weights' steps. It exports the model with
// wide ones.
int64_t bytes_beside(const FloatModel& model, const std::vector<StepPlan::Linear>& coded,
                     const std::vector<SiteRange>& sites,
                     const std::map<std::string, QbinValue>& recipe) {
  std::map<std::string, WeightCodes> weights;
  int64_t bytes = 0;
  for (const StepPlan::Linear& l : coded) {
    weights[l.name] = quantize_weight(l.weight, WeightGrid{kMinBits, step_of_entropy(l.weight, 1)});
    bytes -= stored_bytes(weights[l.name]);
  }
  for (const Node& n : model.graph.nodes)
    if (n.kind == NodeKind::kLinear && !weights.contains(n.name))
      weights[n.name] = quantize_weight(model.weights.at(n.weight), kMaxBits);
  return bytes + std::ssize(export_model(model, weights, sites, recipe).serialize());
}

// Plans the steps of all weights of units such that the file has the size asked for.
StepPlan plan_steps(FloatModel& model, const std::map<int, UnitBits>& bits,
                    const std::vector<SiteRange>& sites, const ImageSource& images,
                    const QuantizeOptions& options, const std::map<std::string, QbinValue>& recipe,
                    const Progress& progress) {
  const std::vector<StepPlan::Linear> linears = coded_linears(
      model, bits, images, *options.coded, {options.compensate, options.threads}, progress);
  if (options.compensate)  // it corrects them all
    for (const auto& [node, unit] : bits) ensure_bias(model, node);
  const int64_t limit = options.coded->bytes;
  return StepPlan(linears, limit - bytes_beside(model, linears, sites, recipe), limit);
}

// Returns the codes of every weight and the range of every activation.
Operands quantize_operands(FloatModel& model, Reference& engine, const BitPlan& plan,
                           const std::map<int, NormFold>& folds, const ImageSource& images,
                           const QuantizeOptions& options, const UnitTable& units,
                           const Progress& progress) {
  const auto part = [&](double from, double to) {
    return [&progress, from, to](double done) {
      if (progress) progress(from + (to - from) * done);
    };
  };
  const auto bits = linear_bits(model.graph, plan);
  Operands out;
  if (const auto guidance = guidance_of(options.method))
    out = search_guided(model, images, site_bits(model.graph, activation_sites(model.graph), plan),
                        bits, *guidance, options.threads, part(0, kRangePart));
  else
    out.sites = site_ranges(engine, plan, folds, images,
                            {.objective = options.objective,
                             .log_rates = log_rates(options),
                             .softmax_sums = options.levels && options.method != Method::kFqVit,
                             .levels = input_levels(options),
                             .heads = options.heads},
                            options.row_group, part(0, kRangePart));
  std::optional<StepPlan> steps;
  double begin = kRangePart;
  if (options.coded) {
    begin = std::lerp(kRangePart, 1, kPredictPart);
    steps = plan_steps(model, bits, out.sites, images, options,
                       recipe_of(options, model.graph, folds, units, {}), part(kRangePart, begin));
  }
  StepPlan* const planned = steps ? &*steps : nullptr;
  std::optional<FloatModel> reference;
  if (options.tuning.count > 0) reference = model;
  const double end = reference ? std::lerp(begin, 1, 1 - kTunePart) : 1;
  if (options.compensate)
    out.weights = compensate_weights(model, out.sites, bits, images, options.threads,
                                     options.outputs, planned, part(begin, end));
  else if (out.weights.empty() || steps)
    out.weights = quantize_weights(model, bits, planned, part(begin, end));
  if (reference)
    tune(model, out.weights, out.sites, *reference, options.tuning, options.threads,
         options.outputs, {}, part(end, 1));
  return out;
}

}  // namespace

Quantized quantize_model(FloatModel model, const ImageSource& calibration,
                         const QuantizeOptions& options, const Progress& progress) {
  if (calibration.count < 1) fail("calibration needs at least one image");
  double begun = 0;  // share of the progress that allocation has taken
  auto part = [&](double from, double to) {
    return [&progress, begun, from, to](double done) {
      if (progress) progress(begun + (1 - begun) * (from + (to - from) * done));
    };
  };
  Quantized result;
  BitPlan plan = complete_plan(model.graph, options);
  fold_layer_scale(model);
  if (options.levels) fold_normalization(model);
  if (options.rotate == Rotate::kAll) rotate_residual(model);
  if (options.rotate != Rotate::kNone) rotate_scores(model);
  if (options.split) split_outliers(model, calibration, options.threads);
  if (options.budget) {
    Allocation found = allocate_within(model, calibration, options, part(0, kAllocationPart));
    begun = kAllocationPart;
    plan = std::move(found.plan);
    result.ranking = found.ranking;
    result.plans = std::move(found.report);
  }
  result.units = table_of(model.graph, plan);
  {
    Reference engine(model.graph, model.weights, options.threads);
    measure_before(engine, keep_inputs(engine, calibration), result.units);
  }
  const auto folds = fold(model, calibration, options, plan, part(0, kFoldPart));
  Reference engine(model.graph, model.weights, options.threads);
  const Operands operands = quantize_operands(model, engine, plan, folds, calibration, options,
                                              result.units, part(kFoldPart, 1));
  measure_after(engine, keep_inputs(engine, calibration), operands, folds, result.units);
  result.file = export_model(model, operands.weights, operands.sites,
                             recipe_of(options, model.graph, folds, result.units, result.plans));
  if (options.coded)
    if (const int64_t bytes = std::ssize(result.file.serialize()); bytes > options.coded->bytes)
      fail("the file takes ", bytes, " bytes, more than ", options.coded->bytes);
  if (progress) progress(1);
  return result;
}

}  // namespace vitrun
