// Computes layer-wise relevance and gradients of a float model, with one forward pass and one
// reverse walk for each image (method.md section 4).
#pragma once

#include <memory>

#include "lrp/walk/reverse_walk.h"
#include "runtime/float/reference.h"
#include "runtime/threads.h"

namespace vitrun {

// The scores of one image. Vectors over units are in the order of scored_units().
struct ImageRelevance {
  int target = 0;             // the class that is explained; -1: the embedding
  std::vector<double> score;  // as WalkResult has them
  std::vector<double> gradient_input;
  // The largest |sum R + absorbed - 1| over all residual adds and the embedding.
  double conservation_error = 0;
  // The heat map of method.md section 4 over the patches [height * width], not normalised; empty if
  // not asked for.
  std::vector<float> heatmap;
};

// Threads share the images, and each walks one image at a time. Memory is the activations of one
// forward pass for each thread.
class RelevanceEngine {
 public:
  // Graph, weights and epsilon are as those of ReverseWalk, which ends at the embedding.
  RelevanceEngine(const Graph& graph, const Weights& weights, int threads, float epsilon = 0);

  // Explains images [batch, 3, H, W], preprocessed. targets [batch] are the classes to explain, -1
  // for the predicted one. Fails on a class that the model does not have.
  std::vector<ImageRelevance> run(const Tensor& images, const std::vector<int>& targets,
                                  bool heatmap = false);

  const Graph& graph() const { return walk_.graph(); }
  const Shapes& shapes() const { return shapes_; }
  int logits() const { return logits_; }  // the node the walk starts from
  // The grid of patches; a heat map has one element for each.
  MapSize patches() const;
  // Whether a heat map multiplies the attentions of all blocks, as the class token's row has them;
  // else it is the relevance of the patches' embeddings.
  bool rolls_out() const { return rolls_out_; }
  int embedding() const { return walk_.end(); }  // the node the walk ends with

  // Explains one image [1, 3, H, W] and shows every flow to `observe`. Gradients are those of the
  // target's logit.
  Flow start_of(const std::vector<float>& output, int target) const;
  ImageRelevance explain(Reference& forward, const Tensor& image, int target, bool heatmap,
                         const FlowObserver& observe = {}) const;

  // Walks with gradients alone, of the sum of <start[node], value of node> for each of `starts`.
  // `values` are those of one image, as Reference::run_keeping() returns them from embedding() to
  // the last start or beyond. `observe` is shown a node's flows in the order of `starts`.
  void gradients(const std::vector<Tensor>& values, std::span<const std::map<int, Values>> starts,
                 const FlowObserver& observe) const;

 private:
  std::vector<float> heatmap_of(const Flow& flow, const std::vector<float>& row) const;

  Shapes shapes_;
  ReverseWalk walk_;
  int logits_;             // the node the walk starts from
  int prefix_tokens_ = 0;  // rows of the embedding before those of the patches
  bool rolls_out_ = false;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Reference>> forward_;  // by thread
};

}  // namespace vitrun
