// The reverse walk through one graph: flows of relevance and gradient, from values where they start
// back to one value near the input (method.md section 4).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/float/operators.h"

namespace vitrun {

// Returns the units that are scored, in node order: those of the blocks, and Swin's reductions.
std::vector<std::string> scored_units(const Graph& graph);

// Receives, for every node of the walk, the flow that arrived at its output.
using FlowObserver = std::function<void(int node, const Flow& flow)>;

// The default of vitlrp --epsilon. Where it is 0, scores differ several times with the order in
// which sums are added, since relevance divides by sums that cancel; with this one by less than 0.1
// %.
constexpr float kEpsilon = 0.01f;

// The sum of each row of x [rows, cols]: of a patch's relevance over its channels.
std::vector<float> row_sums(const Values& x, int cols);

// Vectors over units are in the order of scored_units().
struct WalkResult {
  std::vector<double> score;           // mean of (gradient * relevance)+ over the unit's output
  std::vector<double> gradient_input;  // mean of |gradient * value|, a scorer without relevance
  double absorbed = 0;                 // relevance that no input received
  // The largest |sum of all relevance on its way + absorbed - start| at residual adds and the end.
  double conservation_error = 0;
};

// Many threads may walk at once, each with values and flows of its own.
class ReverseWalk {
 public:
  // Ends with the value of node `end`. Graph and weights must outlive the walk. The first walk of
  // relevance makes a copy |W| of the weights of all Linears. `epsilon` damps the relevance of sums
  // that cancel (method.md section 4); 0 is the published rule.
  ReverseWalk(const Graph& graph, const Weights& weights, int end, float epsilon = 0);

  int end() const { return end_; }
  const Graph& graph() const { return graph_; }

  // Sends the flows back. `values` [nodes] are those of one image from end() on, as
  // Reference::run_keeping() returns them, for which `shapes` are; `flows` [nodes] holds what
  // starts at each value, and at last what arrived at end(). Values and flows that were passed are
  // freed.
  WalkResult run(const Shapes& shapes, std::vector<Tensor>& values, std::vector<Flow>& flows,
                 const FlowObserver& observe = {}) const;

  // The same for several sets of flows without relevance, all of which pass a node before any
  // passes the next; keeps the values. `observe` is shown a node's flows in the order of the sets.
  void gradients(const Shapes& shapes, const std::vector<Tensor>& values,
                 std::span<std::vector<Flow>> sets, const FlowObserver& observe) const;

 private:
  // |W| of every Linear by the name of W, made when it is first asked for.
  struct Magnitudes {
    std::once_flag once;
    Weights weights;
  };

  const Weights& magnitudes() const;
  double pass_on(int node, const Shapes& shapes, const std::vector<Tensor>& values,
                 std::vector<Flow>& flows, const Weights& magnitudes) const;
  void score(int node, const Shapes& shapes, const Tensor& value, const Flow& flow,
             WalkResult& out) const;

  const Graph& graph_;
  const Weights& weights_;
  std::shared_ptr<Magnitudes> magnitudes_ = std::make_shared<Magnitudes>();
  std::map<int, size_t> unit_;  // node -> index into scored_units()
  int end_;
  float epsilon_;
};

}  // namespace vitrun
