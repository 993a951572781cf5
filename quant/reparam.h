// Rewrites of a float model that leave its output unchanged and make it easier to quantize.
#pragma once

#include "runtime/model_file.h"

namespace vitrun {

// DeiT-III: gamma * (W x + b) = (gamma W) x + gamma b, so LayerScale disappears into proj and fc2.
void fold_layer_scale(FloatModel& model);

}  // namespace vitrun
