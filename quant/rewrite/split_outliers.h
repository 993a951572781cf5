// Outlier channels of an MLP parted into copies. [ours], after outlier channel splitting (Zhao et
// al. 1901.09504).
#pragma once

#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Some ViTs have a channel of fc2's input that reaches tens of times what all others do, on a few
// tokens (ViT-Ti: 216 against 8); one scale for all then leaves few codes to the others. Where c is
// the largest value of the others, such a channel GELU(h) becomes the sum of GELU(h - i c),
// i = 0, 1, .., each held to at most c: the quantizer, whose range ends there, does that by itself.
// fc1 gets a row, fc2 a column a copy. The sum differs from GELU(h) by at
// most 0.18 (c of 4 or more), where h is near a multiple of c. Extremes are taken from the images;
// returns the number of copies.
int split_outliers(FloatModel& model, const ImageSource& images, int threads);

}  // namespace vitrun
