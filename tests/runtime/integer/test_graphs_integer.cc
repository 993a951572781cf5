// The integer engine on hand-made graphs: against the float engine on the same quantized graph, and
// against itself over ISAs, threads, batches, outputs and sizes.
#include <doctest/doctest.h>

#include <set>

#include "kernels/registry.h"
#include "tests/runtime/integer/allocations.h"
#include "tests/runtime/integer/quantized.h"

namespace vitrun {
namespace {

using B = GraphBuilder;

// Both engines multiply the same numbers. The integer engine adds them exactly; the float engine
// rounds a sum of n products by about sqrt(n) 2^-24 of its largest partial sums, which are
// themselves about sqrt(n) times a product (and the value). With the deepest n = 12,544 that is
// 7e-6; a norm or a softmax behind adds a few 2^-24.
constexpr double kFloats = 2e-5;
// So a value moves by this many steps of at most 8-bit codes, which are 1/255 of the values' range:
// it may be rounded to the other code only so near an edge.
constexpr double kEdge = 255 * kFloats;

double largest(const std::vector<float>& values) {
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
        if (!is_softmax(graph, in))
          see_move(node, column, cols, double{got} - double{want},
                   x.data[static_cast<size_t>(row * x.dims[2] + begin + column)]);
      }
      want = got;
    }
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
Comparison compare(const Quantized& q, const Tensor& input) {
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
Comparison compare(const Quantized& q) {
  return compare(q, q.h.input);
}

TEST_CASE("the integer engine equals the float engine on the quantized graph") {
  int64_t codes = 0, moved = 0;
  for (const std::string& name : hand_made_names())
    for (int weight_bits : {8, 4})
      for (int bits : {8, 4}) {
        CAPTURE(name);
        CAPTURE(weight_bits);
        CAPTURE(bits);
        const Comparison c = compare(Quantized(name, weight_bits, bits));
        CHECK(c.agrees());
        CHECK(c.codes > 0);
        CHECK(c.floats > 0);
        codes += c.codes;
        moved += c.moved;
      }
  CHECK(codes > 20000);
  CHECK(moved * 1000 < codes);
}

// A code of 8 bits is within 1/510 of its range, and so few products hardly average that: two or
// three Linears behind each other stay within some hundredths. Log codes round a probability by up
// to 2^(1/4) - 1 = 19 %.
TEST_CASE("8-bit codes stay near the float model's outputs") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const Quantized q(name, 8, 8);
    const bool attends = q.h.graph.find(NodeKind::kSoftmax) >= 0;
    const Results got = run_engine(*q.model, {.outputs = q.output_names()}, q.h.input);
    for (size_t i = 0; i < got.size(); i++)
      CHECK(difference_of(got[i], q.h.outputs[i].data) < (attends ? 0.19 : 0.04));
  }
}

// Three items, so that a batch of two leaves a rest.
Tensor three_of(const Tensor& two) {
  Tensor three = two;
  three.dims[0] = 3;
  const size_t size = two.data.size() / 2;
  for (size_t i = 0; i < size; i++) three.data.push_back(two.data[size - 1 - i]);
  return three;
}

TEST_CASE("one result for every ISA, thread count and batch, on graphs of every kind") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const Quantized q(name, 4, 8);
    const Tensor input = three_of(q.h.input);
    const Results expected = run_engine(
        *q.model, {.kernels = find_kernels("scalar"), .outputs = q.output_names()}, input);
    const Results all_rows =
        run_engine(*q.model, {.all_rows = true, .outputs = q.output_names()}, input);
    CHECK(same_bits(all_rows, expected));
    for (const Kernels* k : compiled_kernels()) {
      if (!is_supported(*k)) continue;
      const std::string isa = k->name;
      CAPTURE(isa);
      for (int threads : {1, 2, 3})
        for (int batch : {1, 2, 3}) {
          CAPTURE(threads);
          CAPTURE(batch);
          CHECK(same_bits(run_engine(*q.model,
                                     {.threads = threads,
                                      .max_batch = batch,
                                      .kernels = k,
                                      .outputs = q.output_names()},
                                     input),
                          expected));
        }
    }
  }
}

TEST_CASE("outputs by name: every subset, in any order, gives what all of them give") {
  for (const std::string name : {"outputs3", "sizes", "add_linears"}) {
    CAPTURE(name);
    const Quantized q(name, 8, 8);
    const std::vector<std::string> names = q.output_names();
    const Results all = run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input);
    Engine engine(*q.model, {.threads = 2, .max_batch = 2});
    for (size_t subset = 1; subset < size_t{1} << names.size(); subset++)
      for (bool reversed : {false, true}) {
        std::vector<std::string> some;
        Results expected;
        for (size_t k = 0; k < names.size(); k++) {
          const size_t i = reversed ? names.size() - 1 - k : k;
          if (!(subset >> i & 1)) continue;
          some.push_back(names[i]);
          expected.push_back(all[i]);
        }
        engine.select({}, some);
        CHECK(same_bits(run_engine(engine, q.h.input), expected));
        for (size_t k = 0; k < some.size(); k++) CHECK(engine.outputs()[k].name == some[k]);
      }
    CHECK(contains(error_of([&] { engine.select({}, {"none"}); }), "no output 'none'"));
  }
}

TEST_CASE("two sizes in turn equal engines of their own, and allocate nothing once each is known") {
  const Quantized q("sizes", 8, 8);
  const HandMade other = hand_made_graph("sizes_other");
  const std::vector<std::string> names = q.output_names();
  const std::vector<MapSize> sizes[] = {{{8, 10}}, {{12, 7}}};
  const Tensor* const inputs[] = {&q.h.input, &other.input};
  CHECK(compare(q, other.input).agrees());
  for (int threads : {1, 2}) {
    Engine engine(*q.model, {.threads = threads, .max_batch = 2, .outputs = names});
    Results fresh[2];
    for (int i : {0, 1}) {
      fresh[i] =
          run_engine(*q.model, {.max_batch = 2, .sizes = sizes[i], .outputs = names}, *inputs[i]);
      const int64_t bytes = engine.bytes_for(sizes[i], names);
      engine.select(sizes[i], names);
      CHECK(engine.buffer_bytes() == bytes);
      CHECK(same_bits(run_engine(engine, *inputs[i]), fresh[i]));
    }
    std::vector<float> map(fresh[0][0].size() + fresh[1][0].size()), mean(6);
    float* const to[] = {map.data(), mean.data()};
    const int64_t before = allocation_count();
    for (int round = 0; round < 3; round++)
      for (int i : {0, 1}) {
        engine.select(sizes[i], names);
        engine.run(inputs[i]->data.data(), 2, to);
      }
    CHECK(allocation_count() == before);
    CHECK(std::equal(fresh[1][0].begin(), fresh[1][0].end(), map.begin()));
    CHECK(std::equal(fresh[1][1].begin(), fresh[1][1].end(), mean.begin()));
  }
  Engine engine(*q.model, {.max_batch = 2, .outputs = names});
  CHECK(error_of([&] { engine.select({{0, 7}}, names); }) != "no error");
  CHECK(same_bits(run_engine(engine, q.h.input),
                  run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input)));
}

TEST_CASE("an engine that finds no memory for another choice goes on with the one it has") {
  const Quantized q("sizes", 8, 8);
  const HandMade other = hand_made_graph("sizes_other");
  const std::vector<std::string> names = q.output_names();
  const Results expected = run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input);
  Engine engine(*q.model, {.threads = 2, .max_batch = 2, .outputs = names});
  const std::vector<MapSize> larger = {{60, 70}};
  int failures = 0;
  for (bool failed = true; failed; failures += failed) {
    fail_allocation_in(failures);
    try {
      engine.select(larger, names);
      failed = false;
    } catch (const std::bad_alloc&) {
    }
    fail_allocation_in(-1);
    if (failed) CHECK(same_bits(run_engine(engine, q.h.input), expected));
  }
  CHECK(failures > 20);
  CHECK(engine.buffer_bytes() == engine.bytes_for(larger, names));
  engine.select({{12, 7}}, names);
  CHECK(same_bits(
      run_engine(engine, other.input),
      run_engine(*q.model, {.max_batch = 2, .sizes = {{12, 7}}, .outputs = names}, other.input)));
}

// The second of the sites of one value gets a coarser range.
void widen_second(const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
  std::set<int> seen;
  for (size_t s = 0; s < sites.size(); s++)
    if (!seen.insert(sites[s].node).second && !sites[s].softmax)
      ranges[s].range = {ranges[s].range.scale * 1.7f, ranges[s].range.zero / 2 + 10};
}

TEST_CASE("readers of one value may have scales of their own") {
  for (const std::string name : {"two_readers", "swiglu", "attention_bias", "attention_cross",
                                 "rope_half", "add_linears", "concat_columns"}) {
    CAPTURE(name);
    const Quantized q(name, 8, 8, widen_second);
    const Comparison c = compare(q);
    CHECK(c.agrees());
    const Results expected = run_engine(*q.model, {.kernels = find_kernels("scalar")}, q.h.input);
    CHECK(same_bits(run_engine(*q.model, {.threads = 3}, q.h.input), expected));
  }
}

// q, k and v get a range for each of the two heads.
void by_head(const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
  for (size_t s = 0; s < sites.size(); s++)
    if (sites[s].name.find(".matmul") != std::string::npos)
      ranges[s].heads = {ranges[s].range, {ranges[s].range.scale * 0.8f, ranges[s].range.zero + 3}};
}

TEST_CASE("ranges by head, of a Linear's columns and of values that are rotated first") {
  for (const std::string name :
       {"attention_bias", "attention_shifted", "rope_half", "rope_neighbours"}) {
    CAPTURE(name);
    const Quantized q(name, 8, 8, by_head);
    int64_t with_heads = 0;
    for (int i = 0; i < q.model->graph.size(); i++)
      if (q.model->graph.is(i, NodeKind::kQuantize))
        with_heads += !q.model->quantizer(i).heads.empty();
    CHECK(with_heads == 3);
    const Results expected = run_engine(*q.model, {.kernels = find_kernels("scalar")}, q.h.input);
    for (const Kernels* k : compiled_kernels())
      if (is_supported(*k))
        for (int threads : {1, 3})
          CHECK(same_bits(run_engine(*q.model, {.threads = threads, .kernels = k}, q.h.input),
                          expected));
    CHECK(compare(q).agrees());
  }
}

TEST_CASE("codes of few levels, and evenly spaced probabilities") {
  const auto spaced = [](int twin, bool levels) {
    return [=](const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
      for (size_t s = 0; s < sites.size(); s++) {
        SiteRange& r = ranges[s];
        if (sites[s].softmax) {  // 255 steps up to 1, or 127 of which the first is finer
          r.twin = twin;
          r.range.scale = 1 / (twin ? 127.f : 255.f);
        } else if (levels && sites[s].operand == 0 &&
                   sites[s].name.find(".matmul") == std::string::npos) {
          r.bits = 4;
          for (int i = 0; i < 16; i++)
            r.levels.push_back({static_cast<uint8_t>(16 * i), static_cast<uint8_t>(16 * i + 7)});
        }
      }
    };
  };
  for (const std::string name :
       {"conv", "conv_stride", "conv_image", "gelu", "norm_layer", "attention_bias",
        "attention_shifted", "attention_cross", "rope_half", "two_readers"})
    for (int twin : {0, 3}) {
      CAPTURE(name);
      CAPTURE(twin);
      const Quantized q(name, 8, 8, spaced(twin, true));
      CHECK(compare(q).agrees());
      const Results expected = run_engine(*q.model, {.kernels = find_kernels("scalar")}, q.h.input);
      for (const Kernels* k : compiled_kernels())
        if (is_supported(*k))
          CHECK(same_bits(run_engine(*q.model, {.threads = 2, .kernels = k}, q.h.input), expected));
    }
}

TEST_CASE("a value of attention has two readers at different scales") {
  GraphBuilder b;
  const int x = b.map("x", 5, 1, 7);
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  const int y = b.attention(q, k, v, "attn", hand_made::heads_of(2, 6));
  b.output("out", b.add(b.linear(y, "a", 4), b.linear(y, "b", 4), "add"));
  HandMade h = hand_made_graph("attention_causal");  // q, k, v and its last Linear
  h.graph = b.finish();
  for (const std::string part : {".weight", ".bias"}) {
    Tensor& last = h.weights.at("last" + part);
    h.weights["a" + part] = slice(last, 0, 4);
    h.weights["b" + part] = slice(last, 1, 4);
    h.weights.erase("last" + part);
  }
  const Quantized quantized(std::move(h), 8, 8, widen_second);
  CHECK(compare(quantized).agrees());
}

// --- graphs that no golden has, against the float engine ---

Quantized made(const std::function<void(B& b)>& body, const Adjust& adjust = {}) {
  B b;
  body(b);
  return Quantized(with_numbers(b.finish()), 8, 8, adjust);
}

// Both engines, and all rows against those that the outputs need.
void check(const Quantized& q) {
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
        check(Quantized(with_numbers(std::move(graph)), 8, 8, widen_second));
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
  const Quantized q(with_numbers(std::move(graph)), 8, 8);
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
  const Quantized q("conv", 8, 4, without_zero);
  CHECK(contains(error_of([&] { make_plan(*q.model, {}); }), "0 has no code"));
}

TEST_CASE("a neighbourhood of a map is gathered from codes, whatever the order of its elements") {
  for (const std::string name : {"conv", "conv_stride", "conv_merging", "sizes"}) {
    CAPTURE(name);
    const Quantized q(name, 8, 8);
    const Plan plan = make_plan(*q.model, {});
    int gathered = 0;
    for (const Step& s : plan.steps) {
      gathered += s.window >= 0;
      CHECK((s.op != Op::kPlain || !q.model->graph.is(s.node, NodeKind::kWindow)));
    }
    CHECK(gathered == (name == "sizes" ? 2 : 1));
  }
}

TEST_CASE("a whole model of a hand-made graph: image in, no classes") {
  const Quantized q("conv_image", 8, 8);
  const QuantModel model(QbinFile::from_memory(q.bytes->bytes(), "conv_image"));
  CHECK(model.info().num_classes == 0);
  CHECK(model.info().image_height == 9);
  CHECK(same_bits(run_engine(model.graph(), {.max_batch = 2}, q.h.input),
                  run_engine(*q.model, {}, q.h.input)));
  const std::string message = error_of([&] {
    const Quantized map("conv", 8, 8);
    QuantModel(QbinFile::from_memory(map.bytes->bytes(), "conv"));
  });
  CHECK(contains(message, "has no image of 3 channels"));
}

}  // namespace
}  // namespace vitrun
