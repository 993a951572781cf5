// Rotates activations so that values which stand out in a few channels are spread over all of them
// (method.md section 13, [ours] after SliceGPT and QuaRot). A float model's output does not change.
// The rotations are folded into the weights, so engines do not know of them. They are random, drawn
// from fixed seeds.
#pragma once

#include "runtime/files/model_file.h"

namespace vitrun {

// Turns the residual stream x into Q x, where Q is orthogonal and Q 1 = 1. A token's mean and
// variance do not change, hence LayerNorm(Q x) = Q LayerNorm(x) once every LayerNorm's gamma and
// beta have moved into the Linears that read it. Returns false and changes nothing where the model
// has no single residual stream, as Swin. LayerScale must have been folded.
bool rotate_residual(FloatModel& model);

// Turns q and k of every head into R q and R k, whose product is the same.
void rotate_scores(FloatModel& model);

}  // namespace vitrun
