// Splits outlier channels of an MLP into copies (method.md section 12, [ours] after outlier channel
// splitting, Zhao et al. 1901.09504).
#pragma once

#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Some channels of fc2's input reach many times what all others do, on a few tokens, and one scale
// for all then leaves few codes to the others. With c the largest value of the others,
//
//   GELU(h) ~ sum over i = 0 .. m of min(GELU(h - i c), c),
//
// where fc1 gets a row and fc2 a column for each copy i > 0. The quantizer's range ends at c, so it
// takes the minimum by itself. The largest values are those over `images`. Returns the number of
// copies.
int split_outliers(FloatModel& model, const ImageSource& images, int threads);

}  // namespace vitrun
