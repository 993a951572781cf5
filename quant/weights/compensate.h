// Error-compensated weights (method.md section 6; [ours], rounding.h says after whom): no gradient
// step, dense linear algebra on the calibration images alone.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/ranges/calibrate.h"
#include "quant/weights/gradients.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Quantizes the weight of every Linear, in node order, and corrects its bias in `model`; the codes
// by the Linear's name. With X^ the input of the Linear as the quantized model so far has it and G
// its output's gradients (quant/weights/gradients.h), codes are those of rounding.h with H = X^^T
// X^ about the means, tokens weighed by |G|, and C = G^T G: rounded with feedback, then by
// coordinate descent. Both dampings are chosen for each Linear by the error on the last quarter of
// the images. `ranges` as calibrate() returns them; every Linear of `model` gets a bias. All images
// are in memory at once.
std::map<std::string, WeightCodes> compensate_weights(FloatModel& model,
                                                      const std::vector<SiteRange>& ranges,
                                                      const std::map<int, UnitBits>& bits,
                                                      const ImageSource& images, int threads,
                                                      const Progress& progress = {});

// The same for one Linear as it stands: codes of each of the widths for its weight [n, k],
// compensated on its inputs [images, rows, k]; the dampings are those of the middle one.
std::vector<WeightCodes> compensate_weight(const Tensor& inputs, const OutputGradients& gradients,
                                           const Tensor& weight, const std::vector<int>& bits,
                                           int threads);

// The weighted mean [k] of those inputs, whose error the bias makes up for.
std::vector<float> compensated_mean(const Tensor& inputs, const OutputGradients& gradients);

}  // namespace vitrun
