// The perturbation test of heat maps (method.md section 4). Patches are removed, the most relevant
// first; the sooner the model fails, the better the map knew what the model looks at.
#pragma once

#include "lrp/walk/relevance.h"

namespace vitrun {

struct PerturbationCurve {
  std::string order;  // what orders the patches: "relevance", "attention rollout" or "random"
  std::vector<double> accuracy;  // without 0, 10, .. 90 % of the patches
  double area = 0;  // the area under the curve by trapezoids over 0 .. 0.9; smaller is better
};

class PerturbationTest {
 public:
  // Graph and weights must outlive the test. A model without a class token has no attention
  // rollout.
  PerturbationTest(const Graph& graph, const Weights& weights, int threads, float epsilon = 0);

  // Tests images [batch, 3, H, W], preprocessed, against their labels. Relevance explains the
  // predicted class. A removed patch has the mean colour.
  void add(const Tensor& images, const std::vector<int>& labels);

  // Returns the curves over the images added so far.
  std::vector<PerturbationCurve> curves() const;

 private:
  using Order = std::vector<int>;  // patches in the order in which they are removed
  std::vector<Order> orders_of(Reference& forward, const Tensor& image,
                               const std::vector<float>& heatmap, int64_t seed) const;
  void test(Reference& forward, const Tensor& image, int label, const std::vector<Order>& orders,
            std::vector<int64_t>& correct) const;

  RelevanceEngine relevance_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Reference>> forward_;  // by thread
  std::vector<std::string> names_;
  int64_t images_ = 0;
  std::vector<int64_t> correct_;  // [orders, steps]
};

// Writes JSON to `path`, all or nothing (atomic_file.h).
void write_curves(const std::vector<PerturbationCurve>& curves, int64_t images, int64_t skipped,
                  const std::string& path);

// Attention rollout (method.md section 4): the class token's row, at the patches, of the product
// over blocks of (mean over heads of attn + I) / 2. image is [1, 3, H, W].
std::vector<float> attention_rollout(Reference& forward, const Tensor& image);

}  // namespace vitrun
