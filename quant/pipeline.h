// Quantizes a float model to a .qbin. quantize_model() calls one function for each step, in order.
#pragma once

#include "quant/bits/allocate.h"
#include "quant/bits/coded_size.h"
#include "quant/bits/target_plan.h"
#include "quant/export.h"
#include "quant/ranges/calibrate.h"
#include "quant/report/unit_table.h"
#include "quant/rewrite/fold.h"

namespace vitrun {

// Limits within which bits are chosen. With an importance budget_plan() of allocate.h chooses them,
// without one plan_within() of target_plan.h. With `costs` time is limited too, and inputs of
// Linears have evenly spaced codes, since levels save no time.
struct Budget {
  std::optional<int64_t> bytes;  // size of the file; none: as at the base bits
  Importance importance = {};
  MixedOperands operands = MixedOperands::kWeights;  // counts only with an importance
  std::optional<CostTable> costs = {};
  std::optional<double> milliseconds = {};  // matrix products on the target; none: as at the base
};

// The activations that are rotated (rotate.h): none; q and k of each head; these and the residual
// stream.
enum class Rotate { kNone, kScores, kAll };

constexpr int kRowGroup = 32;

struct QuantizeOptions {
  Method method = Method::kRepq;
  double clip_k = 0;        // kCrl: k for every layer; 0: k is chosen for each by its output error
  int weight_bits = 8;      // 3..8, for units that `bits` does not name
  int activation_bits = 8;  // 3..8; the patch embedding's input is always 8 (method.md section 2)
  BitPlan bits = {};
  std::optional<Budget> budget = {};  // decides the bits instead of `bits`
  // The file has at most so many bytes and its weights are entropy-coded; weight bits are the most
  // of a code.
  std::optional<CodedSize> coded = {};
  Objective objective = Objective::kResidual;
  bool compensate = false;  // round weights by quant/weights/compensate.h, not to the nearest
  bool levels = false;      // give activations the codes of quant/ranges/code_levels.h
  bool split = false;       // split outlier channels by quant/rewrite/split_outliers.h
  bool heads = false;       // give each head of q, k and v its own range
  // Inputs of Linears have the range of each row as it comes, and below 8 bits groups of at most so
  // many columns (RowQuantizer in kernels.h); 0: one range for all rows, of the calibration images.
  int row_group = 0;  // the default recipe's: kRowGroup
  Rotate rotate = Rotate::kNone;
  // The outputs whose errors count, each relative to its size; none: the logits, or the embedding.
  std::vector<std::string> outputs = {};
  // Images without labels that tune.h tunes with; none: it is left out.
  ImageSource tuning = {};
  int threads = 1;
  // The file's record of its origin: calibration images, seed, weights.
  std::map<std::string, QbinValue> provenance = {};
};

struct Quantized {
  QbinWriter file;
  UnitTable units;
  std::optional<double> ranking;    // Kendall's tau of importance and Lambda, if a budget used both
  std::optional<PlanReport> plans;  // the plans predicted for a budget without importances
};

// Quantizes every Linear and activation site of `model`, whose weights it consumes. Fails on widths
// out of range, on names in `bits` that are no unit of the model, and on budgets and sizes too
// small.
Quantized quantize_model(FloatModel model, const ImageSource& calibration,
                         const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
