// Gradients of a model's outputs at those of its Linears, one reverse walk (lrp/) for each image
// and draw of signs (method.md section 15, [ours] after GuidedQuant).
//
// Each logit gets a random sign, and G is the gradient of their signed sum at an output [tokens,
// N]. A small change E of that output moves the sum by <G, E>. The mean of <G, E>^2 over the signs
// is the squared change of the logits (Hutchinson's estimate). Of several outputs, as a detector's
// graphs have, each is divided by its norm, so that relative changes are added.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "lrp/walk/relevance.h"
#include "runtime/files/model_file.h"

namespace vitrun {

// A sign for each element of the values [nodes] at `starts`, over the norm of its value if there
// are several.
std::map<int, Values> random_starts(int64_t seed, const std::vector<int>& starts,
                                    const std::vector<Tensor>& values);

class GradientWalk {
 public:
  // Receives G [draws * tokens, N] of each Linear, the last Linear first, without the row that the
  // padding of a Swin map adds.
  using Visitor = std::function<void(int linear, std::span<const float> gradient)>;

  // Walks from the outputs named; none: from the logits, or the embedding of a model without
  // classes. `model` must outlive the walk.
  explicit GradientWalk(const FloatModel& model, const std::vector<std::string>& outputs = {});

  // Returns the values that visit() needs of one image [1, 3, H, W]. `forward` runs the same model.
  std::vector<Tensor> values(Reference& forward, const Tensor& image) const;

  // Walks with the signs that each of `seeds` draws. Many threads may walk the same values at once.
  void visit(const std::vector<Tensor>& values, std::span<const int64_t> seeds,
             const Visitor& see) const;

 private:
  RelevanceEngine engine_;
  std::vector<int> starts_;  // the outputs' nodes
};

// Draws of signs for each image; bench/results/accuracy.md compares other numbers. So many of them
// at a time walk side by side.
constexpr int64_t kGradientSigns = 8, kSignsAtOnce = 2;

// The sum of X^T X [n, n] over rows of X in float. It keeps the upper triangle, in panels of rows.
class GramSum {
 public:
  explicit GramSum(int columns = 0);

  void add(const float* rows, int64_t count);
  // All of the matrix.
  std::vector<double> matrix() const;

 private:
  int n_;
  std::vector<std::vector<float>> panels_;  // some rows each, from the diagonal on
};

// Moments of the gradients G at one Linear's output over all draws of signs.
struct OutputGradients {
  std::vector<float> norms;  // root mean square of |G_i| over draws, [images * tokens]
  // Sums of G^T G [N, N] over the first three quarters of the images and over the last; `unseen` is
  // of size 0 for fewer than four images.
  GramSum fitted, unseen;
};

// Returns the gradients by node of the Linear. They are the same for any number of threads, because
// image i, of `count`, with the signs of the seeds i, i + count, i + 2 count ..., is added as the
// i-th, kSignsAtOnce seeds after others. Memory: [N, N] of floats for every Linear, and the values
// of one image; of more with more than kGradientSigns / kSignsAtOnce threads.
std::map<int, OutputGradients> output_gradients(const FloatModel& model, const Tensor& images,
                                                int threads,
                                                const std::vector<std::string>& outputs = {});

}  // namespace vitrun
