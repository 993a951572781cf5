// Rewrites of a float model that leave its output unchanged and make it easier to quantize.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// Folds DeiT-III's LayerScale into proj and fc2: gamma * (W x + b) = (gamma W) x + gamma b.
void fold_layer_scale(FloatModel& model);

// Makes the patch embedding read pixels over 255, whose 256 values are codes, instead of normalised
// ones (method.md section 11, [ours]): W x = (W / std) (x std + mean) - W (mean / std).
void fold_normalization(FloatModel& model);

// Gives a Linear without bias one of zeros.
void ensure_bias(FloatModel& model, int linear);

// How a LayerNorm whose output feeds one Linear (qkv, fc1, Swin's reduction) is folded (method.md
// section 3).
enum class Method {
  kLayerwise,  // not at all: one scale for the tensor as it is
  kRepq,       // RepQ-ViT's fold
  kCrl,        // LRP-QViT's fold with clipped channel statistics
  kFqVit,      // FQ-ViT's powers of two (method.md section 19)
  kPtq4Vit,    // not at all; quant/rivals/hessian_ranges.h chooses the ranges
  kApqVit,     // as kPtq4Vit
};

// Converts between a method and its name: "layerwise", "repq", "crl", "fq-vit", "ptq4vit" or
// "apq-vit". Another name fails and lists these.
Method method_called(const std::string& name);
const char* method_name(Method method);

// gamma^ = gamma / r1, beta^ = (beta + s r2) / r1, W^ = W diag(r1), b^ = b - W (s r2) with
// r1 = s / s~, r2 = z - z~ (method.md section 3). W is [n, k], b [n], the others [k]. In float the
// Linear's output is unchanged, and the quantizer (s~, z~) gives each channel the codes that its
// own (s, z) would.
void fold_channels(const ChannelStatistics& statistics, Tensor& gamma, Tensor& beta, Tensor& weight,
                   Tensor& bias);

// The result of a fold: the quantizer of the folded output, and k where statistics were clipped.
struct NormFold {
  UniformRange range;
  double k = 0;
};

struct FoldOptions {
  Method method = Method::kRepq;
  double clip_k = 0;  // kCrl: k; 0 chooses it for each layer from {1, 1.5, 2, 2.5, 3, infinity}
  std::map<int, UnitBits> bits;  // by node of a Linear
  int threads = 1;
};

// Folds every LayerNorm that feeds one Linear, with the statistics of each channel over the images,
// and returns the folds by node of the LayerNorm. A Linear without a bias gets one. A LayerNorm
// before a padded Swin map stays as it is, because the padding is a zero token, which would not
// follow the fold.
std::map<int, NormFold> fold_norms(FloatModel& model, const ImageSource& images,
                                   const FoldOptions& options, const Progress& progress = {});

}  // namespace vitrun
