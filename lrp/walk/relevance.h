// Layer-wise relevance of a float model: one forward pass and one reverse walk an image (method.md
// section 4).
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "runtime/float/reference.h"
#include "runtime/threads.h"

namespace vitrun {

// The units that are scored, in node order: those of the blocks, and Swin's reductions.
std::vector<std::string> scored_units(const Graph& graph);

// The answer for one image. Vectors over units are in the order of scored_units().
struct ImageRelevance {
  int target = 0;             // the class explained
  std::vector<double> score;  // mean over the unit's output of (gradient * relevance)+
  std::vector<double>
      gradient_input;             // mean of |gradient * value| there: a scorer without relevance
  double conservation_error = 0;  // largest |sum R - 1| over the cuts behind residual adds
  // Relevance of the patches [map_height * map_width], if asked for, not normalised: for ViT the
  // class token's row of the product over blocks of E_h[(gradient attn * R attn)+] + I, for a model
  // without prefix tokens the relevance at the embedding summed over channels.
  std::vector<float> heatmap;
};

// Called for every node of the walk with what arrived at its output.
using FlowObserver = std::function<void(int node, const Flow& flow)>;

// Images are shared among threads, each of which walks one at a time; memory is one forward pass's
// activations a thread.
class RelevanceEngine {
 public:
  // Both must outlive the engine. The copy of |W| takes as much memory as the Linears' weights.
  RelevanceEngine(const Graph& graph, const Weights& weights, int threads);

  // images [batch, 3, H, W], preprocessed; targets: the class to explain for each, -1 for the
  // predicted one. Fails on a class the model does not have.
  std::vector<ImageRelevance> run(const Tensor& images, const std::vector<int>& targets,
                                  bool heatmap = false);

  const Graph& graph() const { return graph_; }
  const Shapes& shapes() const { return shapes_; }
  int logits() const { return logits_; }  // the node the walk starts from
  // The grid of patches that a heat map has its elements of.
  MapSize patches() const;
  // Rows of the embedding before those of the patches: the class token's and others.
  int prefix_tokens() const { return prefix_tokens_; }
  // The node the walk ends with: the embedding.
  int embedding() const { return end_; }

  // One image [1, 3, H, W], every flow observable. Gradients are those of the target's logit.
  ImageRelevance explain(Reference& forward, const Tensor& image, int target, bool heatmap,
                         const FlowObserver& observe = {}) const;

  // The gradients alone, of the sum of direction[c] logit[c]; `values` of that image as
  // Reference::run_keeping() returns them from embedding() on.
  void gradients(const std::vector<Tensor>& values, std::span<const float> direction,
                 const FlowObserver& observe) const;

 private:
  double pass_on(int i, const std::vector<Tensor>& values, std::vector<Flow>& flows) const;
  void score(int node, const Tensor& value, const Flow& flow, ImageRelevance& out) const;
  std::vector<float> heatmap_of(const Flow& embedding, const std::vector<float>& row) const;

  const Graph& graph_;
  const Weights& weights_;
  Weights magnitudes_;
  Shapes shapes_;
  std::map<int, size_t> unit_;  // node -> index into scored_units()
  int logits_, end_;            // the walk starts and ends with these nodes
  int prefix_tokens_;           // rows of the embedding before those of the patches
  ThreadPool pool_;
  std::vector<std::unique_ptr<Reference>> forward_;  // one a thread
};

}  // namespace vitrun
