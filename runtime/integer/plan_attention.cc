// The step of an attention needs, beside its operands, the softmax's codes and what is added
// before it.
#include <algorithm>

#include "models/base/error.h"
#include "runtime/integer/plan.h"

namespace vitrun {
namespace {

constexpr float kMasked = -1e4f;  // leaves a probability of 0 in float

constexpr int64_t kMaxBias = int64_t{1} << 28;  // numbers of one attention

// So many queries that their scores take about 32 KB: a multiple of 16, or all of them.
int query_block(int queries, int tokens) {
  return std::min(queries, std::max(8192 / round_up(tokens, kColumns) / 16, 1) * 16);
}

// The numbers added to the scores [heads or 1, queries, tokens], masked positions included; empty:
// nothing.
std::vector<float> expand_bias(const QuantGraph& model, const Shapes& shapes, int softmax) {
  const Node& n = model.graph[softmax];
  const AttentionGeometry& g = shapes.geometry(softmax);
  const size_t t = static_cast<size_t>(g.tokens), heads = static_cast<size_t>(g.heads);
  std::vector<float> bias;
  const int64_t most =
      int64_t{n.weight.empty() && n.in.size() < 2 ? 1 : g.heads} * g.queries * g.tokens;
  if ((!n.weight.empty() || n.in.size() == 2 || g.causal) && most > kMaxBias)
    fail("softmax '", n.name, "': what is added to scores takes more than ", kMaxBias, " numbers");
  if (n.in.size() == 2) bias = model.params().at(model.graph[n.in[1]].weight).data;
  if (!n.weight.empty()) {
    const std::vector<float>& table = model.params().at(n.weight).data;
    bias.resize(heads * t * t);
    for (size_t h = 0; h < heads; h++)
      for (size_t i = 0; i < t * t; i++)
        bias[h * t * t + i] = table[static_cast<size_t>(at(g.bias_index, i)) * heads + h];
  }
  if (!g.causal) return bias;
  if (bias.empty()) bias.resize(t * t);
  for (size_t i = 0; i < bias.size(); i++)
    if (i % t > i / t % t) bias[i] = kMasked;
  return bias;
}

}  // namespace

void plan_softmax(const QuantGraph& model, const Shapes& shapes, int softmax, PlannedAttention& p) {
  p.codes = probability_codes(p.probability);
  for (int c = 0; c < 1 << p.probability.bits; c++)
    p.table.push_back(static_cast<uint16_t>(log_code_value(c, p.probability.rate)));
  p.table.push_back(0);
  if (p.codes == ProbabilityCodes::kSteps) p.steps = step_codes(p.probability);
  p.bias = expand_bias(model, shapes, softmax);
  const AttentionGeometry& g = shapes.geometry(softmax);
  p.bias_by_head = p.bias.size() > static_cast<size_t>(g.queries) * static_cast<size_t>(g.tokens);
  p.block = query_block(p.queries, g.tokens);
}

}  // namespace vitrun
