// What happens at a Linear's output, seen from the logits: one reverse walk an image (lrp/).
//
// A small change E of the output [rows, N] moves the sum of the logits, each with a random sign, by
// sum_ij G_ij E_ij, G being that sum's gradient; the mean of its square over signs is the squared
// change of the logits (Hutchinson's estimate). [ours], after GuidedQuant (2505.07004).
#pragma once

#include <map>
#include <vector>

#include "runtime/model_file.h"

namespace vitrun {

// |G_i| of every token i at the output of each Linear, [images * tokens], by its node.
std::map<int, std::vector<float>> token_gradients(const FloatModel& model, const Tensor& images,
                                                  int threads);

}  // namespace vitrun
