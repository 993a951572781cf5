// The float engine on hand-made graphs: values, gradients and relevances against PyTorch's
// (golden/make_graphs.py).
#include <doctest/doctest.h>

#include <cmath>

#include "runtime/float/reference.h"
#include "tests/models/graph/hand_made.h"

namespace vitrun {
namespace {

// A sum of n <= 64 floats errs by less than about sqrt(n) 2^-24 of its terms' size, which is 5e-7;
// a graph has a few such sums one behind the other, and terms may be some times as large as their
// sum. Of the deep Linear's 12,544 the terms are sqrt(12544) = 112 times as large as the sum, which
// 112 partial sums of 112 terms each then err by 2e-6 of.
constexpr double kValues = 1e-5;
// make_graphs.py keeps numbers whose gradient and relevance move by less than 2e-5 where its own
// rules are computed in float; five times that leaves room for the order of sums, which is another
// here.
constexpr double kFlows = 1e-4;

TEST_CASE("values of hand-made graphs equal PyTorch's") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const HandMade h = hand_made_graph(name);
    check_weights(h.graph, h.weights, "golden", name);
    std::vector<std::string> outputs;
    for (const Output& o : h.graph.outputs) outputs.push_back(o.name);
    for (int threads : {1, 3}) {
      Reference engine(h.graph, h.weights, threads);
      const std::vector<Tensor> got = engine.run_outputs(h.input, outputs);
      REQUIRE(got.size() == h.outputs.size());
      for (size_t i = 0; i < got.size(); i++)
        CHECK(difference_of(got[i].data, h.outputs[i].data) < kValues);
    }
  }
}

float direction(size_t i) {
  constexpr float kDirection[] = {1, -2, 3, -1, 2, -3};
  return kDirection[i % 6] / 3;
}

// The flow that reaches the input when all outputs are explained at once.
struct Walk {
  const HandMade& h;
  const bool relevant;
  std::vector<Flow> flows{h.graph.nodes.size()};
  std::vector<Tensor> values{};
  Weights magnitudes{};
  double start = 0, lost = 0;  // sums of relevance

  Flow run() {
    Reference engine(h.graph, h.weights, 1);
    values = engine.run_keeping(slice(h.input, 0, 1), 0, h.graph.size() - 1);
    for (const Node& n : h.graph.nodes)
      if (n.kind == NodeKind::kLinear) {
        Tensor& t = magnitudes[n.weight] = h.weights.at(n.weight);
        for (float& x : t.data) x = std::fabs(x);
      }
    for (const Output& o : h.graph.outputs) begin(o.node);
    for (int i = h.graph.size() - 1; i >= 0; i--)
      if (!at(flows, i).empty() && !h.graph.is(i, NodeKind::kInput)) pass_on(engine.shapes(), i);
    return at(flows, h.graph.find(NodeKind::kInput));
  }

  void begin(int node) {
    Flow flow;
    for (size_t i = 0; i < at(values, node).data.size(); i++) {
      flow.gradient.push_back(direction(i));
      if (relevant) flow.relevance.push_back(std::fabs(direction(i)));
    }
    start += sum(flow.relevance);
    at(flows, node) = std::move(flow);
  }

  void pass_on(const Shapes& shapes, int i) {
    const Node& n = h.graph[i];
    Flow flow = std::move(at(flows, i));
    if (shapes[i].pad_row && n.kind == NodeKind::kLinear) {  // no token: what reaches it is lost
      const auto kept = flow.gradient.size() - static_cast<size_t>(shapes[i].cols);
      flow.gradient.resize(kept);
      for (size_t k = kept; k < flow.relevance.size(); k++) lost += double{flow.relevance[k]};
      if (relevant) flow.relevance.resize(kept);
    }
    std::vector<const Tensor*> in;
    for (int k : n.in) in.push_back(&at(values, k));
    Flows to(n.in.size());
    lost += backward({h.graph, shapes, i, in, at(values, i), h.weights, magnitudes, flow}, to);
    for (size_t k = 0; k < to.size(); k++)
      join(*in[k], takes_part(n), std::move(to[k]), at(flows, n.in[k]));
  }
};

TEST_CASE("gradients of hand-made graphs equal PyTorch's") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const HandMade h = hand_made_graph(name);
    const Flow flow = Walk{h, false}.run();
    CHECK(!flow.relevant());
    CHECK(difference_of(flow.gradient, h.gradient.data) < kFlows);
  }
}

TEST_CASE("relevances of hand-made graphs equal those of the rules written out in PyTorch") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const HandMade h = hand_made_graph(name);
    Walk walk{h, true};
    const Flow flow = walk.run();
    CHECK(difference_of(flow.relevance, h.relevance.data) < kFlows);
    CHECK(difference_of(flow.gradient, h.gradient.data) < kFlows);
    // Nothing is lost that is not accounted for; where several outputs or readers join at a value
    // of 0 the rule for fan-out lets theirs go.
    CHECK(sum(flow.relevance) + walk.lost == doctest::Approx(walk.start).epsilon(1e-3));
  }
}

}  // namespace
}  // namespace vitrun
