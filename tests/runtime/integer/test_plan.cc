// Two passes of the planner on hand-made graphs: which nodes are fused, and the steps and values
// they become.
#include <doctest/doctest.h>

#include "tests/runtime/integer/quantized.h"

namespace vitrun {
namespace {

using B = GraphBuilder;
using Kind = Fusion::Kind;

struct Fused {
  const QuantGraph& model;
  std::vector<Fusion> fusions;

  Fused(const QuantizedCase& q, const std::vector<std::string>& names) : model(*q.model) {
    std::vector<int> outputs;
    for (const std::string& name : names) outputs.push_back(model.graph.output(name));
    fusions = fuse(model, *model.shapes, rows_needed(model.graph, *model.shapes, outputs), outputs);
  }
  explicit Fused(const QuantizedCase& q) : Fused(q, q.output_names()) {}

  const Fusion& of(const std::string& name) const {
    REQUIRE(model.graph.find(name) >= 0);
    return at(fusions, model.graph.find(name));
  }
  Kind kind(const std::string& name) const { return of(name).kind; }
  std::string last(const std::string& name) const {
    return of(name).last < 0 ? "" : model.graph[of(name).last].name;
  }
};

// --- fuse ---

// Linear, GELU and another Linear; what `also` adds reads the two.
QuantizedCase mlp(ActType type, const std::function<void(B& b, int fc1, int act)>& also = {}) {
  return planned([&](B& b, int x) {
    const int fc1 = b.linear(x, "fc1", 12), act = b.act(fc1, "act", type);
    b.output("out", b.linear(act, "fc2", 4));
    if (also) also(b, fc1, act);
  });
}

TEST_CASE("Linear, GELU and Quantize are one step unless somebody else reads what is between") {
  const QuantizedCase q = mlp(ActType::kGelu);
  const Fused alone(q);
  CHECK(alone.kind("fc1") == Kind::kActCodes);
  CHECK(alone.last("fc1") == "fc2.codes");
  CHECK(alone.kind("fc2") == Kind::kNone);
  CHECK(Fused(mlp(ActType::kSilu)).kind("fc1") == Kind::kActCodes);
  CHECK(Fused(mlp(ActType::kRelu)).kind("fc1") == Kind::kActCodes);
  CHECK(Fused(mlp(ActType::kTanh)).kind("fc1") == Kind::kNone);
  for (bool linear : {true, false}) {
    const auto output = mlp(
        ActType::kGelu, [&](B& b, int fc1, int act) { b.output("between", linear ? fc1 : act); });
    CHECK(Fused(output).kind("fc1") == Kind::kNone);
    // An output that nobody asks for is none, nor is a reader that no output needs.
    CHECK(Fused(output, {"out"}).kind("fc1") == Kind::kActCodes);
    const auto reader = mlp(ActType::kGelu, [&](B& b, int fc1, int act) {
      b.output("mean", b.pool(linear ? fc1 : act, "pool"));
    });
    CHECK(Fused(reader).kind("fc1") == Kind::kNone);
    CHECK(Fused(reader, {"out"}).kind("fc1") == Kind::kActCodes);
  }
  const auto limited =
      mlp(ActType::kSilu, [](B& b, int, int act) { b.set(act, Attribute::kLimit, 0.5); });
  // The file has no limit where only codes are read, as their range ends there.
  CHECK(Fused(limited).kind("fc1") == Kind::kActCodes);
}

TEST_CASE(
    "rows with ranges of their own are made by the step before, where a thread has them whole") {
  const Adjust by_row = [](const std::vector<Site>&, std::vector<SiteRange>& ranges) {
    for (SiteRange& range : ranges) range = {.bits = 8, .group = 16};
  };
  const auto mlp_of = [&](int side) {
    GraphBuilder b;
    const int x = b.map("x", 8, side, 1);
    const int normed = b.norm(x, "norm", NormType::kLayer, 1e-6f);
    const int act = b.act(b.linear(normed, "fc1", 12), "act", ActType::kGelu);
    const int hidden = b.linear(act, "fc2", 4);
    b.output("out", b.linear(hidden, "fc3", 4));
    return QuantizedCase(with_numbers(b.finish()), 8, 8, by_row);
  };
  const QuantizedCase q = mlp_of(5), few = mlp_of(kFewRows);
  const Fused f(q), of_few(few);
  CHECK(f.kind("norm") == Kind::kNormCodes);
  CHECK(f.kind("fc1") == Kind::kRowCodes);
  CHECK(f.last("fc1") == "fc2.codes");
  CHECK(f.kind("fc2") == Kind::kRowCodes);
  CHECK(f.last("fc2") == "fc3.codes");
  CHECK(f.kind("fc3") == Kind::kNone);
  // Threads share the columns of so few rows.
  CHECK(of_few.kind("fc1") == Kind::kNone);
  CHECK(of_few.kind("act") == Kind::kActRows);
  CHECK(of_few.last("act") == "fc2.codes");
  for (const QuantizedCase* both : {&q, &few})
    for (const Step& s : make_plan(*both->model, {}).steps) CHECK(s.op != Op::kPlain);
}

TEST_CASE("a layer norm and Quantize are one step, other norms and other readers are not") {
  const auto normed = [](NormType type, bool output) {
    return planned([=](B& b, int x) {
      const int y = b.norm(x, "norm", type, 1e-6f);
      b.output("out", b.linear(y, "fc", 4));
      if (output) b.output("norm", y);
    });
  };
  const QuantizedCase plain = normed(NormType::kLayer, false);
  CHECK(Fused(plain).kind("norm") == Kind::kNormCodes);
  CHECK(Fused(plain).last("norm") == "fc.codes");
  CHECK(Fused(normed(NormType::kLayer, true)).kind("norm") == Kind::kNone);
  CHECK(Fused(normed(NormType::kRms, false)).kind("norm") == Kind::kNone);
}

TEST_CASE("a Linear takes a sum with what is computed before it, whichever operand it is") {
  for (bool first : {true, false}) {
    const auto sum = [&](float alpha, bool output) {
      return planned([=](B& b, int x) {
        const int y = b.linear(x, "fc", 8);
        b.output("out", first ? b.add(y, x, "add", alpha) : b.add(x, y, "add", alpha));
        if (output) b.output("fc", y);
      });
    };
    const QuantizedCase q = sum(1, false);
    const Fused f(q);
    CHECK(f.kind("fc") == Kind::kAdd);
    CHECK(f.last("fc") == "add");
    CHECK(q.model->graph[f.of("fc").other].name == "x");
    CHECK(Fused(sum(0.5f, false)).kind("fc") == Kind::kNone);
    CHECK(Fused(sum(1, true)).kind("fc") == Kind::kNone);
  }
  // The later one of two Linears is fused.
  const QuantizedCase two = planned([](B& b, int x) {
    const int y = b.linear(x, "a", 8);
    b.output("out", b.add(b.linear(x, "b", 8), y, "add"));
  });
  CHECK(Fused(two).kind("a") == Kind::kNone);
  CHECK(Fused(two).kind("b") == Kind::kAdd);
  // A repeated operand and the Linear itself twice are no sums of one shape.
  const QuantizedCase repeated = planned([](B& b, int x) {
    b.output("out", b.add(b.linear(x, "fc", 8), b.pool(x, "pool"), "add"));
    const int y = b.linear(x, "twice", 8);
    b.output("twice", b.add(y, y, "double"));
  });
  CHECK(Fused(repeated).kind("fc") == Kind::kNone);
  CHECK(Fused(repeated).kind("twice") == Kind::kNone);
}

TEST_CASE("q, k and v are codes at once where nobody reads them as numbers") {
  const auto attention = [](bool output, bool overlap) {
    return planned([=](B& b, int x) {
      const int qkv = b.linear(x, "qkv", 24);
      B::Attention a = hand_made::side_by_side(2, 4);
      if (overlap) a.key_begin = 4;
      b.output("out", b.linear(b.attention(qkv, qkv, qkv, "attn", a), "proj", 8));
      if (output) b.output("qkv", qkv);
    });
  };
  CHECK(Fused(attention(false, false)).kind("qkv") == Kind::kCodes);
  CHECK(Fused(attention(true, false)).kind("qkv") == Kind::kNone);
  CHECK(Fused(attention(false, true)).kind("qkv") == Kind::kNone);
  // A Linear takes codes with their sums, which such a step does not make.
  const QuantizedCase linear =
      planned([](B& b, int x) { b.output("out", b.linear(b.linear(x, "a", 8), "b", 8)); });
  CHECK(Fused(linear).kind("a") == Kind::kNone);
}

TEST_CASE("positions and constants in front are part of the embedding's step") {
  const auto embedded = [](bool before, bool swapped) {
    return planned([=](B& b, int x) {
      int y = b.linear(x, "embed", 8);
      const int positions = b.constant("positions", {before ? 30 : 31, 8});
      const int token = b.constant("token", {1, 8});
      if (before) y = b.add(y, positions, "add");
      y = b.concat(swapped ? std::vector{y, token} : std::vector{token, y}, "concat");
      if (!before) y = b.add(y, positions, "add");
      b.output("out", b.linear(y, "fc", 4));
    });
  };
  for (bool before : {true, false}) {
    const QuantizedCase q = embedded(before, false);
    const Fused f(q);
    CHECK(f.kind("embed") == Kind::kEmbed);
    CHECK(f.last("embed") == (before ? "concat" : "add"));
    CHECK(f.of("embed").prefix.size() == 1);
  }
  CHECK(Fused(embedded(false, true)).kind("embed") == Kind::kNone);
  const QuantizedCase behind = embedded(true, true);
  const Fused sum(behind);  // the token comes behind: only the sum is part of it
  CHECK(sum.last("embed") == "add");
  CHECK(sum.of("embed").prefix.empty());
}

TEST_CASE("neighbourhoods: of codes they are gathered, of an image quantized") {
  const QuantizedCase conv =
      planned([](B& b, int x) { b.output("out", hand_made::conv(b, x, "conv", 4, 3, 1, 1)); });
  CHECK(Fused(conv).kind("conv.window") == Kind::kGather);
  const auto image = [](bool two) {
    B b;
    const int window = b.window(b.image(3, 8, 8), "patches", 4, 4, ElementOrder::kChannelsFirst);
    b.output("out", b.linear(window, "a", 8));
    if (two) b.output("other", b.linear(window, "b", 8));
    return QuantizedCase(with_numbers(b.finish()), 8, 8);
  };
  CHECK(Fused(image(false)).kind("patches") == Kind::kPatches);
  CHECK(Fused(image(true)).kind("patches") == Kind::kPatches);
}

// --- rows ---

TEST_CASE("which rows are needed: before attention all of them, behind it those of the output") {
  const QuantizedCase q = planned([](B& b, int x) {
    const int qkv = b.linear(x, "qkv", 24);
    const int y = b.attention(qkv, qkv, qkv, "attn", hand_made::side_by_side(2, 4));
    const int sum = b.add(x, b.linear(y, "proj", 8), "add");
    b.output("out", b.linear(b.slice(sum, "token", 2, 3), "head", 4));
    b.output("all", sum);
  });
  const Graph& graph = q.model->graph;
  const auto need = [&](const std::string& output, const std::string& node) {
    return at(rows_needed(graph, *q.model->shapes, {graph.output(output)}), graph.find(node));
  };
  for (const char* node : {"x", "qkv", "attn.matmul1.k.codes", "attn.matmul2.v.codes"})
    CHECK(need("out", node) == 30);
  for (const char* node : {"attn.matmul1.q.codes", "attn.matmul1", "attn.matmul2", "proj", "add"})
    CHECK(need("out", node) == 3);
  CHECK(need("out", "token") == 1);
  CHECK(need("all", "proj") == 30);
  CHECK(need("all", "head") == 0);
  const QuantizedCase like = planned([](B& b, int x) {
    const int size = b.pool_windows(x, "size", true, 2, 2);
    b.output("out", b.linear(b.resize_like(x, size, "resize", false), "fc", 4));
  });
  CHECK(at(rows_needed(like.model->graph, *like.model->shapes, {like.model->graph.output("out")}),
           like.model->graph.find("size")) == 0);
}

// --- lower ---

std::vector<Op> ops_of(const Plan& plan) {
  std::vector<Op> ops;
  for (const Step& s : plan.steps) ops.push_back(s.op);
  return ops;
}

TEST_CASE("the steps and values of a small graph") {
  const QuantizedCase q = mlp(ActType::kGelu);
  const Plan plan = make_plan(*q.model, {});
  REQUIRE(ops_of(plan) == std::vector{Op::kLoad, Op::kQuantize, Op::kGemm, Op::kGemm});
  const Step &load = plan.steps[0], &quantize = plan.steps[1], &fc1 = plan.steps[2],
             &fc2 = plan.steps[3];
  CHECK(quantize.in == std::vector{load.out});
  CHECK(fc1.in == std::vector{quantize.out});
  CHECK(fc2.in == std::vector{fc1.out});
  CHECK(fc1.epilogue == Epilogue::kActCodes);
  CHECK(fc2.epilogue == Epilogue::kFloat);
  CHECK(fc1.params.same_as(q.model->quantizer(q.model->graph.find("fc2.codes"))));
  for (const Step& s : plan.steps) CHECK(s.rows == 30);
  const auto value = [&](const Step& s) { return at(plan.values, s.out); };
  CHECK(!value(load).codes);
  CHECK(value(load).stride == 16);  // 8 floats, a multiple of 16
  CHECK(value(quantize).codes);
  CHECK(value(quantize).stride == 32);  // 8 codes, a multiple of 32
  CHECK(value(fc1).codes);
  CHECK(value(fc1).cols == 12);
  CHECK(!value(fc2).codes);
  REQUIRE(plan.outputs.size() == 1);
  CHECK(plan.outputs[0].value == fc2.out);
  CHECK(plan.outputs[0].rows == 30);
  CHECK(plan.outputs[0].cols == 4);
}

TEST_CASE("few rows: threads share the columns of a Linear, and sums come behind") {
  const QuantizedCase q = planned([](B& b, int x) {
    const int y = b.act(b.linear(b.pool(x, "pool"), "fc1", 12), "act", ActType::kGelu);
    b.output("out", b.linear(y, "fc2", 4));
  });
  const Plan plan = make_plan(*q.model, {});
  REQUIRE(ops_of(plan) ==
          std::vector{Op::kLoad, Op::kPlain, Op::kQuantize, Op::kGemm, Op::kFinish, Op::kGemm});
  CHECK(plan.steps[3].by_columns);
  CHECK(plan.steps[4].out == plan.steps[3].out);
  CHECK(plan.steps[5].by_columns);
}

TEST_CASE("a place that has no integer form is refused by name") {
  // A Linear of numbers, as a file may have it.
  const QuantizedCase q = mlp(ActType::kGelu);
  QuantGraph bare = *q.model;
  bare.graph[bare.graph.find("fc2")].in = {bare.graph.find("act")};
  CHECK(contains(error_of([&] { make_plan(bare, {}); }), "linear 'fc2' has no integer form"));
  const QuantizedCase attention = planned([](B& b, int x) {
    const int qkv = b.linear(x, "qkv", 24);
    const int y = b.attention(qkv, qkv, qkv, "attn", hand_made::side_by_side(2, 4));
    b.output("out", b.linear(y, "proj", 8));
  });
  const auto without = [&](const std::string& reader, size_t operand) {
    QuantGraph changed = *attention.model;
    Node& n = changed.graph[changed.graph.find(reader)];
    n.in[operand] = changed.graph[n.in[operand]].in[0];
    return error_of([&] { make_plan(changed, {}); });
  };
  CHECK(contains(without("attn.matmul1", 0), "has no integer form"));
  CHECK(contains(without("attn.matmul1", 1), "has no integer form"));
  CHECK(contains(without("attn.matmul2", 0), "has no integer form"));
  CHECK(contains(without("attn.matmul2", 1), "has no integer form"));
  CHECK(contains(error_of([&] { make_plan(*q.model, {{}, {"none"}}); }), "no output 'none'"));
}

}  // namespace
}  // namespace vitrun
