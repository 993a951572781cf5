#include "quant/bits/target_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "models/base/error.h"
#include "models/graph/quantizers.h"
#include "quant/bits/knapsack.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

constexpr double kLeastGain = 0.05;  // the base is left only for so much less squared error
constexpr UnitBits kUniform[] = {{8, 8}, {6, 6}, {4, 8}, {4, 4}, {3, 8}};  // plans of the report

// The predicted bytes, time and error of each unit at given bits.
class Predictions {
 public:
  // Softmax codes have the base's activation bits.
  Predictions(const Graph& graph, const LogitsErrors& errors, const CostTable* costs,
              const UnitBits& base)
      : works_(work_of(graph)),
        errors_(errors),
        costs_(costs),
        planes_(base.activation == kMaxBits ? 1 : 2) {
    const Shapes shapes = infer_shapes(graph);
    for (const Site& s : activation_sites(graph))
      if (is_image(graph, shapes, s.node)) image_ = s.unit;
  }

  const std::vector<UnitWork>& works() const { return works_; }

  // Returns the bits that the unit really gets: pixels always have 8.
  UnitBits held(const UnitWork& work, UnitBits bits) const {
    if (work.unit == image_) bits.activation = 8;
    return bits;
  }

  int64_t picoseconds(const UnitWork& work, const UnitBits& bits) const {
    const int planes = work.kind == NodeKind::kMix ? planes_ : 1;
    return costs_
               ? std::llround(static_cast<double>(planes * work.multiply_adds) * cost(work, bits))
               : 0;
  }

  double error(const UnitWork& work, const UnitBits& bits) const {
    const UnitErrors& e = errors_.at(work.unit);
    return at(e.weight, bits.weight - kMinBits) + at(e.activation, bits.activation - kMinBits);
  }

  Choice choice(const UnitWork& work, const UnitBits& bits) const {
    const bool weighs = work.kind == NodeKind::kLinear;
    return {bits, weighs ? weight_bytes(work.cols, work.depth, bits.weight) : 0,
            picoseconds(work, bits), error(work, bits)};
  }

  // Returns the bits that a unit may get (method.md section 18).
  std::vector<UnitBits> candidates(const UnitWork& work, const UnitBits& base) const {
    std::vector<UnitBits> all;
    for (int weight = kMinBits; weight <= kMaxBits; weight++) {
      if (work.kind != NodeKind::kLinear && weight != base.weight) continue;
      if (work.unit == image_ && weight < base.weight) continue;
      double least = INFINITY;
      for (int input = kMaxBits; input >= kMinBits; input--) {
        const UnitBits bits = held(work, {weight, input});
        const bool faster = costs_ && cost(work, bits) * kSameCost < least;
        if (costs_) least = std::min(least, cost(work, bits));
        const bool widest = costs_ && input == kMaxBits;
        if (input == base.activation || widest || (faster && bits.activation == input))
          all.push_back(bits);
      }
    }
    return all;
  }

  PlanFigures figures(const std::string& name, const BitPlan& plan) const {
    PlanFigures f{name};
    int64_t time = 0;
    double squares = 0;
    for (const UnitWork& work : works_) {
      const UnitBits bits = held(work, plan.at(work.unit));
      time += picoseconds(work, bits);
      squares += error(work, bits);
      if (work.kind == NodeKind::kLinear) f.bytes += pack_bytes(work.cols, work.depth, bits.weight);
    }
    f.milliseconds = static_cast<double>(time) * 1e-9;
    f.error = std::sqrt(squares);
    return f;
  }

 private:
  double cost(const UnitWork& work, const UnitBits& bits) const {
    if (work.kind == NodeKind::kScores) return costs_->of_scores(bits.activation);
    if (work.kind == NodeKind::kMix) return costs_->of_mix(bits.activation);
    return costs_->of_linear(bits);
  }

  std::vector<UnitWork> works_;
  const LogitsErrors& errors_;
  const CostTable* costs_;
  int planes_;         // of the softmax codes
  std::string image_;  // the unit that reads pixels
};

struct Totals {
  int64_t bytes = 0, time = 0;
  double cost = 0;

  void add(const Choice& c) {
    bytes += c.bytes;
    time += c.time;
    cost += c.cost;
  }
};

std::string name_of(const UnitBits& bits) {
  return cat("W", bits.weight, "/A", bits.activation);
}

PlanReport report_on(const Graph& graph, const Predictions& predictions, const CostTable* costs,
                     const UnitBits& base) {
  PlanReport report;
  report.output = graph.outputs.at(0).name;
  if (costs) {
    report.target = costs->target;
    report.provenance = costs->provenance;
    report.remarks = remarks_on(*costs);
  }
  std::vector<UnitBits> uniform;
  for (UnitBits bits : kUniform) {
    if (!costs) bits.activation = base.activation;
    if (std::find(uniform.begin(), uniform.end(), bits) == uniform.end()) uniform.push_back(bits);
  }
  if (std::find(uniform.begin(), uniform.end(), base) == uniform.end()) uniform.push_back(base);
  for (const UnitBits& bits : uniform)
    report.plans.push_back(predictions.figures(name_of(bits), uniform_plan(graph, bits)));
  return report;
}

// Adds the best plans within 95, 90 and 85 % of the time limit to the report, as far as there are
// any, to show what less time would cost.
void add_faster(const Predictions& predictions, const std::vector<std::vector<Choice>>& units,
                const BitPlan& base, Limits limits, PlanReport& report) {
  const auto most = static_cast<double>(limits.time);
  for (int percent : {95, 90, 85}) {
    limits.time = std::llround(most * percent / 100);
    BitPlan plan = base;
    try {
      const std::vector<size_t> chosen = choose_within(units, limits);
      for (size_t u = 0; u < units.size(); u++)
        plan[predictions.works()[u].unit] = units[u][chosen[u]].bits;
    } catch (const Error&) {
      return;  // no plan is as fast, so none is faster
    }
    report.plans.push_back(predictions.figures(cat(percent, " % time"), plan));
  }
}

}  // namespace

TargetPlan plan_within(const Graph& graph, const LogitsErrors& errors, const CostTable* costs,
                       const UnitBits& base, const PlanLimits& limits) {
  const Predictions predictions(graph, errors, costs, base);
  std::vector<std::vector<Choice>> units;
  Totals at_base;
  for (const UnitWork& work : predictions.works()) {
    units.emplace_back();
    for (const UnitBits& bits : predictions.candidates(work, base))
      units.back().push_back(predictions.choice(work, bits));
    at_base.add(predictions.choice(work, predictions.held(work, base)));
  }
  Limits most;
  most.bytes = limits.bytes.value_or(at_base.bytes);
  if (costs)
    most.time = limits.milliseconds ? std::llround(*limits.milliseconds * 1e9) : at_base.time;
  const std::vector<size_t> chosen = choose_within(units, most);
  Totals best;
  for (size_t u = 0; u < units.size(); u++) best.add(units[u][chosen[u]]);

  TargetPlan plan{uniform_plan(graph, base), report_on(graph, predictions, costs, base)};
  if (costs) add_faster(predictions, units, plan.bits, most, plan.report);
  const bool base_fits = at_base.bytes <= most.bytes && at_base.time <= most.time;
  const bool keep = base_fits && best.cost > (1 - kLeastGain) * at_base.cost;
  for (size_t u = 0; u < units.size() && !keep; u++)
    plan.bits[predictions.works()[u].unit] = units[u][chosen[u]].bits;
  const double gain = 100 * (1 - best.cost / at_base.cost);
  if (keep)
    plan.report.remarks.push_back(cat(
        "kept uniform ", name_of(base), ": the best plan within its limits is predicted to have ",
        fixed(gain, 1), " % less squared error, below ", fixed(100 * kLeastGain, 0), " %"));
  plan.report.plans.push_back(predictions.figures("as chosen", plan.bits));
  return plan;
}

std::string report_text(const PlanReport& report) {
  std::string text;
  if (!report.target.empty()) text += cat("target ", report.target, ": ", report.provenance, "\n");
  for (const std::string& remark : report.remarks) text += remark + "\n";
  char line[160];
  std::snprintf(line, sizeof line, "%-10s %14s %14s %14s\n", "plan", "weight bytes", "products, ms",
                cat(report.output, " error").c_str());
  text += cat("predicted:\n", line);
  for (const PlanFigures& f : report.plans) {
    std::snprintf(line, sizeof line, "%-10s %14jd %14s %14.4f\n", f.name.c_str(),
                  static_cast<intmax_t>(f.bytes),
                  f.milliseconds > 0 ? fixed(f.milliseconds, 2).c_str() : "", f.error);
    text += line;
  }
  return text;
}

std::string report_html(const PlanReport& report) {
  std::string html = "<h2>Plans, predicted</h2>";
  if (!report.target.empty())
    html += cat("<p>Target ", escape_html(report.target), ": ", escape_html(report.provenance),
                ".</p>");
  for (const std::string& remark : report.remarks) html += cat("<p>", escape_html(remark), ".</p>");
  html +=
      "<table><tr><th>plan</th><th>bytes of weights</th><th>matrix products, ms</th>"
      "<th>" +
      report.output + " error</th></tr>\n";
  for (const PlanFigures& f : report.plans)
    html += cat("<tr><td>", escape_html(f.name), "</td><td>", f.bytes, "</td><td>",
                f.milliseconds > 0 ? fixed(f.milliseconds, 2) : std::string(), "</td><td>",
                fixed(f.error, 4), "</td></tr>\n");
  return html + "</table>";
}

void put_report(const PlanReport& report, std::map<std::string, QbinValue>& recipe) {
  if (report.target.empty()) return;
  std::vector<std::string> names;
  std::vector<int64_t> bytes;
  std::vector<double> milliseconds, errors;
  for (const PlanFigures& f : report.plans) {
    names.push_back(f.name);
    bytes.push_back(f.bytes);
    milliseconds.push_back(f.milliseconds);
    errors.push_back(f.error);
  }
  recipe["target"] = report.target;
  recipe["target_costs"] = report.provenance;
  recipe["target_remarks"] = report.remarks;
  recipe["predicted_plan"] = names;
  recipe["predicted_weight_bytes"] = bytes;
  recipe["predicted_ms"] = milliseconds;
  recipe["predicted_" + report.output + "_error"] = errors;
}

}  // namespace vitrun
