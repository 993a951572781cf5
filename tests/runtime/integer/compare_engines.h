// The integer engine beside the float engine on the same quantized graph.
#pragma once

#include <set>

#include "kernels/registry.h"
#include "tests/runtime/integer/quantized.h"

namespace vitrun {

// Both engines multiply the same numbers. The integer engine adds them exactly; the float engine
// rounds a sum of n products by about sqrt(n) 2^-24 of its largest partial sums, which are
// themselves about sqrt(n) times a product (and the value). With the deepest n = 12,544 that is
// 7e-6; a norm or a softmax behind adds a few 2^-24.
constexpr double kFloats = 2e-5;
// So a value moves by this many steps of at most 8-bit codes, which are 1/255 of the values' range:
// it may be rounded to the other code only so near an edge.
constexpr double kEdge = 255 * kFloats;

inline double largest(const std::vector<float>& values) {
  double top = 0;
  for (float x : values) top = std::max(top, std::fabs(double{x}));
  return top;
}

// Walks the float engine beside the integer engine's trace. At every value both have they must
// agree; then the float engine takes the integer engine's, so that one code that float rounding
// moved over an edge does not hide what comes after.
struct Comparison {
  const QuantGraph& model;
  const Graph& graph = model.graph;
  std::map<int, Tensor> traced{};
  std::set<int> coded{};  // nodes whose traced value is codes for attention, column by column
  std::map<int, Tensor> before{};
  double worst = 0;           // difference of floats, relative to the value's largest
  double edge = 0, step = 0;  // of codes that moved, in steps: from an edge, and to the other
  int64_t codes = 0, moved = 0, floats = 0;

  // The engine's value of a node; null: it has none.
  const Tensor* of_engine(int node) const {
    int from = node;
    if (graph.is(node, NodeKind::kQuantize) && is_softmax(graph, graph[node].in[0]))
      from = graph[node].in[0];
    else if (is_softmax(graph, node))
      return nullptr;
    const auto found = traced.find(from);
    return found == traced.end() ? nullptr : &found->second;
  }

  void see(int node, Tensor& value) {
    if (graph.is(node, NodeKind::kQuantize)) {
      see_codes(node, value);
    } else if (const Tensor* engine = of_engine(node); engine && !coded.contains(node)) {
      REQUIRE(engine->data.size() == value.data.size());
      const double top = largest(value.data);
      for (size_t i = 0; i < value.data.size(); i++, floats++) {
        const double apart = std::fabs(double{value.data[i]} - double{engine->data[i]});
        worst = std::max(worst, top > 0 ? apart / top : apart);
      }
      value.data = engine->data;
    }
    before[node] = value;
  }

  // The codes of a Quantize, of its own step or among those of a Linear.
  void see_codes(int node, Tensor& value) {
    const int in = graph[node].in[0], begin = graph[node].whole(Attribute::kBegin);
    const bool from_linear = coded.contains(in);
    const Tensor* engine = from_linear ? &traced.at(in) : of_engine(node);
    if (!engine) return;  // its columns are copied for the Linear of a Window
    const int64_t cols = value.dims[2], all = engine->dims[2];
    REQUIRE(engine->data.size() / static_cast<size_t>(all) ==
            value.data.size() / static_cast<size_t>(cols));
    const Tensor& x = before.at(in);
    for (int64_t i = 0; i < static_cast<int64_t>(value.data.size()); i++, codes++) {
      const int64_t row = i / cols, column = i % cols;
      const float got =
          engine->data[static_cast<size_t>(row * all + column + (from_linear ? begin : 0))];
      float& want = value.data[static_cast<size_t>(i)];
      if (std::fabs(got - want) > 1e-5f * std::fabs(want) + 1e-12f) {
        moved++;
        if (model.quantizer(node).by_row())
          see_move_in_row(node, x, row, begin, cols, double{got} - double{want});
        else if (!is_softmax(graph, in))
          see_move(node, column, cols, double{got} - double{want},
                   x.data[static_cast<size_t>(row * x.dims[2] + begin + column)]);
      }
      want = got;
    }
  }

  // A code of a row with its own range may move by the widest step that a group of it can have.
  void see_move_in_row(int node, const Tensor& x, int64_t row, int64_t begin, int64_t cols,
                       double by) {
    const float* first = x.data.data() + row * x.dims[2] + begin;
    const auto [low, high] = std::minmax_element(first, first + cols);
    const double range = double{std::max(*high, 0.f)} - double{std::min(*low, 0.f)};
    step = std::max(step, std::fabs(by) / range * ((1 << model.quantizer(node).bits) - 1));
  }

  void see_move(int node, int64_t column, int64_t cols, double by, float x) {
    const CodeParams& p = model.quantizer(node);
    const auto heads = std::max<int64_t>(1, count_of(p.heads));
    const auto scale = double{p.of_head(static_cast<int>(column / (cols / heads))).scale};
    const double in_steps = std::fabs(double{x} / scale);
    edge = std::max(edge, std::fabs(in_steps - std::floor(in_steps) - 0.5));
    if (p.levels.empty()) step = std::max(step, std::fabs(by) / scale);
  }

  bool agrees() const { return worst < kFloats && edge < kEdge && step < 1.01; }
};

// Runs a quantized graph in both engines.
inline Comparison compare(const QuantizedCase& q, const Tensor& input) {
  Comparison c{*q.model};
  std::vector<MapSize> sizes;
  if (&input != &q.h.input)
    sizes = {{static_cast<int>(input.dims[1]), static_cast<int>(input.dims[2])}};
  const EngineOptions options{.max_batch = 2,
                              .all_rows = true,
                              .kernels = find_kernels("scalar"),
                              .sizes = sizes,
                              .outputs = q.output_names()};
  Engine engine(*q.model, options);
  engine.set_trace([&](int node, const Tensor& value) { c.traced[node] = value; });
  const Results got = run_engine(engine, input);
  const Plan plan = make_plan(*q.model, {sizes, q.output_names(), 2, true});
  for (const Step& s : plan.steps)
    if (at(plan.values, s.out).codes && !c.graph.is(s.result, NodeKind::kQuantize))
      c.coded.insert(s.result);

  const Weights weights = dequantize_weights(*q.model);
  Reference reference(c.graph, weights, 1);
  const std::vector<Tensor> want = reference.run_outputs(
      input, q.output_names(), [&](int node, Tensor& value) { c.see(node, value); });
  for (size_t i = 0; i < got.size(); i++) {
    CHECK(got[i].size() == want[i].data.size());
    CHECK(difference_of(got[i], want[i].data) < kFloats);
  }
  return c;
}
inline Comparison compare(const QuantizedCase& q) {
  return compare(q, q.h.input);
}

// The second of the sites of one value gets a coarser range.
inline void widen_second(const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
  std::set<int> seen;
  for (size_t s = 0; s < sites.size(); s++)
    if (!seen.insert(sites[s].node).second && !sites[s].softmax)
      ranges[s].range = {ranges[s].range.scale * 1.7f, ranges[s].range.zero / 2 + 10};
}

}  // namespace vitrun
