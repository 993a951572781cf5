// Scores of logits, with the kernels' exp, so that they are the same bits on every machine.
#pragma once

#include <span>

namespace vitrun {

// 1 / (1 + exp(-x)) of each, in place. NaN stays NaN.
void sigmoid(std::span<float> x);

// exp(x_i) / sum_j exp(x_j), in place; all NaN if an element is NaN or +infinity.
void softmax(std::span<float> x);

}  // namespace vitrun
