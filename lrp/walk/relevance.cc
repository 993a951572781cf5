#include "lrp/walk/relevance.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "models/graph/sites.h"

namespace vitrun {
namespace {

bool is_scored(const std::string& unit) {
  return unit.find("blocks.") != std::string::npos || unit.ends_with("reduction");
}

// The first value inside the network: ViT's tokens, Swin's embedding.
int embedding_of(const Graph& graph) {
  for (size_t i = 0; i < graph.nodes.size(); i++)
    if (graph.nodes[i].kind == NodeKind::kTokens) return static_cast<int>(i);
  for (size_t i = 0; i < graph.nodes.size(); i++)
    if (graph.nodes[i].kind == NodeKind::kLinear) return static_cast<int>(i);
  fail("a model without an embedding");
}

// One factor of the attention rollout, E_h[(gradient R)+] + I, times those of the blocks behind.
// Only the class token's row of the product is kept: row <- row * factor.
void roll_out(const AttentionGeometry& g, const Flow& flow, std::vector<float>& row) {
  const size_t t = static_cast<size_t>(g.tokens), area = t * t;
  std::vector<float> next = row;  // the identity's part
  const float share = 1 / static_cast<float>(g.heads);
  for (size_t i = 0; i < flow.relevance.size(); i++) {
    const float product = flow.relevance[i] * flow.gradient[i];
    if (product > 0) next[i % t] += row[i % area / t] * product * share;
  }
  row = std::move(next);
}

std::vector<float> patch_sums(const Flow& flow, size_t cols) {
  std::vector<float> sums(flow.relevance.size() / cols);
  for (size_t i = 0; i < flow.relevance.size(); i++) sums[i / cols] += flow.relevance[i];
  return sums;
}

}  // namespace

std::vector<std::string> scored_units(const Graph& graph) {
  std::vector<std::string> units = unit_names(graph);
  std::erase_if(units, [](const std::string& unit) { return !is_scored(unit); });
  return units;
}

RelevanceEngine::RelevanceEngine(const Graph& graph, const Weights& weights, int threads)
    : graph_(graph), weights_(weights), end_(embedding_of(graph)), pool_(threads) {
  for (const Node& n : graph.nodes) {
    if (n.kind != NodeKind::kLinear) continue;
    Tensor magnitude = weights.at(n.weight);
    for (float& x : magnitude.data) x = std::fabs(x);
    magnitudes_[n.weight] = std::move(magnitude);
  }
  const std::vector<std::string> units = scored_units(graph);
  for (size_t u = 0; u < units.size(); u++) unit_[graph.find(units[u])] = u;
  for (int i = 0; i < threads; i++)
    forward_.push_back(std::make_unique<Reference>(graph, weights, 1));
}

std::vector<ImageRelevance> RelevanceEngine::run(const Tensor& images,
                                                 const std::vector<int>& targets, bool heatmap) {
  const int64_t count = images.dims[0];
  if (static_cast<int64_t>(targets.size()) != count)
    fail(count, " images need as many target classes, got ", targets.size());
  for (int target : targets)
    if (target < -1 || target >= graph_.config.num_classes)
      fail("class ", target, ": the model has ", graph_.config.num_classes, " classes");
  std::vector<ImageRelevance> out(static_cast<size_t>(count));
  std::atomic<int64_t> next{0};
  pool_.run([&](int thread) {
    for (int64_t i; (i = next.fetch_add(1)) < count;)
      out[static_cast<size_t>(i)] =
          explain(*forward_[static_cast<size_t>(thread)], slice(images, i, 1),
                  targets[static_cast<size_t>(i)], heatmap);
  });
  return out;
}

void RelevanceEngine::score(const Node& node, const Tensor& value, const Flow& flow,
                            ImageRelevance& out) const {
  const auto unit = unit_.find(graph_.find(node.name));
  if (unit == unit_.end()) return;
  size_t count = value.data.size();
  if (node.pad_row) count -= static_cast<size_t>(node.cols);  // the padding is no token
  const float *gradient = flow.gradient.data(), *relevance = flow.relevance.data(),
              *x = value.data.data();
  const double score =
      sum_of(count, [&](size_t i) { return std::max(0.f, gradient[i] * relevance[i]); });
  const double plain = sum_of(count, [&](size_t i) { return std::fabs(gradient[i] * x[i]); });
  out.score[unit->second] = score / static_cast<double>(count);
  out.gradient_input[unit->second] = plain / static_cast<double>(count);
}

// What arrived at node `i` goes to its inputs' flows; returns the relevance that found no way.
double RelevanceEngine::pass_on(int i, const std::vector<Tensor>& values,
                                std::vector<Flow>& flows) const {
  const Node& node = graph_.nodes[static_cast<size_t>(i)];
  Flow flow = std::move(flows[static_cast<size_t>(i)]), to[2];
  const auto value = [&](int k) {
    return node.in[k] < 0 ? nullptr : &values[static_cast<size_t>(node.in[k])];
  };
  const double lost = propagate({graph_,
                                 weights_,
                                 magnitudes_,
                                 node,
                                 {value(0), value(1)},
                                 values[static_cast<size_t>(i)],
                                 flow},
                                to);
  // Readers that take parts: q and k, v; the class and the distillation token.
  const bool parts = node.kind == NodeKind::kScores || node.kind == NodeKind::kMix ||
                     node.kind == NodeKind::kSelect;
  for (int k = 0; k < 2; k++)
    if (node.in[k] >= end_)
      join(*value(k), parts, std::move(to[k]), flows[static_cast<size_t>(node.in[k])]);
  return lost;
}

void RelevanceEngine::gradients(const std::vector<Tensor>& values, std::span<const float> direction,
                                const FlowObserver& observe) const {
  std::vector<Flow> flows(values.size());
  flows.back().gradient.assign(direction.begin(), direction.end());
  for (int i = static_cast<int>(values.size()) - 1; i >= end_; i--) {
    const Node& node = graph_.nodes[static_cast<size_t>(i)];
    Flow& flow = flows[static_cast<size_t>(i)];
    if (flow.empty()) continue;
    observe(i, flow);
    if (node.pad_row) flow.gradient.resize(flow.gradient.size() - static_cast<size_t>(node.cols));
    if (i > end_) pass_on(i, values, flows);
  }
}

ImageRelevance RelevanceEngine::explain(Reference& forward, const Tensor& image, int target,
                                        bool heatmap, const FlowObserver& observe) const {
  std::vector<Tensor> values = forward.run_keeping(image, end_);
  const Tensor& logits = values.back();
  ImageRelevance out;
  out.score.resize(unit_.size());
  out.gradient_input.resize(unit_.size());
  out.target = target >= 0
                   ? target
                   : static_cast<int>(std::max_element(logits.data.begin(), logits.data.end()) -
                                      logits.data.begin());
  std::vector<Flow> flows(values.size());
  flows.back().relevance.assign(logits.data.size(), 0);
  flows.back().relevance[static_cast<size_t>(out.target)] = 1;
  flows.back().gradient = flows.back().relevance;
  std::vector<float> row;  // of the rollout
  double absorbed = 0;     // relevance that had nowhere to go
  for (int i = static_cast<int>(values.size()) - 1; i >= end_; i--) {
    const size_t at = static_cast<size_t>(i);
    const Node& node = graph_.nodes[at];
    Flow& flow = flows[at];
    if (flow.empty()) continue;
    if (observe) observe(i, flow);
    score(node, values[at], flow, out);
    if (node.pad_row) {
      const Values pad(flow.relevance.end() - node.cols, flow.relevance.end());
      absorbed += sum(pad);
      flow.relevance.resize(flow.relevance.size() - pad.size());
      flow.gradient.resize(flow.relevance.size());
    }
    if (heatmap && node.kind == NodeKind::kSoftmax && graph_.config.family == Family::kVit) {
      const AttentionGeometry& g = graph_.attention[static_cast<size_t>(node.attention)];
      if (row.empty()) row.assign(static_cast<size_t>(g.tokens), 0), row[0] = 1;
      roll_out(g, flow, row);
    }
    if (i == end_) break;
    if (node.kind == NodeKind::kAdd)
      out.conservation_error =
          std::max(out.conservation_error, std::fabs(sum(flow.relevance) + absorbed - 1));
    absorbed += pass_on(i, values, flows);
    values[at] = {};
  }
  const Flow& embedding = flows[static_cast<size_t>(end_)];
  out.conservation_error =
      std::max(out.conservation_error, std::fabs(sum(embedding.relevance) + absorbed - 1));
  if (heatmap) {
    const Node& node = graph_.nodes[static_cast<size_t>(end_)];
    if (graph_.config.family == Family::kVit) {
      const Node& patches = graph_.nodes[static_cast<size_t>(node.in[0])];
      out.heatmap.assign(row.end() - patches.rows, row.end());
    } else {
      out.heatmap = patch_sums(embedding, static_cast<size_t>(node.cols));
    }
  }
  return out;
}

}  // namespace vitrun
