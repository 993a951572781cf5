// From a float model to a .qbin, the steps one call each, top to bottom.
#pragma once

#include "quant/calibrate.h"
#include "quant/export.h"

namespace vitrun {

struct QuantizeOptions {
  int weight_bits = 8;      // 3..8
  int activation_bits = 8;  // 3..8; the patch embedding's input is always 8 (method.md section 2)
  Objective objective = Objective::kResidual;
  int threads = 1;
  std::map<std::string, QbinValue> provenance =
      {};  // calibration images, seed: recorded in the file
};

// Quantizes every Linear and activation site of `model`, whose weights it consumes.
QbinWriter quantize_model(FloatModel model, const ImageSource& calibration,
                          const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
