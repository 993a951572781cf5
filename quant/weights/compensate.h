// Rounds all weights of a model with error compensation (method.md sections 15 and 16, [ours]). It
// takes no gradient step, only dense linear algebra on the calibration images.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/bits/step_plan.h"
#include "quant/ranges/calibrate.h"
#include "quant/weights/gradients.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Quantizes the weight of every Linear in node order, corrects its bias in `model` and returns the
// codes by the Linear's name. The input of each Linear is that of the model as quantized so far.
// `ranges` is in the order of activation_sites(), `bits` by node. Every Linear of `model` gets a
// bias. Errors count as they change the `outputs` named (gradients.h). All images are in memory at
// once. Linears that `steps` has are rounded with its steps, and the bits are the most of a code.
std::map<std::string, WeightCodes> compensate_weights(
    FloatModel& model, const std::vector<SiteRange>& ranges, const std::map<int, UnitBits>& bits,
    const ImageSource& images, int threads, const std::vector<std::string>& outputs = {},
    StepPlan* steps = nullptr, const Progress& progress = {});

// Rounds the weight [N, K] of the node named `linear` on each of the grids, compensated on inputs
// [images, tokens, K]. The dampings are chosen for the middle grid.
std::vector<WeightCodes> compensate_weight(const std::string& linear, const Tensor& inputs,
                                           const OutputGradients& gradients, const Tensor& weight,
                                           const std::vector<WeightGrid>& grids, int threads);

// Returns the weighted mean [K] of these inputs, whose error the bias makes up for.
std::vector<float> compensated_mean(const Tensor& inputs, const OutputGradients& gradients);

}  // namespace vitrun
