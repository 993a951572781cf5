// What rounding a unit will do to the logits, predicted by first-order theory [ours]: a change E of
// a Linear's output changes the logits' sum with random signs by <G, E>, whose square is in the
// mean the squared change of the logits (quant/weights/gradients.h). For a weight rounded to W^ it
// is <W^ - W, G^T X>, for an input rounded to x^ <G W, x^ - x>, for q, k and v <G, x^ - x>: a few
// dot products for each candidate, where running the model takes a pass for each.
//
// Rows of W^ rounded each for itself, and tokens, have parts of <G, E> that are independent and
// nearly without mean: the sum of their squares is taken for the square of their sum. On ViT-Ti it
// is 0.94 of it at 4 bits (inputs 0.85) and a third as uncertain (12 % of a Linear against 37 %
// with 16 images), without which choosing the least of many picks what is underestimated.
// Compensated rows make up for each other, which the sum does not see: for W4/A8 it says a logits
// error of 0.271, for the plan of --target vnni 0.259, where 0.252 and 0.241 are measured on other
// images. On other images the prediction is 0.57 to 1.31 of the change measured by running the
// float model with one weight rounded to 3 or 4 bits, but for the patch embedding (0.16 and 0.25),
// and mostly 0.6 to 1.3 (0.16 to 1.7) with one input rounded to 4 to 8.
#pragma once

#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Squared change of the logits, relative to their squares, with a unit alone at kMinBits ..
// kMaxBits; 0 for what a unit does not have.
struct UnitErrors {
  std::vector<double> weight, activation;
};
using LogitsErrors = std::map<std::string, UnitErrors>;  // by unit

struct PredictOptions {
  bool compensate = false;   // weights rounded by quant/weights/compensate.h, its biases corrected
  bool activations = false;  // predict those too; of evenly spaced codes
  Objective objective = Objective::kResidual;
  bool heads = false;  // ranges of q, k and v by head
  int threads = 1;
};

// Weights and ranges are those of the first images, errors those of the last sixteen or, of fewer
// than 32, the later half: other images than were rounded for, if there are three. Weights are
// rounded at 3, 4 and 5 bits; each further bit is taken to leave a quarter. The patch embedding's
// input, pixels, and softmax codes are not predicted. Memory: those codes of all weights, and a
// forward pass of one image a thread.
LogitsErrors predict_errors(const FloatModel& model, const ImageSource& images,
                            const PredictOptions& options, const Progress& progress);

}  // namespace vitrun
