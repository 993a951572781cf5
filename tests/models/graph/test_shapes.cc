// The shapes of values: of hand-made graphs, and what infer_shapes() refuses, with its reason.
#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "tests/models/graph/hand_made.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

using B = GraphBuilder;
using A = Attribute;

TEST_CASE("the shapes of hand-made graphs' outputs are those of PyTorch's") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const HandMade h = hand_made_graph(name);
    const bool image = name == "conv_image";
    const auto side = [&](int i) { return static_cast<int>(at(h.input.dims, i)); };
    const Shapes shapes = infer_shapes(h.graph, {{side(image ? 2 : 1), side(image ? 3 : 2)}});
    CHECK(count_of(shapes.values) == h.graph.size());
    for (size_t i = 0; i < h.outputs.size(); i++) {
      const Shape& s = shapes[h.graph.outputs[i].node];
      CHECK(Dims{2, s.rows, s.cols} == h.outputs[i].dims);
      CHECK((s.height == 0 || s.height * s.width == s.rows));
    }
  }
}

// A graph of one map `x` of 6 x 4 positions and 8 channels, and the node that `body` puts behind
// it.
struct Built {
  Graph graph;
  int last;
};
Built built(const std::function<int(B& b, int x)>& body) {
  B b;
  const int x = b.map("x", 8, 6, 4);
  const int last = body(b, x);
  b.output("out", last);
  return {b.finish(), last};
}
// Two helpers give the shape, and the reason where there is none.
Shape shape_of(const std::function<int(B& b, int x)>& body) {
  const Built g = built(body);
  return infer_shapes(g.graph)[g.last];
}
std::string why(const Graph& graph, const std::vector<MapSize>& sizes = {}) {
  return error_of([&] { infer_shapes(graph, sizes); });
}
std::string why(const std::function<int(B& b, int x)>& body) {
  return why(built(body).graph);
}
// The same once the last node has another attribute.
std::string why_with(A attribute, double value, const std::function<int(B& b, int x)>& body) {
  Built g = built(body);
  g.graph[g.last].attributes[attribute] = value;
  return why(g.graph);
}

#define CHECK_WHY(message, part)      \
  do {                                \
    const std::string text = message; \
    CAPTURE(text);                    \
    CHECK(contains(text, part));      \
  } while (false)

int conv3(B& b, int x) {
  return b.window(x, "window", 3, 1, ElementOrder::kRowsFirst);
}

TEST_CASE("neighbourhoods: how many, with padding, stride and the last one behind the map") {
  const auto size = [](int kernel, int stride, int padding, bool ceil) {
    const Shape s = shape_of([&](B& b, int x) {
      return b.window(x, "window", kernel, stride, ElementOrder::kRowsFirst, padding, ceil);
    });
    CHECK(s.cols == kernel * kernel * 8);
    CHECK(s.rows == s.height * s.width);
    return MapSize{s.height, s.width};
  };
  CHECK(size(3, 1, 0, false) == MapSize{4, 2});  // (6 - 3) / 1 + 1, (4 - 3) / 1 + 1
  CHECK(size(3, 1, 1, false) == MapSize{6, 4});
  CHECK(size(3, 2, 1, false) == MapSize{3, 2});
  CHECK(size(4, 4, 0, false) == MapSize{1, 1});
  CHECK(size(4, 4, 0, true) == MapSize{2, 1});
  CHECK(size(5, 1, 0, true) == MapSize{2, 1});  // wider than the map, which has one position
  CHECK(window_positions(6, 3, 2, 1, false) == 3);
  CHECK(window_positions(int64_t{1} << 40, 1, 1, 0, false) == int64_t{1} << 40);
}

TEST_CASE("a graph that is none: forward, own and dangling inputs, wrong counts, outputs") {
  const auto with_input = [](std::vector<int> in) {
    Built g = built([](B& b, int x) {
      return b.act(b.act(x, "first", ActType::kRelu), "second", ActType::kRelu);
    });
    g.graph[1].in = std::move(in);
    return why(g.graph);
  };
  CHECK(with_input({0}) == "no error");
  CHECK_WHY(with_input({2}), "act 'first': reads node 2, which does not come before it");
  CHECK_WHY(with_input({1}), "reads node 1");
  CHECK_WHY(with_input({-1}), "reads node -1");
  CHECK_WHY(with_input({1 << 30}), "does not come before it");
  CHECK_WHY(with_input({}), "has 0 inputs, expected 1 to 1");
  CHECK_WHY(with_input({0, 0}), "has 2 inputs, expected 1 to 1");
  for (int node : {-1, 2, 1 << 30}) {
    Built g = built([](B& b, int x) { return b.act(x, "act", ActType::kRelu); });
    g.graph.outputs[0].node = node;
    CHECK_WHY(why(g.graph), "output 'out' is node");
  }
  // A softmax without inputs behind scores, which look for the softmax that reads them.
  Built g = built([](B& b, int x) { return b.attention(x, x, x, "attn", {}); });
  g.graph[g.graph.find("attn.attn")].in.clear();
  CHECK_WHY(why(g.graph), "softmax 'attn.attn': has 0 inputs");
}

TEST_CASE("inputs: sizes, how many of them, scale and shift") {
  const Graph map = built(conv3).graph;
  CHECK(why(map, {{3, 3}}) == "no error");
  CHECK_WHY(why(map, {{3, 2}}), "a kernel of 3 x 3 on a map of 3 x 2");
  CHECK_WHY(why(map, {{0, 3}}), "a size of 0 x 3, expected 1 to 32768");
  CHECK_WHY(why(map, {{3, 40000}}), "expected 1 to 32768");
  CHECK_WHY(why(map, {{3, 3}, {3, 3}}), "the graph has 1 inputs, 2 sizes were given");
  for (const auto& [attribute, value] : {std::pair{A::kChannels, 0.},
                                         {A::kHeight, 0.},
                                         {A::kWidth, 1e9},
                                         {A::kHeight, 2.5},
                                         {A::kPlanar, 2.},
                                         {A::kWidth, std::numeric_limits<double>::quiet_NaN()}}) {
    Graph g = map;
    g[0].attributes[attribute] = value;
    CHECK_WHY(why(g), "expected a whole number from");
  }
  Graph scaled = map;
  hand_made::scale_image(scaled, 8);
  CHECK_WHY(why(scaled), "a map has a weight, which only images have");
  scaled[0].attributes[A::kPlanar] = 1;
  CHECK(why(scaled) == "no error");
  scaled[0].bias.clear();
  CHECK_WHY(why(scaled), "has a weight without a bias");
  scaled.params[0].dims = {7};
  CHECK_WHY(why(scaled), "'pixel.weight' is [7], expected [8]");
  B b;
  b.output("out", b.linear(b.image(3, 8, 8), "fc", 2));
  CHECK_WHY(why(b.finish()), "reads an image as it is, which only window does");
}

TEST_CASE("constants") {
  const auto constant = [](const Dims& dims) {
    return [dims](B& b, int) { return b.constant("c", dims); };
  };
  CHECK(shape_of(constant({1, 1, 5, 3})).rows == 5);
  CHECK(shape_of(constant({2, 5, 3})).groups == 2);
  CHECK(shape_of(constant({3})).rows == 1);
  CHECK_WHY(why(constant({2, 2, 5, 3})), "'c' is [2, 2, 5, 3]");
  CHECK_WHY(why(constant({0, 3})), "a value of 1 x 0 x 3, expected 1 to");
  CHECK_WHY(why(constant({int64_t{1} << 40, 3})), "expected 1 to 16777216 along each");
  Built g = built(constant({6, 3}));
  g.graph[g.last].attributes = {{A::kHeight, 2}, {A::kWidth, 2}};
  CHECK_WHY(why(g.graph), "its map of 2 x 2 has not its 6 rows");
  g.graph.params.clear();
  CHECK_WHY(why(g.graph), "its parameter 'c' is not listed");
}

TEST_CASE("windows, and values added where they overlap") {
  CHECK_WHY(why([](B& b, int x) { return conv3(b, b.slice(x, "slice", 0, 4)); }),
            "its input is no map of positions");
  CHECK_WHY(why([](B& b, int x) { return b.window(x, "w", 7, 1, ElementOrder::kRowsFirst); }),
            "a kernel of 7 x 7 on a map of 6 x 4");
  CHECK_WHY(why_with(A::kPadding, 3, conv3), "padding is 3, expected a whole number from 0 to 2");
  CHECK_WHY(why_with(A::kStride, 0, conv3), "stride is 0");
  CHECK_WHY(why_with(A::kOrder, 3, conv3), "order is 3");
  CHECK_WHY(why_with(A::kKernelHeight, 0, conv3), "kernel_height is 0");
  CHECK_WHY(why_with(A::kKernelWidth, 4096, conv3), "kernel_width is 4096");
  // 1024 x 1024 x 32 columns are more than any value has.
  CHECK_WHY(why([](B& b, int x) {
              return b.window(b.resize(b.linear(x, "fc", 32), "large", false, 1024, 1024), "w",
                              1024, 1, ElementOrder::kRowsFirst);
            }),
            "a value of 1 x 1 x 33554432");
  const auto up = [](B& b, int x) { return b.unwindow(x, "up", 2, 2); };
  CHECK(shape_of(up).height == 12);
  CHECK(shape_of(up).cols == 2);
  CHECK_WHY(why([](B& b, int x) { return b.unwindow(x, "up", 3, 2); }),
            "8 columns are no neighbourhoods of 3 x 3");
  CHECK_WHY(why_with(A::kStride, 3, up), "stride is 3");
  CHECK_WHY(why_with(A::kPadding, 1, up), "padding is 1");
}

TEST_CASE("linears and norms") {
  const auto linear = [](B& b, int x) { return b.linear(x, "fc", 5); };
  const auto with_dims = [&](int param, const Dims& dims) {
    Built g = built(linear);
    at(g.graph.params, param).dims = dims;
    return why(g.graph);
  };
  CHECK(with_dims(0, {5, 2, 2, 2}) == "no error");
  CHECK_WHY(with_dims(0, {5, 9}), "'fc.weight' is [5, 9], its input has 8 columns");
  CHECK_WHY(with_dims(0, {40}), "'fc.weight' is [40]");
  CHECK_WHY(with_dims(0, {5, int64_t{1} << 40, int64_t{1} << 40}), "'fc.weight' is [5, ");
  CHECK_WHY(with_dims(0, {0, 8}), "'fc.bias' is [5], expected [0]");
  CHECK_WHY(with_dims(1, {6}), "'fc.bias' is [6], expected [5]");
  CHECK_WHY(why_with(A::kPadToWindow, -1, linear), "pad_to_window is -1");
  CHECK_WHY(why_with(A::kPadToWindow, 4,
                     [&](B& b, int x) { return linear(b, b.slice(x, "slice", 0, 5)); }),
            "its input is no map");
  CHECK_WHY(why([](B& b, int x) {  // 4096 x 4096 rows of 2048 floats
              return b.linear(b.resize(x, "large", false, 4096, 4096), "fc", 2048);
            }),
            "a value of 1 x 16777216 x 2048 is too large");

  const auto layer = [](B& b, int x) { return b.layernorm(x, "norm", 1e-6f); };
  const auto l2 = [](B& b, int x) { return b.norm(x, "norm", NormType::kL2, 1e-6f, 4); };
  CHECK(why(l2) == "no error");
  CHECK_WHY(why_with(A::kGroup, 3, l2), "groups of 3 of 8 columns");
  CHECK(why_with(A::kGroup, 4, layer) == "no error");  // each group by itself
  CHECK_WHY(why_with(A::kGroup, 16, layer), "groups of 16 of 8 columns");
  CHECK_WHY(why_with(A::kEpsilon, -1, layer), "epsilon is -1, expected 0 to 1");
  CHECK_WHY(why_with(A::kEpsilon, std::numeric_limits<double>::quiet_NaN(), layer), "epsilon is");
  CHECK_WHY(why_with(A::kType, 3, layer), "type is 3");
  Built g = built(layer);
  g.graph[g.last].bias.clear();
  CHECK_WHY(why(g.graph), "a layer norm needs a weight and a bias");
}

TEST_CASE("activations, sums and products") {
  const auto act = [](B& b, int x) { return b.act(x, "act", ActType::kSilu); };
  CHECK_WHY(why_with(A::kType, 7, act), "type is 7");
  CHECK_WHY(why_with(A::kLimit, -1, act), "limit is -1");
  const auto product = [](const Dims& dims) {
    return [dims](B& b, int x) { return b.mul(x, b.constant("c", dims), "mul"); };
  };
  for (const Dims& dims : {Dims{24, 8}, {1, 8}, {24, 1}, {1, 1}})
    CHECK(why(product(dims)) == "no error");
  CHECK_WHY(why(product({24, 4})), "an operand of 24 x 4 does not fit one of 24 x 8");
  CHECK_WHY(why(product({23, 8})), "an operand of 23 x 8");
  CHECK_WHY(why([](B& b, int x) {
              return b.add(b.constant("c", {1, 8}), x, "add");
            }),
            "an operand of 24 x 8 does not fit one of 1 x 8");
  CHECK_WHY(why_with(A::kAlpha, 1e9, [](B& b, int x) { return b.add(x, x, "add"); }),
            "alpha is 1e+09");
}

TEST_CASE("concat, slice, resize and pool") {
  const auto both = [](int axis) {
    return [axis](B& b, int x) { return b.concat({x, b.constant("c", {2, 3})}, "concat", axis); };
  };
  CHECK_WHY(why(both(0)), "inputs of 24 x 8 and 2 x 3");
  CHECK_WHY(why(both(1)), "inputs of 24 x 8 and 2 x 3");
  CHECK_WHY(why([](B& b, int) {
              const int c = b.constant("c", {int64_t{1} << 24, 1});
              return b.concat({c, c}, "concat");
            }),
            "a value of 1 x 33554432 x 1");
  CHECK_WHY(why([](B& b, int x) { return b.concat(std::vector<int>(17, x), "concat"); }),
            "has 17 inputs, expected 1 to 16");
  CHECK_WHY(why_with(A::kAxis, 2, both(0)), "axis is 2");

  for (int axis : {0, 1}) {
    const int length = axis ? 8 : 24;
    const auto part = [&](int begin, int end) {
      return why([&](B& b, int x) { return b.slice(x, "slice", begin, end, axis); });
    };
    CHECK(part(length - 1, length) == "no error");
    CHECK_WHY(part(0, length + 1), "end is");
    CHECK_WHY(part(3, 3), "end is 3");  // empty
    CHECK_WHY(part(length, length), "begin is");
    CHECK(part(-1, length) == "no error");  // counted from the end
    CHECK(part(-length, 2) == "no error");
    CHECK_WHY(part(-1, 2), "end is 2");
    CHECK_WHY(part(-length - 1, length), "begin is");
  }

  CHECK_WHY(why([](B& b, int x) { return b.resize(x, "resize", true, 0, 3); }), "height is 0");
  CHECK_WHY(why([](B& b, int x) { return b.resize(x, "resize", true, 40000, 3); }),
            "height is 40000");
  CHECK_WHY(why([](B& b, int x) { return b.resize(x, "resize", true, 32768, 32768); }),
            "a value of 1 x 1073741824 x 8");
  CHECK_WHY(
      why([](B& b, int x) { return b.resize_like(x, b.slice(x, "s", 0, 3), "resize", true); }),
      "its input is no map");
  CHECK_WHY(why([](B& b, int x) { return b.resize(b.slice(x, "s", 0, 3), "resize", true, 2, 2); }),
            "its input is no map");

  CHECK_WHY(why([](B& b, int x) { return b.pool(x, "pool", true, 24); }), "begin is 24");
  const auto pool = [](B& b, int x) { return b.pool_windows(x, "pool", true, 1, 4); };
  CHECK(shape_of(pool).rows == 2);
  // Ceil makes the positions 0, 4 and 8 of 6: nothing is there to take the largest of.
  CHECK_WHY(why_with(A::kCeil, 1, pool), "its last neighbourhood lies outside of a map of 6 x 4");
  CHECK_WHY(why([](B& b, int x) { return b.pool_windows(x, "pool", true, 5, 1); }),
            "a kernel of 5 x 5 on a map of 6 x 4");
}

// q, k and v of two heads of 4 columns.
B::Attention two_heads() {
  return hand_made::heads_of(2, 4);
}
std::string why_attention(const std::function<void(B::Attention&)>& change) {
  return why([&](B& b, int x) {
    B::Attention a = two_heads();
    change(a);
    return b.attention(x, x, x, "attn", a);
  });
}

TEST_CASE("attention: heads, windows and their row for padding") {
  CHECK(why_attention([](B::Attention&) {}) == "no error");
  CHECK_WHY(why_attention([](B::Attention& a) { a.key_begin = 1; }),
            "scores 'attn.matmul1': 2 heads of 4 columns do not fit 8 and 8");
  CHECK_WHY(why_attention([](B::Attention& a) { a.value_begin = 1; }),
            "mix 'attn.matmul2': 2 heads of 4 columns do not fit 8");
  CHECK_WHY(why_attention([](B::Attention& a) { a.heads = 0; }), "heads is 0");
  CHECK(why_attention([](B::Attention& a) { a.window = 2; }) == "no error");
  CHECK_WHY(why_attention([](B::Attention& a) { a.window = 4; }),  // 6 x 4 is no multiple of it
            "the map is no multiple of the window and q and k have no row for padding");
  CHECK_WHY(why_attention([](B::Attention& a) { a.window = 2, a.shift = 2; }), "shift is 2");
  const auto windowed = [](int window, int pad_to, bool window_on_map) {
    return [=](B& b, int x) {
      const int y = b.linear(x, "qkv", 8);
      b.set(y, A::kPadToWindow, pad_to);
      B::Attention a = two_heads();
      a.window = window_on_map ? window : 0;
      return b.attention(y, y, y, "attn", a);
    };
  };
  CHECK(shape_of(windowed(4, 4, true)).rows == 24);
  CHECK_WHY(why(windowed(2, 4, true)), "has a row for padding, which this window does not need");
  CHECK_WHY(why(windowed(4, 4, false)), "has a row for padding and there are no windows");
  CHECK_WHY(why([](B& b, int x) {
              const int y = b.linear(x, "qkv", 8);
              b.set(y, A::kPadToWindow, 4);
              return b.act(y, "act", ActType::kRelu);
            }),
            "reads a value with a row of padding, which only attention and norms do");
  const auto maps = [](bool of_v, int rows) {
    return [=](B& b, int x) {
      const int other = rows ? b.slice(x, "rows", 0, rows) : b.resize(x, "map", false, 4, 6);
      B::Attention a = two_heads();
      a.window = 2;
      return of_v ? b.attention(x, x, other, "attn", a) : b.attention(x, other, x, "attn", a);
    };
  };
  CHECK_WHY(why(maps(false, 0)), "q and k are different maps");
  CHECK_WHY(why(maps(false, 8)), "its input is no map");
  CHECK_WHY(why(maps(true, 8)), "v is another map than q and k");
  CHECK_WHY(why([](B& b, int x) {
              B::Attention a = two_heads();
              a.window = 100;
              return b.attention(x, b.resize(x, "a", false, 128, 128), x, "attn", a);
            }),
            "different maps");
  CHECK_WHY(why([](B& b, int x) {
              const int y = b.resize(x, "large", false, 128, 128);
              B::Attention a = two_heads();
              a.window = 128;
              return b.attention(y, y, y, "attn", a);
            }),
            "windows of 128 x 128");
  CHECK_WHY(why([](B& b, int x) {
              return b.attention(x, x, b.slice(x, "s", 0, 5), "attn", two_heads());
            }),
            "v has 5 rows, k 24");
}

TEST_CASE("softmax: what is added before it, and of what it is") {
  CHECK_WHY(why_attention([](B::Attention& a) { a.bias_entries = 9; }),
            "a table of relative positions without windows");
  CHECK(why_attention([](B::Attention& a) { a.window = 2, a.bias_entries = 9; }) == "no error");
  CHECK_WHY(why_attention([](B::Attention& a) { a.window = 2, a.bias_entries = 8; }),
            "is [8, 2], expected [9, 2]");
  const auto with_bias = [](const Dims& dims, int window, int few) {
    return [=](B& b, int x) {
      B::Attention a = two_heads();
      a.bias = b.constant("bias", dims);
      a.window = window;
      return b.attention(few ? b.slice(x, "few", 0, few) : x, x, x, "attn", a);
    };
  };
  CHECK(why(with_bias({2, 24, 24}, 0, 0)) == "no error");
  CHECK(why(with_bias({24, 24}, 0, 0)) == "no error");
  CHECK(why(with_bias({2, 5, 24}, 0, 5)) == "no error");
  CHECK_WHY(why(with_bias({3, 24, 24}, 0, 0)), "a bias of 3 x 24 x 24 on scores of 2 x 24 x 24");
  CHECK_WHY(why(with_bias({2, 24, 24}, 0, 5)), "a bias of 2 x 24 x 24 on scores of 2 x 5 x 24");
  CHECK_WHY(why(with_bias({2, 4, 4}, 2, 0)), "a bias as a value, with windows");
  CHECK_WHY(why([](B& b, int x) {
              B::Attention a = two_heads();
              a.bias = b.linear(x, "fc", 24);
              return b.attention(x, x, x, "attn", a);
            }),
            "its bias is no constant");
  CHECK_WHY(why([](B& b, int x) {
              B::Attention a = two_heads();
              a.causal = true;
              return b.attention(b.slice(x, "few", 0, 5), x, x, "attn", a);
            }),
            "causal, with other queries than keys");
  Built g = built([](B& b, int x) { return b.attention(x, x, x, "attn", two_heads()); });
  g.graph[g.graph.find("attn.attn")].in = {0};
  CHECK_WHY(why(g.graph), "softmax 'attn.attn': its input comes from no scores");
  g = built([](B& b, int x) { return b.attention(x, x, x, "attn", two_heads()); });
  g.graph[g.last].in[0] = 0;
  CHECK_WHY(why(g.graph), "mix 'attn.matmul2': its input comes from no softmax");
  g = built([](B& b, int x) { return b.attention(x, x, x, "attn", two_heads()); });
  g.graph[g.last].in[1] = g.graph.find("attn.attn");
  CHECK_WHY(why(g.graph), "reads scores of 2 groups");
}

TEST_CASE("relative positions of a token and a map") {
  // Attention of the first `rows` of x with a grid, and what else `change` does.
  const auto grid = [](int rows, int height, int width, int keys = 0) {
    return [=](B& b, int x) {
      const int few = b.slice(x, "few", 0, rows);
      B::Attention a = two_heads();
      a.grid_height = height;
      a.grid_width = width;
      const int k = keys ? b.slice(x, "keys", 0, keys) : few;
      return b.attention(few, k, k, "attn", a);
    };
  };
  CHECK(why(grid(7, 2, 3)) == "no error");
  CHECK(shape_of(grid(7, 2, 3)).rows == 7);
  const Graph g = built(grid(7, 2, 3)).graph;
  CHECK(g.param("attn.relative_position_bias_table")->dims == Dims{3 * 5 + 3, 2});
  CHECK(why(grid(6, 2, 3)) == "no error");  // a map alone
  CHECK_WHY(why(grid(5, 2, 3)),
            "relative positions of a token or none and 2 x 3 others among 5 rows of q");
  CHECK_WHY(why(grid(8, 2, 3)), "among 8 rows of q and 8 of k");
  CHECK_WHY(why(grid(7, 2, 3, 6)), "among 7 rows of q and 6 of k");
  CHECK_WHY(why(grid(7, 2, 0)), "relative positions of a token or none and 2 x 0 others");
  const auto changed = [&](A attribute, double value) {
    Graph other = g;
    other[other.find("attn.matmul1")].attributes[attribute] = value;
    return why(other);
  };
  CHECK_WHY(changed(A::kHeight, -1), "height is -1");
  CHECK_WHY(changed(A::kHeight, 0), "relative positions of a token or none and 0 x 3 others");
  CHECK_WHY(changed(A::kWidth, 1e6), "width is 1e+06");
  CHECK_WHY(changed(A::kWindow, 2), "its input is no map");
  Graph none = g;
  for (A a : {A::kHeight, A::kWidth}) none[none.find("attn.matmul1")].attributes.erase(a);
  CHECK_WHY(why(none), "a table of relative positions without windows or a grid");
  Graph narrow = g;
  narrow.param("attn.relative_position_bias_table")->dims = {15, 2};
  CHECK_WHY(why(narrow), "is [15, 2], expected [18, 2]");
  // The pairs' rows as BEiT numbers them: the map's offsets, token to map, map to token, the token.
  const std::vector<int32_t> index = infer_shapes(g).attention.at(0).bias_index;
  CHECK(std::vector<int32_t>(index.begin(), index.begin() + 10) ==
        std::vector<int32_t>{17, 15, 15, 15, 15, 15, 15, 16, 7, 6});
}

TEST_CASE("rotations and codes") {
  const auto rope = [](const Dims& table, int dim, int end) {
    return [=](B& b, int x) {
      return b.rope(x, b.constant("angles", table), "rope", dim, false, 0, end);
    };
  };
  CHECK(why(rope({23, 4}, 4, 8)) == "no error");
  CHECK_WHY(why(rope({23, 3}, 3, 6)), "6 columns are no heads of 3");
  CHECK_WHY(why(rope({23, 4}, 4, 6)), "6 columns are no heads of 4");
  CHECK_WHY(why(rope({25, 4}, 4, 8)), "angles of 25 x 4 for 24 rows and heads of 4");
  CHECK(why(rope({23, 8}, 4, 8)) == "no error");  // of each head
  CHECK_WHY(why(rope({23, 12}, 4, 8)), "angles of 23 x 12 for 24 rows and heads of 4");
  CHECK_WHY(why(rope({23, 4}, 4, 12)), "end is 12");
  CHECK_WHY(why([](B& b, int x) { return b.rope(x, x, "rope", 8, false, 0, 8); }),
            "its angles are no constant");

  Built g = built([](B& b, int x) { return b.act(x, "codes", ActType::kRelu); });
  g.graph[g.last].kind = NodeKind::kQuantize;
  g.graph[g.last].attributes = {{A::kBegin, 2}, {A::kEnd, 5}};
  CHECK(infer_shapes(g.graph)[g.last].cols == 3);
  g.graph[g.last].attributes[A::kEnd] = 9;
  CHECK_WHY(why(g.graph), "end is 9");
  g = built([](B& b, int x) { return b.attention(x, x, x, "attn", two_heads()); });
  g.graph[g.last].kind = NodeKind::kQuantize;
  g.graph[g.last].in = {g.graph.find("attn.attn")};
  g.graph[g.last].attributes = {{A::kEnd, 5}};
  CHECK_WHY(why(g.graph), "takes some columns of scores");
}

}  // namespace
}  // namespace vitrun
