// From a float model to a .qbin, the steps one call each, top to bottom.
#pragma once

#include "quant/bits/allocate.h"
#include "quant/bits/target_plan.h"
#include "quant/export.h"
#include "quant/ranges/calibrate.h"
#include "quant/report/unit_table.h"
#include "quant/rewrite/fold.h"

namespace vitrun {

// Limits and what to spend them on. With an importance: allocate.h, budget_plan(). Without: every
// unit by what its error is predicted to do to the logits, target_plan.h, plan_within(); with
// `costs` in time as well, and inputs of Linears have evenly spaced codes, since codes of fewer
// than 8 bits save time only so.
struct Budget {
  std::optional<int64_t> bytes;  // of the file; none: as at the base bits
  Importance importance = {};
  MixedOperands operands = MixedOperands::kWeights;  // with an importance
  std::optional<CostTable> costs = {};
  std::optional<double> milliseconds = {};  // of matrix products there; none: as at the base bits
};

// What is rotated first (rotate.h): nothing, q and k of each head, those and the residual stream.
enum class Rotate { kNone, kScores, kAll };

struct QuantizeOptions {
  Method method = Method::kRepq;
  double clip_k = 0;        // kCrl: k for every layer; 0: chosen for each by its output error
  int weight_bits = 8;      // 3..8, of units that `bits` does not name
  int activation_bits = 8;  // 3..8; the patch embedding's input is always 8 (method.md section 2)
  BitPlan bits = {};
  std::optional<Budget> budget = {};  // instead of `bits`
  Objective objective = Objective::kResidual;
  bool compensate = false;  // weights by quant/weights/compensate.h instead of to the nearest
  bool levels = false;      // activations by quant/ranges/code_levels.h instead of evenly spaced
  bool split = false;       // outlier channels by quant/rewrite/split_outliers.h
  bool heads = false;       // ranges of q, k and v by head
  Rotate rotate = Rotate::kNone;
  int threads = 1;
  std::map<std::string, QbinValue> provenance =
      {};  // calibration images, seed: recorded in the file
};

struct Quantized {
  QbinWriter file;
  UnitTable units;
  std::optional<double> ranking;    // with importances: Kendall's tau of those and Lambda
  std::optional<PlanReport> plans;  // with a budget without importances
};

// Quantizes every Linear and activation site of `model`, whose weights it consumes. Fails on widths
// out of range, on names in `bits` that are no unit of the model, and on budgets too small.
Quantized quantize_model(FloatModel model, const ImageSource& calibration,
                         const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
