#include "quant/bits/coded_size.h"

#include <algorithm>
#include <random>
#include <set>

#include "quant/bits/linear_error.h"

namespace vitrun {
namespace {

constexpr double kReferenceEntropy = 3;  // bits of the codes whose errors count
// A change of the patch embedding goes through the whole network and does several times what is
// predicted.
constexpr double kImageFactor = 4;

// A weight whose codes change the logits less than this part of the mean still counts as that,
// since the prediction knows of no other output: it gets at most log2(10) bits fewer.
constexpr double kLeastPart = 0.01;

using Linears = std::vector<StepPlan::Linear>;

double count_of_weights(const StepPlan::Linear& l) {
  return static_cast<double>(l.weight.data.size());
}

void predict(const FloatModel& model, const std::vector<int>& nodes, const ImageSource& images,
             const CodedOptions& options, const Progress& progress, Linears& linears) {
  PredictOptions predict{.compensate = options.compensate, .threads = options.threads};
  for (const StepPlan::Linear& l : linears) predict.grids[l.name] = l.grid;
  const LogitsErrors errors = predict_errors(model, images, predict, progress);
  const Shapes shapes = infer_shapes(model.graph);
  for (size_t i = 0; i < linears.size(); i++) {
    const Node& n = model.graph[nodes[i]];
    linears[i].error = errors.at(n.unit).weight[0];
    if (is_image(model.graph, shapes, n.in[0])) linears[i].error *= kImageFactor;
  }
  double errors_of_all = 0, count = 0;
  for (const StepPlan::Linear& l : linears) errors_of_all += l.error, count += count_of_weights(l);
  const double least = kLeastPart * errors_of_all / count;
  for (StepPlan::Linear& l : linears) l.error = std::max(l.error, least * count_of_weights(l));
}

// Deals out the errors a weight in another order.
void shuffle(uint64_t seed, Linears& linears) {
  std::vector<double> errors;
  for (const StepPlan::Linear& l : linears) errors.push_back(l.error / count_of_weights(l));
  std::mt19937_64 random(seed);
  for (size_t i = errors.size(); i > 1; i--) std::swap(errors[i - 1], errors[random() % i]);
  for (size_t i = 0; i < linears.size(); i++)
    linears[i].error = errors[i] * count_of_weights(linears[i]);
}

// Lambda of each Linear on its grid; its input is exact.
std::vector<double> output_errors_of(const FloatModel& model, const std::vector<int>& nodes,
                                     const ImageSource& images, int threads,
                                     const Linears& linears) {
  Reference engine(model.graph, model.weights, threads);
  const InputRows inputs = keep_inputs(engine, images);
  std::vector<double> errors;
  for (size_t i = 0; i < linears.size(); i++) {
    const Tensor &weight = linears[i].weight, &rows = inputs.at(nodes[i]);
    const Tensor y = engine.multiply(rows, weight);
    const WeightCodes codes = quantize_weight(weight, linears[i].grid);
    errors.push_back(output_error_of(y, engine.multiply(rows, dequantize_weight(codes))));
  }
  return errors;
}

// Sets `errors`, each times its unit's relevance within its kind.
void weigh(const FloatModel& model, const std::vector<int>& nodes, const Importance& importance,
           const std::vector<double>& errors, Linears& linears) {
  std::set<std::string> units;
  for (const int node : nodes) units.insert(model.graph[node].unit);
  const Importance relative = within_kinds(importance, units);
  for (size_t i = 0; i < linears.size(); i++) {
    const auto omega = relative.find(model.graph[nodes[i]].unit);
    linears[i].error = (omega == relative.end() ? 1 : omega->second) * errors[i];
  }
}

}  // namespace

const char* name_of(RateBy by) {
  for (const auto& [name, rate] : kRateNames)
    if (rate == by) return name;
  return "";
}

std::vector<StepPlan::Linear> coded_linears(const FloatModel& model,
                                            const std::map<int, UnitBits>& bits,
                                            const ImageSource& images, const CodedSize& size,
                                            const CodedOptions& options, const Progress& progress) {
  Linears linears;
  std::vector<int> nodes;
  std::vector<double> counts;
  for (const auto& [node, unit] : bits) {
    const Node& n = model.graph[node];
    if (n.unit.empty()) continue;  // turns tokens back
    const Tensor& weight = model.weights.at(n.weight);
    const WeightGrid grid{unit.weight, step_of_entropy(weight, kReferenceEntropy)};
    counts.push_back(static_cast<double>(weight.data.size()));
    linears.push_back({n.name, weight, grid, counts.back()});  // RateBy::kEqual
    nodes.push_back(node);
  }
  switch (size.by) {
    case RateBy::kPrediction:
    case RateBy::kRandom:
      predict(model, nodes, images, options, progress, linears);
      if (size.by == RateBy::kRandom) shuffle(size.seed, linears);
      break;
    case RateBy::kRelevance:
      weigh(model, nodes, size.importance, counts, linears);
      break;
    case RateBy::kRelevanceError:
      weigh(model, nodes, size.importance,
            output_errors_of(model, nodes, images, options.threads, linears), linears);
      break;
    case RateBy::kEqual:
      break;
  }
  return linears;
}

}  // namespace vitrun
