// Chooses the bits of every unit that are predicted to change the logits least within a size and,
// on a target machine, a time (method.md section 18, [ours]).
#pragma once

#include <optional>

#include "quant/bits/allocate.h"
#include "quant/bits/cost_table.h"
#include "quant/bits/logits_error.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// The predicted size, time and error of one plan.
struct PlanFigures {
  std::string name;         // "W4/A8", "as chosen"
  int64_t bytes = 0;        // packed weights
  double milliseconds = 0;  // matrix products of one image on one thread; 0 without a target
  double error = 0;  // of the first output, as viteval measures it (relative, root mean square)
};

// The plan that was chosen beside those it was compared with, for people and for the file.
struct PlanReport {
  std::string output;                // the output whose error is predicted, "logits" or "embedding"
  std::string target, provenance;    // empty without a target
  std::vector<std::string> remarks;  // sentences
  std::vector<PlanFigures> plans;    // uniform plans, then the best in less time, last the chosen
};

std::string report_text(const PlanReport& report);
std::string report_html(const PlanReport& report);
// Sets "target", "target_costs" and, for the plans, "predicted_*", if there is a target.
void put_report(const PlanReport& report, std::map<std::string, QbinValue>& recipe);

struct PlanLimits {
  // A limit that is not given is what `base` takes.
  std::optional<int64_t> bytes = {};        // weights, as weight_bytes() counts them
  std::optional<double> milliseconds = {};  // matrix products
};

struct TargetPlan {
  BitPlan bits;
  PlanReport report;
};

// Every Linear gets 3 to 8 bits for its weight. Its input, and the operands of Q K^T and of attn V,
// get the bits of `base`, 8, or fewer where that is faster on the target; softmax codes stay at the
// base. The patch embedding's weight is not lowered, because its error goes through the whole
// network and does several times what is predicted. Without `costs` time does not count and inputs
// stay at the base. Where `base` fits into the limits, it is left only for a plan of at least 5 %
// less squared error, since small predicted gains do not come true. Fails where nothing fits.
TargetPlan plan_within(const Graph& graph, const LogitsErrors& errors, const CostTable* costs,
                       const UnitBits& base, const PlanLimits& limits);

}  // namespace vitrun
