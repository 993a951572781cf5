// Small graphs built by hand, at least one of each kind of node, with the inputs, parameters and
// results of golden/make_graphs.py, which computes the same graphs on its own.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>

#include "models/graph/builder.h"
#include "runtime/files/npy.h"

namespace vitrun {

inline const std::string kHandMade = VITRUN_TEST_DIR "/golden/graphs/";

// A golden's content, and the graph it is of.
struct HandMade {
  std::string name;
  Graph graph;
  Weights weights;
  Tensor input;                 // of two items
  std::vector<Tensor> outputs;  // [2, rows, cols]
  Tensor gradient, relevance;   // at the first item; of `deep` every 49th element
};

namespace hand_made {

using B = GraphBuilder;
using enum ElementOrder;
constexpr Attribute kWindowPad = Attribute::kPadToWindow;

inline int conv(B& b, int x, const std::string& name, int n, int k, int stride, int padding,
                ElementOrder order = kChannelsFirst, bool ceil = false) {
  return b.linear(b.window(x, name + ".window", k, stride, order, padding, ceil), name, n);
}

inline int transposed(B& b, int x, const std::string& name, int n, int k, int stride, int padding) {
  return b.unwindow(b.linear(x, name, k * k * n, false), name + ".sum", k, stride, padding);
}

inline void end(B& b, int node) {
  b.output("out", node);
}

// Ends with a Linear, so that what comes before it is quantized.
inline void end_linear(B& b, int node, int n = 4) {
  end(b, b.linear(node, "last", n));
}

// q, k and v of `dim` columns each, side by side or apart.
inline B::Attention heads_of(int heads, int head_dim) {
  B::Attention a;
  a.heads = heads;
  a.head_dim = head_dim;
  return a;
}
inline B::Attention side_by_side(int heads, int head_dim) {
  B::Attention a = heads_of(heads, head_dim);
  a.key_begin = heads * head_dim;
  a.value_begin = 2 * heads * head_dim;
  return a;
}

inline void resize(B& b, int x, bool bilinear, int height, int width) {
  end_linear(b, b.resize(x, "resize", bilinear, height, width));
}

inline void act(B& b, int x, ActType type, double limit = 0) {
  const int y = b.act(b.linear(x, "fc1", 8), "act", type);
  if (limit > 0) b.set(y, Attribute::kLimit, limit);
  end_linear(b, y);
}

inline void rope(B& b, int x, bool neighbours) {
  const int table = b.constant("angles", {6, 6});
  const int y = b.rope(b.linear(x, "qkv", 36), table, "rope", 6, neighbours, 0, 24);
  end_linear(b, b.attention(y, y, y, "attn", side_by_side(2, 6)), 5);
}

inline void rope_by_head(B& b, int x) {
  const int table = b.constant("angles", {6, 12});
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  const int turned = b.rope(q, table, "rope", 6, true, 0, 12);
  end_linear(b, b.attention(turned, k, v, "attn", heads_of(2, 6)), 5);
}

// A token and a map of 2 x 3.
inline void grid(B& b, int x) {
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  B::Attention a = heads_of(2, 6);
  a.grid_height = 2;
  a.grid_width = 3;
  end_linear(b, b.attention(q, k, v, "attn", a), 5);
}

inline void windows(B& b, int x, int shift) {
  const int qkv = b.linear(x, "qkv", 36);
  b.set(qkv, kWindowPad, 3);
  B::Attention a = side_by_side(2, 6);
  a.window = 3;
  a.shift = shift;
  a.bias_entries = 25;
  end_linear(b, b.attention(qkv, qkv, qkv, "attn", a), 5);
}

inline void cosines(B& b, int x) {
  const int qkv = b.linear(x, "qkv", 36);
  b.set(qkv, kWindowPad, 3);
  const int qk = b.norm_columns(qkv, "qk", NormType::kL2, 1e-12f, 6, 0, 24);
  B::Attention a = side_by_side(2, 6);
  a.window = 3;
  a.shift = 1;
  a.pad_first = true;
  end_linear(b, b.attention(qk, qk, qkv, "attn", a), 5);
}

inline void attention(B& b, int x, int rows, bool with_bias, bool causal) {
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  B::Attention a = heads_of(2, 6);
  if (with_bias) a.bias = b.constant("bias", {2, rows, rows});
  a.causal = causal;
  end_linear(b, b.attention(q, k, v, "attn", a), 5);
}

inline void attention_act(B& b, int x) {
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  const int mixed = b.attention(q, k, v, "attn", heads_of(2, 6));
  end_linear(b, b.act(mixed, "act", ActType::kGelu), 5);
}

inline void cross(B& b, int x) {
  const int few = b.slice(x, "few", 1, 4);
  const int q = b.linear(few, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  end_linear(b, b.attention(q, k, v, "attn", heads_of(2, 6)), 5);
}

inline void sizes(B& b, int x) {
  const int y = conv(b, b.act(conv(b, x, "conv1", 6, 3, 1, 1), "act", ActType::kRelu), "conv2", 4,
                     3, 2, 1, kRowsFirst);
  b.output("map", y);
  b.output("mean", b.linear(b.pool(y, "pool"), "last", 3));
}

inline void three_outputs(B& b, int x) {
  const int y = b.linear(x, "first", 6);
  b.output("first", y);
  b.output("second", b.linear(b.act(b.linear(y, "fc1", 8), "act", ActType::kGelu), "fc2", 3));
  b.output("third", b.pool(y, "pool"));
}

// Appends the nodes behind input x, which has `c` channels.
using Body = std::function<void(B& b, int x)>;

inline const std::map<std::string, Body>& bodies() {
  static const std::map<std::string, Body> all = {
      {"conv", [](B& b, int x) { end(b, conv(b, x, "conv", 6, 3, 1, 1)); }},
      {"conv_stride", [](B& b, int x) { end(b, conv(b, x, "conv", 6, 3, 2, 1, kRowsFirst)); }},
      {"conv_merging",
       [](B& b, int x) { end(b, conv(b, x, "conv", 6, 2, 2, 0, kColumnsFirst, true)); }},
      {"conv_image", [](B& b, int x) { end_linear(b, conv(b, x, "conv", 5, 3, 2, 1)); }},
      {"transposed2", [](B& b, int x) { end(b, transposed(b, x, "up", 3, 2, 2, 0)); }},
      {"transposed4", [](B& b, int x) { end_linear(b, transposed(b, x, "up", 3, 4, 2, 1)); }},
      {"max_pool", [](B& b, int x) { end_linear(b, b.pool_windows(x, "pool", true, 3, 2, 1)); }},
      {"mean_pool", [](B& b, int x) { end_linear(b, b.pool_windows(x, "pool", false, 2, 2)); }},
      {"mean_pool_padded",
       [](B& b, int x) { end(b, b.pool_windows(b.linear(x, "fc", 4), "pool", false, 3, 2, 1)); }},
      {"pool_rows",
       [](B& b, int x) {
         const int y = b.linear(x, "fc", 4), mean = b.pool(y, "mean"), top = b.pool(y, "max", true);
         end_linear(b, b.concat({mean, top}, "both", 1), 3);
       }},
      {"nearest_up", [](B& b, int x) { resize(b, x, false, 7, 9); }},
      {"nearest_down", [](B& b, int x) { resize(b, x, false, 3, 4); }},
      {"bilinear_up", [](B& b, int x) { resize(b, x, true, 7, 9); }},
      {"bilinear_down", [](B& b, int x) { resize(b, x, true, 3, 4); }},
      {"resize_like",
       [](B& b, int x) {
         const int small = b.linear(b.pool_windows(x, "pool", true, 2, 2), "small", 5);
         const int large = b.linear(x, "large", 5);
         end_linear(b, b.add(large, b.resize_like(small, x, "resize", false), "add"));
       }},
      {"concat_rows",
       [](B& b, int x) {
         const int a = b.linear(x, "a", 6), c = b.linear(b.slice(x, "slice", 2, 7), "b", 6);
         const int prefix = b.constant("prefix", {2, 6});
         end_linear(b, b.concat({prefix, a, c}, "concat"));
       }},
      {"concat_columns",
       [](B& b, int x) {
         const int a = b.linear(x, "a", 6), c = b.linear(x, "b", 3);
         end_linear(b, b.concat({a, x, c}, "concat", 1));
       }},
      {"slice_rows",
       [](B& b, int x) { end_linear(b, b.slice(b.linear(x, "fc", 6), "slice", 1, 4)); }},
      {"slice_columns",
       [](B& b, int x) { end_linear(b, b.slice(b.linear(x, "fc", 9), "slice", 2, 7, 1)); }},
      {"swiglu",
       [](B& b, int x) {
         const int gate = b.linear(x, "gate", 10), up = b.linear(x, "up", 10);
         end_linear(b, b.mul(b.act(gate, "act", ActType::kSilu), up, "mul"), 6);
       }},
      {"layer_scale",
       [](B& b, int x) {
         const int y = b.linear(x, "fc", 5), gamma = b.constant("gamma", {5});
         end_linear(b, b.add(x, b.mul(y, gamma, "scale"), "add"));
       }},
      {"gated",
       [](B& b, int x) {
         const int y = b.linear(x, "fc", 6);
         const int gate = b.act(b.linear(b.pool(y, "pool"), "gate", 6), "act", ActType::kSigmoid);
         end_linear(b, b.mul(y, gate, "mul"));
       }},
      {"constant_first",
       [](B& b, int x) {
         const int one = b.constant("shift", {6, 6});
         const int y = b.add(one, b.linear(x, "fc", 6), "add");
         end_linear(b, b.mul(b.constant("factor", {6, 6}), y, "mul"));
       }},
      {"gelu", [](B& b, int x) { act(b, x, ActType::kGelu); }},
      {"gelu_tanh", [](B& b, int x) { act(b, x, ActType::kGeluTanh); }},
      {"quick_gelu", [](B& b, int x) { act(b, x, ActType::kQuickGelu); }},
      {"silu", [](B& b, int x) { act(b, x, ActType::kSilu); }},
      {"relu", [](B& b, int x) { act(b, x, ActType::kRelu); }},
      {"sigmoid", [](B& b, int x) { act(b, x, ActType::kSigmoid); }},
      {"relu_limit", [](B& b, int x) { act(b, x, ActType::kRelu, 0.75); }},
      {"norm_layer", [](B& b, int x) { end_linear(b, b.layernorm(x, "norm", 1e-6f)); }},
      {"tanh", [](B& b, int x) { act(b, x, ActType::kTanh); }},
      {"norm_layer_group",
       [](B& b, int x) { end_linear(b, b.norm(x, "norm", NormType::kLayer, 1e-6f, 4)); }},
      {"norm_rms_group",
       [](B& b, int x) { end_linear(b, b.norm(x, "norm", NormType::kRms, 1e-6f, 4)); }},
      {"norm_rms", [](B& b, int x) { end_linear(b, b.norm(x, "norm", NormType::kRms, 1e-6f)); }},
      {"norm_l2", [](B& b, int x) { end_linear(b, b.norm(x, "norm", NormType::kL2, 1e-12f, 4)); }},
      {"norm_columns",
       [](B& b, int x) {
         const int y = b.linear(x, "fc", 12);
         end_linear(b, b.norm_columns(y, "norm", NormType::kL2, 1e-12f, 4, 2, 10));
       }},
      {"rope_half", [](B& b, int x) { rope(b, x, false); }},
      {"rope_neighbours", [](B& b, int x) { rope(b, x, true); }},
      {"rope_by_head", rope_by_head},
      {"attention_grid", grid},
      {"attention_act", attention_act},
      {"attention_cross", cross},
      {"attention_bias", [](B& b, int x) { attention(b, x, 7, true, false); }},
      {"attention_causal", [](B& b, int x) { attention(b, x, 7, false, true); }},
      {"attention_windows", [](B& b, int x) { windows(b, x, 0); }},
      {"attention_shifted", [](B& b, int x) { windows(b, x, 1); }},
      {"attention_cosines", cosines},
      {"add_linear_first",
       [](B& b, int x) { end_linear(b, b.add(b.linear(x, "fc", 5), x, "add")); }},
      {"add_earlier_first",
       [](B& b, int x) { end_linear(b, b.add(x, b.linear(x, "fc", 5), "add")); }},
      {"add_linears",
       [](B& b, int x) {
         const int y = b.linear(x, "a", 6), z = b.linear(x, "b", 6);
         end_linear(b, b.add(y, z, "half", 0.5f));
         b.output("sum", b.add(z, y, "add"));
       }},
      {"two_readers",
       [](B& b, int x) {
         const int y = b.act(b.linear(x, "fc", 8), "act", ActType::kGelu);
         const int first = b.linear(y, "a", 5);
         end(b, b.add(first, b.linear(y, "b", 5), "add"));
       }},
      {"outputs3", three_outputs},
      {"sizes", sizes},
      {"sizes_other", sizes},
      {"deep", [](B& b, int x) { end(b, b.linear(x, "fc", 3, false)); }},
  };
  return all;
}

inline Tensor deep_input() {
  Tensor x({2, 1, 1, 12544});
  for (size_t i = 0; i < x.data.size(); i++)
    x.data[i] = static_cast<float>(static_cast<int>(i * 7919 % 2003) - 1001) / 1024;
  return x;
}

inline Tensor deep_weight() {
  Tensor w({3, 12544});
  for (size_t i = 0; i < w.data.size(); i++)
    w.data[i] = static_cast<float>(static_cast<int>(i * 104729 % 3001) - 1500) / 65536;
  return w;
}

// The pixels' scale and shift come before the other parameters.
inline void scale_image(Graph& graph, int channels) {
  graph[0].weight = "pixel.weight";
  graph[0].bias = "pixel.bias";
  graph.params.insert(graph.params.begin(),
                      {{"pixel.weight", {channels}}, {"pixel.bias", {channels}}});
}

inline Weights read_params(const Graph& graph, const std::string& name) {
  const Tensor all = read_npy(kHandMade + name + ".params.npy");
  Weights weights;
  size_t next = 0;
  for (const Param& p : graph.params) {
    Tensor& t = weights[p.name] = Tensor(p.dims);
    REQUIRE(next + t.data.size() <= all.data.size());
    std::copy_n(all.data.begin() + static_cast<std::ptrdiff_t>(next), t.data.size(),
                t.data.begin());
    next += t.data.size();
  }
  REQUIRE(next == all.data.size());
  return weights;
}

}  // namespace hand_made

inline std::vector<std::string> hand_made_names() {
  std::vector<std::string> names;
  for (const auto& [name, body] : hand_made::bodies()) names.push_back(name);
  return names;
}

inline HandMade hand_made_graph(const std::string& name) {
  HandMade h;
  h.name = name;
  const bool deep = name == "deep", image = name == "conv_image";
  h.input = deep ? hand_made::deep_input() : read_npy(kHandMade + name + ".input.npy");
  const auto side = [&](int i) { return static_cast<int>(at(h.input.dims, i)); };
  GraphBuilder b;
  const int x = image ? b.image(side(1), side(2), side(3)) : b.map("x", side(3), side(1), side(2));
  hand_made::bodies().at(name)(b, x);
  h.graph = b.finish();
  if (image) hand_made::scale_image(h.graph, side(1));
  if (deep)
    h.weights["fc.weight"] = hand_made::deep_weight();
  else
    h.weights = hand_made::read_params(h.graph, name);
  for (int i = 0; i < count_of(h.graph.outputs); i++)
    h.outputs.push_back(read_npy(kHandMade + name + ".output" + std::to_string(i) + ".npy"));
  h.gradient = read_npy(kHandMade + name + ".gradient.npy");
  h.relevance = read_npy(kHandMade + name + ".relevance.npy");
  return h;
}

// The largest difference, relative to the largest value wanted. Of `got` as many elements are
// looked at, evenly spaced, as are wanted.
template <class Got, class Want>
double difference_of(const Got& got, const Want& want) {
  REQUIRE(got.size() % want.size() == 0);
  const size_t step = got.size() / want.size();
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); i++) {
    worst = std::max(worst, std::fabs(double{got[i * step]} - double{want[i]}));
    largest = std::max(largest, std::fabs(double{want[i]}));
  }
  return worst / largest;
}

}  // namespace vitrun
