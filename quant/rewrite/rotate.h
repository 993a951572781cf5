// Rotations that leave a float model's output as it is and spread what stands out in a few channels
// over all of them (method.md section 6; [ours] after SliceGPT 2401.15024 and QuaRot 2404.00456).
// All is folded into weights: the model keeps its graph, an engine does not know. Drawn at random,
// the same every time.
#pragma once

#include "runtime/files/model_file.h"

namespace vitrun {

// ViT and DeiT, LayerScale folded away; Swin is left as it is, whose padding is a zero behind a
// LayerNorm. Every LayerNorm's gamma and beta go into the Linears that read it, and the residual
// stream x becomes Q x with Q orthogonal and Q 1 = 1: the mean and variance that LayerNorm takes of
// a token do not change, so that LayerNorm(Q x) = Q LayerNorm(x).
bool rotate_residual(FloatModel& model);

// q and k of every head become R q and R k, whose product is the same.
void rotate_scores(FloatModel& model);

}  // namespace vitrun
