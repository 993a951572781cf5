// A quantized model into a .qbin; the layout is in runtime/qmodel.h, which reads it.
#pragma once

#include "quant/calibrate.h"
#include "quant/quantize.h"
#include "runtime/model_file.h"
#include "runtime/qbin.h"

namespace vitrun {

// Weights by the name of their kLinear node; ranges as calibrate() returns them. Float parameters
// and biases come from `model`, whose LayerScale has been folded. `recipe` becomes the metadata
// "recipe.*".
QbinWriter export_model(const FloatModel& model, const std::map<std::string, WeightCodes>& weights,
                        const std::vector<SiteRange>& ranges,
                        const std::map<std::string, QbinValue>& recipe);

}  // namespace vitrun
