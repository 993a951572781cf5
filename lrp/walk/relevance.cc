#include "lrp/walk/relevance.h"

#include <algorithm>
#include <cmath>

#include "models/base/error.h"

namespace vitrun {
namespace {

// Whether relevance scores a node: units of blocks, and the patch mergings between them.
bool is_scored(const Node& n) {
  return !n.unit.empty() && (n.block >= 0 || n.role == Role::kReduction);
}

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

// Whether a class token alone is what the model reads at its end: the first row of the tokens.
bool reads_first_token(const Graph& graph) {
  return std::ranges::any_of(graph.nodes, [](const Node& n) {
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

// Sums the relevance over channels: out [rows] from relevance [rows, cols].
std::vector<float> patch_sums(const Flow& flow, size_t cols) {
  std::vector<float> sums(flow.relevance.size() / cols);
  for (size_t i = 0; i < flow.relevance.size(); i++) sums[i / cols] += flow.relevance[i];
  return sums;
}

}  // namespace

std::vector<std::string> scored_units(const Graph& graph) {
  std::vector<std::string> units;
  for (const Node& n : graph.nodes)
    if (is_scored(n)) units.push_back(n.unit);
  return units;
}

RelevanceEngine::RelevanceEngine(const Graph& graph, const Weights& weights, int threads)
    : graph_(graph),
      weights_(weights),
      shapes_(infer_shapes(graph)),
      logits_(logits_of(graph)),
      end_(embedding_of(graph)),
      prefix_tokens_(0),
      pool_(threads) {
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (is_scored(n)) unit_.emplace(i, unit_.size());
    if (n.kind != NodeKind::kLinear) continue;
    Tensor magnitude = weights.at(n.weight);
    for (float& x : magnitude.data) x = std::fabs(x);
    magnitudes_[n.weight] = std::move(magnitude);
  }
  if (const int patches = graph.find(Role::kPatchEmbed); patches >= 0 && reads_first_token(graph))
    prefix_tokens_ = shapes_[end_].rows - shapes_[patches].rows;
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
  const int patches = graph_.find(NodeKind::kWindow);
  if (patches < 0) fail("a model that does not see an image in patches");
  return {shapes_[patches].height, shapes_[patches].width};
}

void RelevanceEngine::score(int node, const Tensor& value, const Flow& flow,
                            ImageRelevance& out) const {
  const auto unit = unit_.find(node);
  if (unit == unit_.end()) return;
  size_t count = value.data.size();
  if (shapes_[node].pad_row) count -= static_cast<size_t>(shapes_[node].cols);  // not a token
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
double RelevanceEngine::pass_on(int i, const std::vector<Tensor>& values,
                                std::vector<Flow>& flows) const {
  const Node& node = graph_[i];
  Flow flow = std::move(at(flows, i));
  std::vector<const Tensor*> in;
  for (int k : node.in) in.push_back(&at(values, k));
  Flows to(node.in.size());
  const double lost =
      backward({graph_, shapes_, i, in, at(values, i), weights_, magnitudes_, flow}, to);
  for (int k = 0; k < count_of(node.in); k++)
    if (at(node.in, k) >= end_)
      join(*at(in, k), takes_part(node), std::move(at(to, k)), at(flows, at(node.in, k)));
  return lost;
}

// Whether a node's value has a row for padding which is of none of its input's rows.
bool RelevanceEngine::gives_padding(int node) const {
  return shapes_[node].pad_row && graph_.is(node, NodeKind::kLinear);
}

void RelevanceEngine::gradients(const std::vector<Tensor>& values, std::span<const float> direction,
                                const FlowObserver& observe) const {
  std::vector<Flow> flows(values.size());
  at(flows, logits_).gradient.assign(direction.begin(), direction.end());
  for (int i = logits_; i >= end_; i--) {
    Flow& flow = at(flows, i);
    if (flow.empty()) continue;
    observe(i, flow);
    if (gives_padding(i))
      flow.gradient.resize(flow.gradient.size() - static_cast<size_t>(shapes_[i].cols));
    if (i > end_) pass_on(i, values, flows);
  }
}

std::vector<float> RelevanceEngine::heatmap_of(const Flow& embedding,
                                               const std::vector<float>& row) const {
  if (prefix_tokens_ > 0) return {row.begin() + prefix_tokens_, row.end()};
  return patch_sums(embedding, static_cast<size_t>(shapes_[end_].cols));
}

// The walk begins with the chosen class, or without classes the squared norm of the
// embedding, whose elements have their shares of it.
Flow RelevanceEngine::start_of(const std::vector<float>& y, int target) const {
  Flow start;
  start.relevance.assign(y.size(), 0);
  if (graph_.output("logits") >= 0) {
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
  std::vector<Tensor> values = forward.run_keeping(image, end_, logits_);
  const std::vector<float>& logits = at(values, logits_).data;
  ImageRelevance out;
  out.score.resize(unit_.size());
  out.gradient_input.resize(unit_.size());
  if (graph_.output("logits") < 0)
    out.target = -1;
  else
    out.target =
        target >= 0 ? target : static_cast<int>(std::ranges::max_element(logits) - logits.begin());
  std::vector<Flow> flows(values.size());
  at(flows, logits_) = start_of(logits, out.target);
  std::vector<float> row;  // the class token's row of the heat map's product
  double absorbed = 0;     // relevance that no input received
  const auto check_cut = [&](const Flow& flow) {
    out.conservation_error =
        std::max(out.conservation_error, std::fabs(sum(flow.relevance) + absorbed - 1));
  };
  for (int i = logits_; i >= end_; i--) {
    const Node& node = graph_[i];
    Flow& flow = at(flows, i);
    if (flow.empty()) continue;
    if (observe) observe(i, flow);
    score(i, at(values, i), flow, out);
    if (gives_padding(i)) {
      const Values pad(flow.relevance.end() - shapes_[i].cols, flow.relevance.end());
      absorbed += sum(pad);
      flow.relevance.resize(flow.relevance.size() - pad.size());
      flow.gradient.resize(flow.relevance.size());
    }
    if (heatmap && node.kind == NodeKind::kSoftmax && prefix_tokens_ > 0) {
      const AttentionGeometry& g = shapes_.geometry(i);
      if (row.empty()) row.assign(static_cast<size_t>(g.tokens), 0), row[0] = 1;
      roll_out(g, flow, row);
    }
    if (i == end_) break;
    if (node.role == Role::kResidual) check_cut(flow);
    absorbed += pass_on(i, values, flows);
    at(values, i) = {};
  }
  const Flow& embedding = at(flows, end_);
  check_cut(embedding);
  if (heatmap) out.heatmap = heatmap_of(embedding, row);
  return out;
}

}  // namespace vitrun
