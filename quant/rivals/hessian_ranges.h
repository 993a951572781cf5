// Ranges chosen by what rounding does further on, weighed by the gradient there: the searches of
// PTQ4ViT (Yuan et al. 2111.12293) and APQ-ViT (Ding et al. 2303.14341). Both try shrunk ranges of
// an operand and keep the one with the least
//
//   sum over images and elements of (d logit / d O)^2 (O^ - O)^2,
//
// where O^ is the value O when that operand is rounded, and the operand multiplied with it as it
// was left by its own search; the two take turns. They differ in where O is:
//
//   ptq4vit  the output of the product that reads the operand. Codes after softmax and GELU are
//            twin uniform: half of them for the small (softmax) or negative (GELU) values.
//   apq-vit  the end of the operand's block, where of O's elements only the half with the largest
//            gradients counts (bottom elimination). Codes after softmax are evenly spaced, which
//            keeps the order of large attentions (our reading of Matthew-effect preserving).
//
// [ours] Ranges are asymmetric and those of weights per row, as in every method here. The gradient
// is that of the predicted class's logit: the papers' loss, the divergence from the float model's
// output, has none at the float model. GELU's twin codes are run as levels (levels.h), whose
// negative half is, beyond five bits, only as fine as one 8-bit plane leaves it.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

enum class Guidance { kProduct, kBlock };  // ptq4vit, apq-vit

// What quantization comes down to.
struct Operands {
  std::vector<SiteRange> sites;                // in the order of activation_sites()
  std::map<std::string, WeightCodes> weights;  // by the Linear's name
};

// `site_bits` in the order of activation_sites(), `linear_bits` by kLinear node. Extremes come from
// all images, errors from the first four. Leaves `model` as it was.
Operands search_guided(FloatModel& model, const ImageSource& images,
                       const std::vector<int>& site_bits,
                       const std::map<int, UnitBits>& linear_bits, Guidance guidance, int threads,
                       const Progress& progress = {});

// PTQ4ViT's codes for values after a GELU: 2^(bits-1) steps from `low` < 0 up to 0, as many of 2^m
// times that step above 0; on the finest grid of 8-bit codes that holds them.
SiteRange twin_range(double low, int m, int bits);

}  // namespace vitrun
