// From a float model to a .qbin, the steps one call each, top to bottom.
#pragma once

#include "quant/allocate.h"
#include "quant/calibrate.h"
#include "quant/export.h"
#include "quant/reparam.h"
#include "quant/unit_table.h"

namespace vitrun {

// A limit on the file and what to spend it on: allocate.h, budget_plan().
struct Budget {
  int64_t bytes = 0;
  Importance importance;  // empty: each Linear by what its error alone does to the logits
  MixedOperands operands = MixedOperands::kWeights;
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
  bool compensate = false;  // weights by quant/compensate.h instead of to the nearest
  bool levels = false;      // activations by quant/levels.h instead of evenly spaced
  bool split = false;       // outlier channels by quant/split.h
  bool heads = false;       // ranges of q, k and v by head
  Rotate rotate = Rotate::kNone;
  int threads = 1;
  std::map<std::string, QbinValue> provenance =
      {};  // calibration images, seed: recorded in the file
};

struct Quantized {
  QbinWriter file;
  UnitTable units;
  std::optional<double> ranking;  // with a budget: Kendall's tau of importance and Lambda
};

// Quantizes every Linear and activation site of `model`, whose weights it consumes. Fails on widths
// out of range, on names in `bits` that are no unit of the model, and on budgets too small.
Quantized quantize_model(FloatModel model, const ImageSource& calibration,
                         const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
