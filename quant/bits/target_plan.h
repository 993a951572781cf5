// The bits of every unit that are predicted to change the logits least within a size and, on a
// target, a time.
#pragma once

#include <optional>

#include "quant/bits/allocate.h"
#include "quant/bits/cost_table.h"
#include "quant/bits/logits_error.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// One plan, predicted.
struct PlanFigures {
  std::string name;         // "W4/A8", "as chosen"
  int64_t bytes = 0;        // of packed weights
  double milliseconds = 0;  // of matrix products, an image on one thread; 0 without a target
  double error = 0;         // of the logits, relative, root mean square (viteval's logits error)
};

// What was chosen and why, for people and for the file.
struct PlanReport {
  std::string target, provenance;    // empty without a target
  std::vector<std::string> remarks;  // sentences
  std::vector<PlanFigures> plans;    // uniform ones, the best in less time, last what was chosen
};

std::string report_text(const PlanReport& report);
std::string report_html(const PlanReport& report);
// "target", "target_costs" and "predicted_*" of the plans. Nothing without a target.
void put_report(const PlanReport& report, std::map<std::string, QbinValue>& recipe);

struct PlanLimits {
  std::optional<int64_t> bytes = {};  // of weights, as weight_bytes() counts; none: those of `base`
  std::optional<double> milliseconds = {};  // of matrix products; none: those of `base`
};

struct TargetPlan {
  BitPlan bits;
  PlanReport report;
};

// Every Linear gets 3 to 8 bits for its weight and as many for its input as `base` has, 8, or fewer
// where those are faster on the target; Q K^T and attn V likewise; softmax codes stay at the base.
// The patch embedding's weight is not lowered: its error goes through the whole network and does
// four to six times what is predicted, where that of every other Linear of ViT-Ti is within 0.57
// to 1.31. Without `costs` time does not count and inputs stay at the base. Where `base` everywhere
// is within the limits it is left only for a plan of 5 % less squared error: small predicted gains
// do not come true. Fails where nothing fits.
TargetPlan plan_within(const Graph& graph, const LogitsErrors& errors, const CostTable* costs,
                       const UnitBits& base, const PlanLimits& limits);

}  // namespace vitrun
