// Tunes what quantization left in float by gradients (method.md section 23, [ours]): biases, the
// scales of weights' rows, and the factors of norms. Codes stay, and no label is read.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

struct TuneOptions {
  int steps = 100;
  int images = 16;     // of a step
  double rate = 1e-3;  // the size of the largest steps, relative to a parameter's
};

// Makes the quantized model's values more like those of `reference`, at its outputs, or those
// named, and at its norms. `model` is the reference with the biases that belong to the codes
// `weights`; its biases and norms change, and the scales of `weights`. `ranges` is in the order of
// activation_sites(). The result is the same for any number of threads. Memory: three models in
// float, and for each thread the values of one image.
void tune(FloatModel& model, std::map<std::string, WeightCodes>& weights,
          const std::vector<SiteRange>& ranges, const FloatModel& reference,
          const ImageSource& images, int threads, const std::vector<std::string>& outputs = {},
          const TuneOptions& options = {}, const Progress& progress = {});

}  // namespace vitrun
