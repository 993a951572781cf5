// A quantized model into a .qbin; the layout is in runtime/integer/qmodel.h, which reads it.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// Weights by the name of their kLinear node; ranges as calibrate() returns them. Float parameters
// and biases come from `model`, whose LayerScale has been folded. `recipe` becomes the metadata
// "recipe.*".
QbinWriter export_model(const FloatModel& model, const std::map<std::string, WeightCodes>& weights,
                        const std::vector<SiteRange>& ranges,
                        const std::map<std::string, QbinValue>& recipe);

}  // namespace vitrun
