// Error-compensated weights (method.md section 6; [ours] after OBQ 2208.11580 and GPTQ 2210.17323):
// no gradient step, dense linear algebra on the calibration images alone.
#pragma once

#include "quant/bit_plan.h"
#include "quant/calibrate.h"
#include "quant/quantize.h"
#include "runtime/model_file.h"

namespace vitrun {

// Quantizes the weight of every Linear, in node order, and corrects its bias in `model`; the codes
// by the Linear's name. With X^ the input of the Linear as the quantized model so far has it, each
// row w of the weight gets codes w^ that make (w^ - w) H (w^ - w)^T small, H = X^^T X^ + damping
// about the means, tokens weighed by what the Linear's output there does to the logits: columns are
// rounded one by one, those of the largest inputs first, and each error is made up for by the
// columns not yet rounded. Then codes move by coordinate descent and the row's scale is fitted to
// them. The damping is chosen for each Linear by the error on the last quarter of the images.
// `ranges` as calibrate() returns them; every Linear of `model` gets a bias. All images are in
// memory at once.
std::map<std::string, WeightCodes> compensate_weights(FloatModel& model,
                                                      const std::vector<SiteRange>& ranges,
                                                      const std::map<int, UnitBits>& bits,
                                                      const ImageSource& images, int threads,
                                                      const Progress& progress = {});

// The same for one Linear as it stands: codes for its weight [n, k], compensated on its inputs
// [images, rows, k], whose tokens have token_gradients() `tokens` [images * rows].
WeightCodes compensate_weight(const Tensor& inputs, const std::vector<float>& tokens,
                              const Tensor& weight, int bits, int threads);

// The weighted mean [k] of those inputs, whose error the bias makes up for.
std::vector<float> compensated_mean(const Tensor& inputs, const std::vector<float>& tokens);

// The rounding alone: codes for `weight` [n, k] such that (w^ - w) H (w^ - w)^T is small for
// every row, H = factor factor^T [k, k], factor lower triangular in the order `columns`, whose last
// column is rounded first. Public for tests.
WeightCodes round_with_feedback(const Tensor& weight, const std::vector<float>& factor,
                                const std::vector<int>& columns, int bits);

}  // namespace vitrun
