#include "lrp/walk/relevance.h"

#include <algorithm>
#include <atomic>

#include "models/base/error.h"

namespace vitrun {
namespace {

// Returns the node at which the walk ends: the embedding, or the first Linear of a graph that does
// not name its embedding.
int embedding_of(const Graph& graph) {
  const int embedding = graph.find(Role::kEmbedding);
  if (embedding >= 0) return embedding;
  const int linear = graph.find(NodeKind::kLinear);
  if (linear < 0) fail("a model without a Linear: nothing to walk back to");
  return linear;
}

int logits_of(const Graph& graph) {
  if (graph.outputs.empty()) fail("a model without outputs: nothing to explain");
  const int logits = graph.output("logits");
  return logits >= 0 ? logits : graph.outputs[0].node;
}

// Whether a class token alone is what the model reads at its end: the first row of the tokens,
// which no learned queries have replaced.
bool reads_first_token(const Graph& graph) {
  const bool queries = std::ranges::any_of(graph.nodes, [&](const Node& n) {
    return n.kind == NodeKind::kScores && graph.is(n.in[0], NodeKind::kConst);
  });
  return !queries && std::ranges::any_of(graph.nodes, [](const Node& n) {
    return n.kind == NodeKind::kSlice && n.whole(Attribute::kAxis) == 0 &&
           n.whole(Attribute::kBegin) == 0 && n.whole(Attribute::kEnd) == 1;
  });
}

// row <- row (E_h[(gradient * R)+] + I), one block's factor of the heat map (method.md section 4).
// `row` is the class token's row of the product over blocks, the only one that is needed.
void roll_out(const AttentionGeometry& g, const Flow& flow, std::vector<float>& row) {
  const size_t t = static_cast<size_t>(g.tokens), area = t * t;
  std::vector<float> next = row;  // row I
  const float share = 1 / static_cast<float>(g.heads);
  for (size_t i = 0; i < flow.relevance.size(); i++) {
    const float product = flow.relevance[i] * flow.gradient[i];
    if (product > 0) next[i % t] += row[i % area / t] * product * share;
  }
  row = std::move(next);
}

}  // namespace

RelevanceEngine::RelevanceEngine(const Graph& graph, const Weights& weights, int threads,
                                 float epsilon)
    : shapes_(infer_shapes(graph)),
      walk_(graph, weights, embedding_of(graph), epsilon),
      logits_(logits_of(graph)),
      pool_(threads) {
  if (const int patches = graph.find(Role::kPatchEmbed); patches >= 0)
    prefix_tokens_ = shapes_[embedding()].rows - shapes_[patches].rows;
  rolls_out_ = prefix_tokens_ > 0 && reads_first_token(graph);
  for (int i = 0; i < threads; i++)
    forward_.push_back(std::make_unique<Reference>(graph, weights, 1));
}

std::vector<ImageRelevance> RelevanceEngine::run(const Tensor& images,
                                                 const std::vector<int>& targets, bool heatmap) {
  const int64_t count = images.dims[0];
  if (static_cast<int64_t>(targets.size()) != count)
    fail(count, " images need as many target classes, got ", targets.size());
  const int classes = shapes_[logits_].cols;
  for (int target : targets)
    if (target < -1 || target >= classes)
      fail("class ", target, ": the model has ", classes, " classes");
  std::vector<ImageRelevance> out(array_size(count));
  std::atomic<int64_t> next{0};
  pool_.run([&](int thread) {
    for (int64_t i; (i = next.fetch_add(1)) < count;)
      at(out, i) = explain(*at(forward_, thread), slice(images, i, 1), at(targets, i), heatmap);
  });
  return out;
}

MapSize RelevanceEngine::patches() const {
  const int patches = graph().find(NodeKind::kWindow);
  if (patches < 0) fail("a model that does not see an image in patches");
  return {shapes_[patches].height, shapes_[patches].width};
}

void RelevanceEngine::gradients(const std::vector<Tensor>& values,
                                std::span<const std::map<int, Values>> starts,
                                const FlowObserver& observe) const {
  std::vector<std::vector<Flow>> sets;
  for (const std::map<int, Values>& start : starts) {
    sets.emplace_back(values.size());
    for (const auto& [node, gradient] : start) at(sets.back(), node).gradient = gradient;
  }
  walk_.gradients(shapes_, values, sets, observe);
}

std::vector<float> RelevanceEngine::heatmap_of(const Flow& flow,
                                               const std::vector<float>& row) const {
  const std::vector<float> all =
      rolls_out_ ? row : row_sums(flow.relevance, shapes_[embedding()].cols);
  return {all.begin() + prefix_tokens_, all.end()};
}

// The walk begins with the chosen class, or without classes the squared norm of the
// embedding, whose elements have their shares of it.
Flow RelevanceEngine::start_of(const std::vector<float>& y, int target) const {
  Flow start;
  start.relevance.assign(y.size(), 0);
  if (graph().output("logits") >= 0) {
    at(start.relevance, target) = 1;
    start.gradient = start.relevance;
    return start;
  }
  double energy = 0;
  for (float v : y) energy += double{v} * double{v};
  if (!(energy > 0)) fail("the embedding is zero: there is nothing to explain");
  start.gradient.assign(y.begin(), y.end());
  for (size_t i = 0; i < y.size(); i++) {
    at(start.relevance, i) = static_cast<float>(double{y[i]} * double{y[i]} / energy);
    start.gradient[i] *= 2;
  }
  return start;
}

ImageRelevance RelevanceEngine::explain(Reference& forward, const Tensor& image, int target,
                                        bool heatmap, const FlowObserver& observe) const {
  std::vector<Tensor> values = forward.run_keeping(image, embedding(), logits_);
  const std::vector<float>& logits = at(values, logits_).data;
  ImageRelevance out;
  if (graph().output("logits") < 0)
    out.target = -1;
  else
    out.target =
        target >= 0 ? target : static_cast<int>(std::ranges::max_element(logits) - logits.begin());
  std::vector<Flow> flows(values.size());
  at(flows, logits_) = start_of(logits, out.target);
  std::vector<float> row;  // the class token's row of the heat map's product
  const auto see = [&](int node, const Flow& flow) {
    if (observe) observe(node, flow);
    if (!heatmap || !rolls_out_ || !graph().is(node, NodeKind::kSoftmax)) return;
    const AttentionGeometry& g = shapes_.geometry(node);
    if (row.empty()) row.assign(static_cast<size_t>(g.tokens), 0), row[0] = 1;
    roll_out(g, flow, row);
  };
  WalkResult walked = walk_.run(shapes_, values, flows, see);
  out.score = std::move(walked.score);
  out.gradient_input = std::move(walked.gradient_input);
  out.conservation_error = walked.conservation_error;
  if (heatmap) out.heatmap = heatmap_of(at(flows, embedding()), row);
  return out;
}

}  // namespace vitrun
