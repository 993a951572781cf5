// From a float model to a .qbin, the steps one call each, top to bottom.
#pragma once

#include "quant/bit_plan.h"
#include "quant/calibrate.h"
#include "quant/export.h"
#include "quant/reparam.h"

namespace vitrun {

struct QuantizeOptions {
  Method method = Method::kRepq;
  double clip_k = 0;        // kCrl: k for every layer; 0: chosen for each by its output error
  int weight_bits = 8;      // 3..8, of units that `bits` does not name
  int activation_bits = 8;  // 3..8; the patch embedding's input is always 8 (method.md section 2)
  BitPlan bits = {};
  Objective objective = Objective::kResidual;
  int threads = 1;
  std::map<std::string, QbinValue> provenance =
      {};  // calibration images, seed: recorded in the file
};

// Quantizes every Linear and activation site of `model`, whose weights it consumes. Fails on widths
// out of range and on names in `bits` that are no unit of the model.
QbinWriter quantize_model(FloatModel model, const ImageSource& calibration,
                          const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
