// The perturbation test of heat maps (Samek et al. 1509.06321, Chefer et al. 2012.09838): patches
// are taken away, the most relevant first, and the sooner the model fails, the better the map knew
// what it looked at.
#pragma once

#include "lrp/walk/relevance.h"

namespace vitrun {

// The accuracy when 0, 10, .. 90 % of the patches are gone.
struct PerturbationCurve {
  std::string order;  // what decided which go first: "relevance", "attention rollout", "random"
  std::vector<double> accuracy;
  double area = 0;  // under the curve, by trapezoids over 0 .. 0.9; smaller is better
};

class PerturbationTest {
 public:
  // Both must outlive the test. Without a class token there is no attention rollout.
  PerturbationTest(const Graph& graph, const Weights& weights, int threads);

  // images [batch, 3, H, W], preprocessed, and their labels. The relevance explained is that of the
  // predicted class. A patch that is gone has the mean colour.
  void add(const Tensor& images, const std::vector<int>& labels);

  // Of the images so far.
  std::vector<PerturbationCurve> curves() const;

 private:
  using Order = std::vector<int>;  // of the patches, those that go first in front
  std::vector<Order> orders_of(Reference& forward, const Tensor& image,
                               const std::vector<float>& heatmap, int64_t seed) const;
  void test(Reference& forward, const Tensor& image, int label, const std::vector<Order>& orders,
            std::vector<int64_t>& correct) const;

  RelevanceEngine relevance_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Reference>> forward_;  // one a thread
  std::vector<std::string> names_;
  int64_t images_ = 0;
  std::vector<int64_t> correct_;  // [orders, steps]
};

// JSON; all or nothing.
void write_curves(const std::vector<PerturbationCurve>& curves, int64_t images,
                  const std::string& path);

// The class token's row of the product over blocks of (mean over heads of attn + I) / 2 (Abnar and
// Zuidema 2005.00928), at the patches. image is [1, 3, H, W].
std::vector<float> attention_rollout(Reference& forward, const Tensor& image);

}  // namespace vitrun
