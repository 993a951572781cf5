// The float engine: runs a graph node by node on OpenBLAS, every value observable. It is the
// reference that the integer engine is held against, and what calibration and LRP run on.
#pragma once

#include <functional>
#include <map>

#include "runtime/float/operators.h"

namespace vitrun {

class Reference {
 public:
  // Called after each node with its output, [batch, groups * rows, cols]; it may change it in place
  // (compensated rounding does). Called from the thread that called run(); the values of its inputs
  // are still there.
  using Observer = std::function<void(int node, Tensor& value)>;

  // `weights` as check_weights() accepts them. Graph and weights must outlive the engine.
  Reference(const Graph& graph, const Weights& weights, int threads);

  // images [batch, C, H, W], preprocessed, or maps [batch, H, W, C], for the graph's only input;
  // any size the graph allows -> its first output, [batch, cols], or [batch, rows, cols] of several
  // rows. A value is freed after its last use.
  Tensor run(const Tensor& images, const Observer& observe = {});

  // The values of the outputs named, as run() gives them; fails on a name the graph does not have.
  // Without names every node is computed, for the observer.
  std::vector<Tensor> run_outputs(const Tensor& images, const std::vector<std::string>& names,
                                  const Observer& observe = {});

  // The values of the nodes from `first` on to `last`; others are empty.
  std::vector<Tensor> run_keeping(const Tensor& images, int first, int last);

  // The value of node `to` with those of some earlier nodes replaced: evaluates again what lies
  // between. `values` [nodes] holds what else that reads, of the same images.
  Tensor run_between(const Tensor& images, const std::vector<Tensor>& values,
                     const std::map<int, Tensor>& replaced, int to);

  // y = x W^T, x [batch, rows, K] and W [N, ...] of N * K numbers.
  Tensor multiply(const Tensor& x, const Tensor& weight);

  const Graph& graph() const { return graph_; }
  const Weights& weights() const { return weights_; }
  // For the images last run, at first for the default size.
  const Shapes& shapes() const { return shapes_; }

 private:
  void set_size(const Tensor& images);
  std::vector<Tensor> run_nodes(const Tensor& images, const Observer& observe, int keep_from,
                                int last);
  Tensor output_of(std::vector<Tensor>& values, int node) const;
  template <class Value>  // value(node) -> const Tensor&
  Tensor evaluate(int node, const Tensor& images, const Value& value);

  const Graph& graph_;
  const Weights& weights_;
  const Kernels& kernels_;     // for GELU and exp
  std::vector<int> last_use_;  // per node: the last node that reads its value
  Shapes shapes_;
  std::vector<MapSize> sizes_;  // that shapes_ are for
  ThreadPool pool_;
};

}  // namespace vitrun
