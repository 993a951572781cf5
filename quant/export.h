// Turns a quantized model into a .qbin. runtime/integer/qmodel.h describes the layout and reads it.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"
#include "runtime/files/qbin.h"

namespace vitrun {

// `weights` has the codes by the Linear's name, `ranges` is in the order of activation_sites().
// Other parameters and biases come from `model`, whose LayerScale has been folded. `recipe` becomes
// the metadata "recipe.*".
QbinWriter export_model(const FloatModel& model, const std::map<std::string, WeightCodes>& weights,
                        const std::vector<SiteRange>& ranges,
                        const std::map<std::string, QbinValue>& recipe);

}  // namespace vitrun
