#include "lrp/walk/reverse_walk.h"

#include <algorithm>
#include <cmath>

#include "models/base/index.h"

namespace vitrun {
namespace {

// Whether relevance scores a node: units of blocks, and the patch mergings between them.
bool is_scored(const Node& n) {
  return !n.unit.empty() && (n.block >= 0 || n.role == Role::kReduction);
}

// Whether a node's value has a row for padding which is of none of its input's rows.
bool gives_padding(const Graph& graph, const Shapes& shapes, int node) {
  return shapes[node].pad_row && graph.is(node, NodeKind::kLinear);
}

// The sum of all relevance on its way, which has reached node `i` at most.
double pending(const std::vector<Flow>& flows, int i) {
  double total = 0;
  for (int k = 0; k <= i; k++) total += sum(at(flows, k).relevance);
  return total;
}

}  // namespace

std::vector<std::string> scored_units(const Graph& graph) {
  std::vector<std::string> units;
  for (const Node& n : graph.nodes)
    if (is_scored(n)) units.push_back(n.unit);
  return units;
}

std::vector<float> row_sums(const Values& x, int cols) {
  std::vector<float> sums(x.size() / static_cast<size_t>(cols));
  for (size_t i = 0; i < x.size(); i++) sums[i / static_cast<size_t>(cols)] += x[i];
  return sums;
}

ReverseWalk::ReverseWalk(const Graph& graph, const Weights& weights, int end, float epsilon)
    : graph_(graph), weights_(weights), end_(end), epsilon_(epsilon) {
  for (int i = 0; i < graph.size(); i++)
    if (is_scored(graph[i])) unit_.emplace(i, unit_.size());
}

const Weights& ReverseWalk::magnitudes() const {
  std::call_once(magnitudes_->once, [&] {
    for (const Node& n : graph_.nodes) {
      if (n.kind != NodeKind::kLinear) continue;
      Tensor magnitude = weights_.at(n.weight);
      for (float& x : magnitude.data) x = std::fabs(x);
      magnitudes_->weights[n.weight] = std::move(magnitude);
    }
  });
  return magnitudes_->weights;
}

void ReverseWalk::score(int node, const Shapes& shapes, const Tensor& value, const Flow& flow,
                        WalkResult& out) const {
  const auto unit = unit_.find(node);
  if (unit == unit_.end()) return;
  size_t count = value.data.size();
  if (shapes[node].pad_row) count -= static_cast<size_t>(shapes[node].cols);  // not a token
  const float *gradient = flow.gradient.data(), *relevance = flow.relevance.data(),
              *x = value.data.data();
  const double score =
      sum_of(count, [&](size_t i) { return std::max(0.f, gradient[i] * relevance[i]); });
  const double plain = sum_of(count, [&](size_t i) { return std::fabs(gradient[i] * x[i]); });
  out.score[unit->second] = score / static_cast<double>(count);
  out.gradient_input[unit->second] = plain / static_cast<double>(count);
}

// Passes the flow that arrived at node `i` on to those of its inputs; returns the relevance that
// was absorbed.
double ReverseWalk::pass_on(int i, const Shapes& shapes, const std::vector<Tensor>& values,
                            std::vector<Flow>& flows, const Weights& magnitudes) const {
  const Node& node = graph_[i];
  Flow flow = std::move(at(flows, i));
  std::vector<const Tensor*> in;
  for (int k : node.in) in.push_back(&at(values, k));
  Flows to(node.in.size());
  const double lost =
      backward({graph_, shapes, i, in, at(values, i), weights_, magnitudes, flow, epsilon_}, to);
  at(flows, i) = {};
  for (int k = 0; k < count_of(node.in); k++)
    if (at(node.in, k) >= end_)
      join(*at(in, k), takes_part(node), std::move(at(to, k)), at(flows, at(node.in, k)));
  return lost;
}

WalkResult ReverseWalk::run(const Shapes& shapes, std::vector<Tensor>& values,
                            std::vector<Flow>& flows, const FlowObserver& observe) const {
  WalkResult out;
  out.score.resize(unit_.size());
  out.gradient_input.resize(unit_.size());
  const int last = count_of(flows) - 1;
  const double start = pending(flows, last);
  const auto check_cut = [&](int i) {
    out.conservation_error =
        std::max(out.conservation_error, std::fabs(pending(flows, i) + out.absorbed - start));
  };
  for (int i = last; i >= end_; i--) {
    Flow& flow = at(flows, i);
    if (flow.empty()) continue;
    if (observe) observe(i, flow);
    score(i, shapes, at(values, i), flow, out);
    if (gives_padding(graph_, shapes, i)) {
      const Values pad(flow.relevance.end() - shapes[i].cols, flow.relevance.end());
      out.absorbed += sum(pad);
      flow.relevance.resize(flow.relevance.size() - pad.size());
      flow.gradient.resize(flow.relevance.size());
    }
    if (i == end_) break;
    if (graph_[i].role == Role::kResidual) check_cut(i);
    out.absorbed += pass_on(i, shapes, values, flows, magnitudes());
    at(values, i) = {};
  }
  check_cut(end_);
  return out;
}

void ReverseWalk::gradients(const Shapes& shapes, const std::vector<Tensor>& values,
                            std::span<std::vector<Flow>> sets, const FlowObserver& observe) const {
  const Weights none;
  for (int i = graph_.size() - 1; i >= end_; i--)
    for (std::vector<Flow>& flows : sets) {
      Flow& flow = at(flows, i);
      if (flow.empty()) continue;
      observe(i, flow);
      if (gives_padding(graph_, shapes, i))
        flow.gradient.resize(flow.gradient.size() - static_cast<size_t>(shapes[i].cols));
      if (i > end_) pass_on(i, shapes, values, flows, none);
    }
}

}  // namespace vitrun
