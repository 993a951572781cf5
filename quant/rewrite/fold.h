// Rewrites of a float model that leave its output unchanged and make it easier to quantize.
#pragma once

#include "quant/bits/bit_plan.h"
#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// DeiT-III: gamma * (W x + b) = (gamma W) x + gamma b, so LayerScale disappears into proj and fc2.
void fold_layer_scale(FloatModel& model);

// W x = (W / std) (x std + mean) - W (mean / std): the patch embedding reads pixels over 255, whose
// 256 values are codes as they are, where normalised ones fall between codes (of mean 1/2 exactly
// so: two neighbours of 256 get one code).
void fold_normalization(FloatModel& model);

// Gives a Linear without bias one of zeros.
void ensure_bias(FloatModel& model, int linear);

// What becomes of a LayerNorm whose output feeds one Linear (qkv, fc1, Swin's reduction).
enum class Method {
  kLayerwise,  // nothing: one scale for the tensor as it is
  kRepq,       // RepQ-ViT (2212.08254): the mean fold of method.md section 3
  kCrl,        // LRP-QViT (2401.11243): the fold with clipped channel statistics
  // FQ-ViT (2111.13824): one scale times a power of two per channel, and log2 codes after softmax.
  // The powers are folded into the next weight, where the paper shifts codes at run time, and
  // LayerNorm and softmax stay float, where the paper computes them in integers. [ours]
  kFqVit,
  kPtq4Vit,  // nothing; ranges as quant/rivals/hessian_ranges.h says
  kApqVit,   // the same
};

// "layerwise", "repq", "crl", "fq-vit", "ptq4vit", "apq-vit"; another name fails and lists them.
Method method_called(const std::string& name);
const char* method_name(Method method);

// gamma^ = gamma / r1, beta^ = (beta + s r2) / r1, W^ = W diag(r1), b^ = b - W (s r2) with
// r1 = s / s~, r2 = z - z~: in float the Linear's output is unchanged, and the quantizer (s~, z~)
// gives each channel the codes that its own (s, z) would. W is [n, k], b [n], the others [k].
void fold_channels(const ChannelStatistics& statistics, Tensor& gamma, Tensor& beta, Tensor& weight,
                   Tensor& bias);

// How a LayerNorm was folded: its output's quantizer and, where statistics were clipped, at what k.
struct NormFold {
  UniformRange range;
  double k = 0;
};

struct FoldOptions {
  Method method = Method::kRepq;
  double clip_k = 0;             // kCrl: 0 chooses from {1, 1.5, 2, 2.5, 3, infinity} per layer
  std::map<int, UnitBits> bits;  // by kLinear node
  int threads = 1;
};

// Folds every LayerNorm that feeds one Linear, by percentile search per channel on the images; the
// result by LayerNorm node. A Linear without a bias gets one. Left as they are: LayerNorms before a
// padded Swin map, whose padding is a zero token, not a LayerNorm's output.
std::map<int, NormFold> fold_norms(FloatModel& model, const ImageSource& images,
                                   const FoldOptions& options, const Progress& progress = {});

}  // namespace vitrun
