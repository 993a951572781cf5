// Chooses ranges as PTQ4ViT (Yuan et al. 2111.12293) and APQ-ViT (Ding et al. 2303.14341) do, by
// the error that rounding makes further on, weighted by the gradient there (method.md section 19,
// which also lists where we depart from the papers). Both methods try shrunk ranges of an operand
// and keep the one with the least
//
//   sum over images and elements of (d logit / d O)^2 (O^ - O)^2,
//
// where O^ is the value O when that operand is rounded and the operand multiplied with it is as its
// own search left it. The two operands take turns. The methods differ in the value O:
//
//   ptq4vit  O is the output of the product that reads the operand. Codes after softmax and GELU
//            are twin codes: half of them for the small (softmax) or negative (GELU) values.
//   apq-vit  O is the end of the operand's block, where only the half of the elements with the
//            largest gradients counts (bottom elimination). Codes after softmax are evenly spaced.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/ranges/calibrate.h"
#include "quant/weights/weight_codes.h"
#include "runtime/files/model_file.h"

namespace vitrun {

enum class Guidance { kProduct, kBlock };  // ptq4vit, apq-vit

// The quantized operands of all matrix products of a model.
struct Operands {
  std::vector<SiteRange> sites;                // in the order of activation_sites()
  std::map<std::string, WeightCodes> weights;  // by the Linear's name
};

// `site_bits` is in the order of activation_sites(), `linear_bits` by node of the Linear. Extremes
// are those of all images, errors those of the first four. `model` is left as it was.
Operands search_guided(FloatModel& model, const ImageSource& images,
                       const std::vector<int>& site_bits,
                       const std::map<int, UnitBits>& linear_bits, Guidance guidance, int threads,
                       const Progress& progress = {});

// PTQ4ViT's codes for values after a GELU: 2^(bits-1) steps from `low` < 0 up to 0, and as many
// steps above 0, each 2^m times as wide. They are levels on the finest grid of 8-bit codes that
// holds them.
SiteRange twin_range(double low, int m, int bits);

}  // namespace vitrun
