// Nodes in places that no golden graph has, in integers against the float engine.
#include <doctest/doctest.h>

#include "tests/runtime/integer/compare_engines.h"

namespace vitrun {
namespace {

using B = GraphBuilder;

QuantizedCase made(const std::function<void(B& b)>& body, const Adjust& adjust = {}) {
  B b;
  body(b);
  return QuantizedCase(with_numbers(b.finish()), 8, 8, adjust);
}

// Both engines, and all rows against those that the outputs need.
void check(const QuantizedCase& q) {
  CHECK(compare(q).agrees());
  for (const std::string& output : q.output_names()) {
    CAPTURE(output);
    const Results all = run_engine(*q.model, {.all_rows = true, .outputs = {output}}, q.h.input);
    for (int threads : {1, 3})
      CHECK(
          same_bits(run_engine(*q.model, {.threads = threads, .max_batch = 2, .outputs = {output}},
                               q.h.input),
                    all));
  }
}

TEST_CASE("an image: neighbourhoods in any order, padding of scaled pixels, two readers") {
  for (const ElementOrder order :
       {ElementOrder::kChannelsFirst, ElementOrder::kRowsFirst, ElementOrder::kColumnsFirst})
    for (int padding : {0, 1})
      for (bool scaled : {false, true}) {
        CAPTURE(static_cast<int>(order));
        CAPTURE(padding);
        CAPTURE(scaled);
        B b;
        const int window = b.window(b.image(3, 9, 7), "patches", 3, 2, order, padding);
        b.output("a", b.linear(window, "a", 5));
        b.output("b", b.linear(window, "b", 4));
        Graph graph = b.finish();
        if (scaled) hand_made::scale_image(graph, 3);
        check(QuantizedCase(with_numbers(std::move(graph)), 8, 8, widen_second));
      }
}

TEST_CASE("an embedding of which an output needs only the first rows") {
  for (bool before : {true, false})
    for (int rows : {1, 2, 5})
      check(made([&](B& b) {
        int y = b.linear(b.map("x", 8, 3, 4), "embed", 6);
        const int positions = b.constant("positions", {before ? 12 : 14, 6});
        const int tokens = b.constant("tokens", {2, 6});
        if (before) y = b.add(y, positions, "add");
        y = b.concat({tokens, y}, "concat");
        if (!before) y = b.add(y, positions, "add");
        b.output("out", b.linear(b.slice(y, "slice", 0, rows), "fc", 4));
        b.output("all", b.linear(y, "all", 4));
      }));
}

TEST_CASE("one softmax for two values, of whose results different rows are needed") {
  B b;
  const int x = b.map("x", 8, 1, 9), qkv = b.linear(x, "qkv", 32);
  B::Attention a = hand_made::side_by_side(2, 4);
  const int first = b.attention(qkv, qkv, qkv, "attn", a);
  const int last = b.linear(b.slice(b.linear(first, "a", 6), "token", 0, 1), "token_out", 4);
  b.output("token", last);
  Graph graph = b.finish();
  Node mix = graph[first];
  mix.name = "other";
  mix.attributes[Attribute::kValueBegin] = 24;
  graph.nodes.push_back(mix);
  Node linear = graph[graph.find("a")];
  linear.name = linear.unit = "b";
  linear.in = {graph.size() - 1};
  linear.weight = "b.weight";
  linear.bias = "b.bias";
  graph.nodes.push_back(linear);
  graph.params.push_back({"b.weight", {6, 8}});
  graph.params.push_back({"b.bias", {6}});
  graph.outputs.push_back({"rows", graph.size() - 1});
  const QuantizedCase q(with_numbers(std::move(graph)), 8, 8);
  check(q);
  CHECK(
      same_bits(run_engine(*q.model, {.threads = 2, .outputs = {"token", "rows"}}, q.h.input),
                run_engine(*q.model, {.all_rows = true, .outputs = {"token", "rows"}}, q.h.input)));
}

TEST_CASE("constants as queries, and as what a Linear reads") {
  check(made([](B& b) {
    const int x = b.map("x", 8, 2, 5), queries = b.constant("queries", {3, 8});
    const int q = b.linear(queries, "q", 8), k = b.linear(x, "k", 8), v = b.linear(x, "v", 8);
    const int y = b.attention(q, k, v, "attn", hand_made::heads_of(2, 4));
    const int sum = b.add(b.linear(y, "proj", 8), queries, "add");
    b.output("out", b.linear(sum, "head", 4));
    b.output("queries", q);
  }));
}

TEST_CASE("convolutions that end in GELU, in a sum, in few rows") {
  check(made([](B& b) {
    const int x = b.map("x", 8, 6, 5);
    const int y = b.act(hand_made::conv(b, x, "conv1", 8, 3, 1, 1), "act", ActType::kGelu);
    const int sum =
        b.add(x, hand_made::conv(b, y, "conv2", 8, 3, 1, 1, ElementOrder::kRowsFirst), "add");
    b.output("map", b.linear(sum, "fc", 4));
    b.output("row", hand_made::conv(b, sum, "conv3", 4, 5, 5, 0, ElementOrder::kRowsFirst));
  }));
}

TEST_CASE("a limit on an activation that is no operand stays") {
  check(made([](B& b) {
    const int x = b.map("x", 8, 1, 6), act = b.act(b.linear(x, "fc", 8), "act", ActType::kGelu);
    b.set(act, Attribute::kLimit, 0.25);
    b.output("out", b.linear(b.mul(act, x, "mul"), "last", 4));
    b.output("act", act);
  }));
}

TEST_CASE("0 must have a code where a convolution reads outside of its map") {
  const Adjust without_zero = [](const std::vector<Site>&, std::vector<SiteRange>& ranges) {
    ranges[0].range.zero = 16;  // of 4 bits
  };
  const QuantizedCase q("conv", 8, 4, without_zero);
  CHECK(contains(error_of([&] { make_plan(*q.model, {}); }), "0 has no code"));
}

TEST_CASE("a convolution takes no rows of ranges of their own") {
  const Adjust by_row = [](const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
    CHECK(!may_go_by_row(hand_made_graph("conv").graph, infer_shapes(hand_made_graph("conv").graph),
                         sites[0]));
    ranges[0] = {.bits = 8, .group = 16};
  };
  const QuantizedCase q("conv", 8, 8, by_row);
  CHECK(contains(error_of([&] { make_plan(*q.model, {}); }), "reads rows of one range"));
}

}  // namespace
}  // namespace vitrun
