// Hand-made graphs (hand_made.h) as quantized models in memory.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>

#include "quant/export.h"
#include "quant/quantized_graph.h"
#include "runtime/float/reference.h"
#include "runtime/integer/engine.h"
#include "tests/models/graph/hand_made.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {

// The smallest range of codes that holds a site's values.
inline SiteRange range_of(const Site& site, const Tensor& value, int bits) {
  SiteRange range;
  range.bits = bits;
  if (site.softmax) return range;  // log codes from 1 down
  float low = 0, high = 0;
  for_each_row(site, value, [&](std::span<const float> row) {
    for (float x : row) low = std::min(low, x), high = std::max(high, x);
  });
  const float steps = static_cast<float>((1 << bits) - 1);
  range.range.scale = (high - low) / steps;
  range.range.zero = static_cast<int>(std::lround(-low / range.range.scale));
  return range;
}

// Two items and parameters of a graph that no golden has, numbers between -1 and 1.
inline HandMade with_numbers(Graph graph) {
  HandMade h;
  h.graph = std::move(graph);
  uint32_t state = 1;
  const auto fill = [&](Tensor& t) {
    for (float& x : t.data) {
      state = state * 1664525 + 1013904223;
      x = static_cast<float>(state >> 8) / (1 << 23) - 1;
    }
  };
  const int input = h.graph.find(NodeKind::kInput);
  const Shape s = infer_shapes(h.graph)[input];
  h.input =
      Tensor(s.planar ? Dims{2, s.cols, s.height, s.width} : Dims{2, s.height, s.width, s.cols});
  fill(h.input);
  for (const Param& p : h.graph.params) fill(h.weights[p.name] = Tensor(p.dims));
  return h;
}

// A test may change these of the ranges.
using Adjust = std::function<void(const std::vector<Site>& sites, std::vector<SiteRange>& ranges)>;

// A quantized graph; the bytes of its file must outlive it.
struct QuantizedCase {
  HandMade h;
  std::unique_ptr<Aligned> bytes;
  std::unique_ptr<QbinFile> file;
  std::unique_ptr<QuantGraph> model;

  QuantizedCase(HandMade made, int weight_bits, int bits, const Adjust& adjust = {})
      : h(std::move(made)) {
    const std::vector<Site> sites = activation_sites(h.graph);
    std::vector<SiteRange> ranges(sites.size());
    std::vector<std::string> outputs;
    for (const Output& o : h.graph.outputs) outputs.push_back(o.name);
    Reference reference(h.graph, h.weights, 1);
    reference.run_outputs(h.input, outputs, [&](int node, Tensor& value) {
      for (size_t s = 0; s < sites.size(); s++)
        if (sites[s].node == node) ranges[s] = range_of(sites[s], value, bits);
    });
    if (adjust) adjust(sites, ranges);
    std::map<std::string, WeightCodes> codes;
    for (const Node& n : h.graph.nodes)
      if (n.kind == NodeKind::kLinear)
        codes[n.name] = quantize_weight(h.weights.at(n.weight), weight_bits);
    FloatModel whole;
    whole.info.arch = h.name;
    whole.graph = h.graph;
    whole.weights = h.weights;
    bytes = std::make_unique<Aligned>(export_model(whole, codes, ranges, {}).serialize());
    file = std::make_unique<QbinFile>(QbinFile::from_memory(bytes->bytes(), h.name));
    model = std::make_unique<QuantGraph>(*file, "main");
  }
  QuantizedCase(const std::string& name, int weight_bits, int bits, const Adjust& adjust = {})
      : QuantizedCase(hand_made_graph(name), weight_bits, bits, adjust) {}

  std::vector<std::string> output_names() const {
    std::vector<std::string> names;
    for (const Output& o : h.graph.outputs) names.push_back(o.name);
    return names;
  }
};

// A quantized graph of one map of 5 x 6 positions and 8 channels.
inline QuantizedCase planned(const std::function<void(GraphBuilder& b, int x)>& body) {
  GraphBuilder b;
  body(b, b.map("x", 8, 5, 6));
  return QuantizedCase(with_numbers(b.finish()), 8, 8);
}

// Outputs of all items, one behind the other, each [items, rows, cols].
using Results = std::vector<std::vector<float>>;

inline Results run_engine(Engine& engine, const Tensor& input) {
  const auto items = static_cast<int>(input.dims[0]);
  const int64_t size = element_count(input.dims) / items;
  Results results;
  for (const PlannedOutput& o : engine.outputs())
    results.emplace_back(static_cast<size_t>(items * o.rows * o.cols), NAN);
  for (int i = 0; i < items; i += engine.max_batch()) {
    std::vector<float*> to;
    for (size_t k = 0; k < results.size(); k++) {
      const PlannedOutput& o = engine.outputs()[k];
      to.push_back(results[k].data() + static_cast<std::ptrdiff_t>(i) * o.rows * o.cols);
    }
    engine.run(input.data.data() + i * size, std::min(engine.max_batch(), items - i), to.data());
  }
  return results;
}

inline Results run_engine(const QuantGraph& model, const EngineOptions& options,
                          const Tensor& input) {
  Engine engine(model, options);
  return run_engine(engine, input);
}

// Bit for bit, which NaN is equal to itself in.
inline bool same_bits(const Results& a, const Results& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++)
    if (a[i].size() != b[i].size() ||
        std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0)
      return false;
  return true;
}

}  // namespace vitrun
