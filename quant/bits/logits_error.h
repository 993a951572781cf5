// Predicts by first-order theory what rounding one unit does to the logits (method.md section 17,
// [ours]), from the gradient G of a randomly signed sum of the logits (quant/weights/gradients.h):
//
//   a weight rounded to W^    sum over rows n of <(W^ - W)_n, (G^T X)_n>^2
//   an input rounded to x^    sum over tokens i of <(G W)_i, x^_i - x_i>^2
//   q, k or v rounded to x^   sum over tokens i of <G_i, x^_i - x_i>^2
//
// These are a few dot products for each candidate, where running the model would take one pass for
// each. Rows and tokens are treated as independent, so the prediction does not see that compensated
// rows make up for each other; bench/results/accuracy.md says how far it holds.
#pragma once

#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// The squared change of the logits, relative to their sum of squares, when the unit's weight or its
// activation alone has b bits: vectors over b = kMinBits .. kMaxBits, 0 for what a unit has not.
struct UnitErrors {
  std::vector<double> weight, activation;
};
using LogitsErrors = std::map<std::string, UnitErrors>;  // by unit

struct PredictOptions {
  bool compensate = false;   // weights are rounded by compensate.h, which corrects biases
  bool activations = false;  // activations are predicted too, with evenly spaced codes
  Objective objective = Objective::kResidual;
  bool heads = false;  // each head of q, k and v has its own range
  // The grid of each Linear's weight, by its name. If there are any, the errors of weights are
  // those on these grids, in UnitErrors::weight[0], and the others are 0.
  std::map<std::string, WeightGrid> grids = {};
  int threads = 1;
};

// Codes and ranges are chosen on the first images, errors predicted on the last sixteen (the later
// half of fewer than 32), so on other images if there are at least three. Weights are rounded at 3,
// 4 and 5 bits, and each further bit is taken to leave a quarter of the squared error. Pixels and
// softmax codes are not predicted. Memory: those codes of all weights, and the activations of one
// image for each thread.
LogitsErrors predict_errors(const FloatModel& model, const ImageSource& images,
                            const PredictOptions& options, const Progress& progress);

}  // namespace vitrun
