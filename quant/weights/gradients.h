// What happens at a Linear's output, seen from the logits: one reverse walk an image (lrp/).
//
// A small change E of the output [rows, N] moves the sum of the logits, each with a random sign, by
// sum_ij G_ij E_ij, G being that sum's gradient; the mean of its square over signs is the squared
// change of the logits (Hutchinson's estimate). [ours], after GuidedQuant (2505.07004).
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "lrp/walk/relevance.h"
#include "runtime/files/model_file.h"

namespace vitrun {

class GradientWalk {
 public:
  // Called with G [rows, N] of each Linear, by its node, the last Linear first; without the row
  // that a Swin map's padding adds.
  using Visitor = std::function<void(int linear, std::span<const float> gradient)>;

  // `model` must outlive it.
  explicit GradientWalk(const FloatModel& model) : engine_(model.graph, model.weights, 1) {}

  // One image [1, 3, H, W] with the signs of that seed. May be called from many threads, each with
  // its own Reference of the same model.
  void visit(Reference& forward, const Tensor& image, int64_t seed, const Visitor& see) const;

 private:
  RelevanceEngine engine_;
};

// Draws of signs an image; with 24 the logits error of W4/A8 falls by another 1.5 % (ViT-Ti).
constexpr int64_t kGradientSigns = 8;

// What the gradients at one Linear's output say of its rounding, over all draws.
struct OutputGradients {
  std::vector<float> norms;  // of every token i, the root mean square of |G_i|, [images * tokens]
  // Sums of G^T G [N, N], symmetric: of the first images, and of the last quarter, if there is one.
  std::vector<float> fitted, unseen;
};

// By Linear node. The same for any number of threads: walk i, of image i % count with the signs of
// seed i, is added as the i-th. Memory: both N^2 floats of every Linear.
std::map<int, OutputGradients> output_gradients(const FloatModel& model, const Tensor& images,
                                                int threads);

}  // namespace vitrun
