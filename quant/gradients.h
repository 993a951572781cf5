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

#include "lrp/relevance.h"
#include "runtime/model_file.h"

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

// |G_i| of every token i at the output of each Linear, [images * tokens], by its node.
std::map<int, std::vector<float>> token_gradients(const FloatModel& model, const Tensor& images,
                                                  int threads);

}  // namespace vitrun
