// The passes of the planner on hand-made graphs: which nodes are fused, the steps and values they
// become, which steps wait, and where values stand.
#include <doctest/doctest.h>

#include <set>

#include "tests/runtime/integer/quantized.h"

namespace vitrun {
namespace {

using B = GraphBuilder;
using Kind = Fusion::Kind;

// A quantized graph of one map of 5 x 6 positions and 8 channels.
Quantized planned(const std::function<void(B& b, int x)>& body) {
  B b;
  body(b, b.map("x", 8, 5, 6));
  return Quantized(with_numbers(b.finish()), 8, 8);
}

struct Fused {
  const QuantGraph& model;
  std::vector<Fusion> fusions;

  Fused(const Quantized& q, const std::vector<std::string>& names) : model(*q.model) {
    std::vector<int> outputs;
    for (const std::string& name : names) outputs.push_back(model.graph.output(name));
    fusions = fuse(model, *model.shapes, rows_needed(model.graph, *model.shapes, outputs), outputs);
  }
  explicit Fused(const Quantized& q) : Fused(q, q.output_names()) {}

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
Quantized mlp(ActType type, const std::function<void(B& b, int fc1, int act)>& also = {}) {
  return planned([&](B& b, int x) {
    const int fc1 = b.linear(x, "fc1", 12), act = b.act(fc1, "act", type);
    b.output("out", b.linear(act, "fc2", 4));
    if (also) also(b, fc1, act);
  });
}

TEST_CASE("Linear, GELU and Quantize are one step unless somebody else reads what is between") {
  const Quantized q = mlp(ActType::kGelu);
  const Fused alone(q);
  CHECK(alone.kind("fc1") == Kind::kGeluCodes);
  CHECK(alone.last("fc1") == "fc2.codes");
  CHECK(alone.kind("fc2") == Kind::kNone);
  CHECK(Fused(mlp(ActType::kSilu)).kind("fc1") == Kind::kNone);
  for (bool linear : {true, false}) {
    const auto output = mlp(
        ActType::kGelu, [&](B& b, int fc1, int act) { b.output("between", linear ? fc1 : act); });
    CHECK(Fused(output).kind("fc1") == Kind::kNone);
    // An output that nobody asks for is none, nor is a reader that no output needs.
    CHECK(Fused(output, {"out"}).kind("fc1") == Kind::kGeluCodes);
    const auto reader = mlp(ActType::kGelu, [&](B& b, int fc1, int act) {
      b.output("mean", b.pool(linear ? fc1 : act, "pool"));
    });
    CHECK(Fused(reader).kind("fc1") == Kind::kNone);
    CHECK(Fused(reader, {"out"}).kind("fc1") == Kind::kGeluCodes);
  }
  const auto limited =
      mlp(ActType::kSilu, [](B& b, int, int act) { b.set(act, Attribute::kLimit, 0.5); });
  CHECK(Fused(limited).kind("fc1") == Kind::kNone);
}

TEST_CASE("a layer norm and Quantize are one step, other norms and other readers are not") {
  const auto normed = [](NormType type, bool output) {
    return planned([=](B& b, int x) {
      const int y = b.norm(x, "norm", type, 1e-6f);
      b.output("out", b.linear(y, "fc", 4));
      if (output) b.output("norm", y);
    });
  };
  const Quantized plain = normed(NormType::kLayer, false);
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
    const Quantized q = sum(1, false);
    const Fused f(q);
    CHECK(f.kind("fc") == Kind::kAdd);
    CHECK(f.last("fc") == "add");
    CHECK(q.model->graph[f.of("fc").other].name == "x");
    CHECK(Fused(sum(0.5f, false)).kind("fc") == Kind::kNone);
    CHECK(Fused(sum(1, true)).kind("fc") == Kind::kNone);
  }
  // Of two Linears the later one.
  const Quantized two = planned([](B& b, int x) {
    const int y = b.linear(x, "a", 8);
    b.output("out", b.add(b.linear(x, "b", 8), y, "add"));
  });
  CHECK(Fused(two).kind("a") == Kind::kNone);
  CHECK(Fused(two).kind("b") == Kind::kAdd);
  // A repeated operand and the Linear itself twice are no sums of one shape.
  const Quantized repeated = planned([](B& b, int x) {
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
  // To a Linear the codes go with their sums, which such a step has not.
  const Quantized linear =
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
    const Quantized q = embedded(before, false);
    const Fused f(q);
    CHECK(f.kind("embed") == Kind::kEmbed);
    CHECK(f.last("embed") == (before ? "concat" : "add"));
    CHECK(f.of("embed").prefix.size() == 1);
  }
  CHECK(Fused(embedded(false, true)).kind("embed") == Kind::kNone);
  const Quantized behind = embedded(true, true);
  const Fused sum(behind);  // the token comes behind: only the sum is part of it
  CHECK(sum.last("embed") == "add");
  CHECK(sum.of("embed").prefix.empty());
}

TEST_CASE("neighbourhoods: of codes they are gathered, of an image quantized") {
  const Quantized conv =
      planned([](B& b, int x) { b.output("out", hand_made::conv(b, x, "conv", 4, 3, 1, 1)); });
  CHECK(Fused(conv).kind("conv.window") == Kind::kGather);
  const auto image = [](bool two) {
    B b;
    const int window = b.window(b.image(3, 8, 8), "patches", 4, 4, ElementOrder::kChannelsFirst);
    b.output("out", b.linear(window, "a", 8));
    if (two) b.output("other", b.linear(window, "b", 8));
    return Quantized(with_numbers(b.finish()), 8, 8);
  };
  CHECK(Fused(image(false)).kind("patches") == Kind::kPatches);
  CHECK(Fused(image(true)).kind("patches") == Kind::kPatches);
}

// --- rows ---

TEST_CASE("which rows are needed: before attention all of them, behind it those of the output") {
  const Quantized q = planned([](B& b, int x) {
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
  const Quantized like = planned([](B& b, int x) {
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
  const Quantized q = mlp(ActType::kGelu);
  const Plan plan = make_plan(*q.model, {});
  REQUIRE(ops_of(plan) == std::vector{Op::kLoad, Op::kQuantize, Op::kGemm, Op::kGemm});
  const Step &load = plan.steps[0], &quantize = plan.steps[1], &fc1 = plan.steps[2],
             &fc2 = plan.steps[3];
  CHECK(quantize.in == std::vector{load.out});
  CHECK(fc1.in == std::vector{quantize.out});
  CHECK(fc2.in == std::vector{fc1.out});
  CHECK(fc1.epilogue == Epilogue::kGeluCodes);
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
  const Quantized q = planned([](B& b, int x) {
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
  const auto refused = [](const Quantized& q) {
    return error_of([&] { make_plan(*q.model, {{}, q.output_names()}); });
  };
  CHECK(contains(refused(planned([](B& b, int x) {
                   const int qkv = b.linear(x, "qkv", 24);
                   const int y = b.attention(qkv, qkv, qkv, "attn", hand_made::side_by_side(2, 4));
                   b.output("out", b.act(y, "act", ActType::kRelu));
                 })),
                 "mix 'attn.matmul2' has no integer form in this place"));
  // A Linear of numbers, as a file may have it.
  const Quantized q = mlp(ActType::kGelu);
  QuantGraph bare = *q.model;
  bare.graph[bare.graph.find("fc2")].in = {bare.graph.find("act")};
  CHECK(contains(error_of([&] { make_plan(bare, {}); }), "linear 'fc2' has no integer form"));
  const Quantized attention = planned([](B& b, int x) {
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

// --- schedule ---

TEST_CASE("a chain in which every row depends on itself alone waits for nobody") {
  const Quantized q = planned([](B& b, int x) {
    const int y = b.act(b.norm(x, "rms", NormType::kRms, 1e-6f), "act", ActType::kSilu);
    const int z = b.mul(b.linear(y, "fc1", 8), b.constant("gamma", {8}), "mul");
    b.output("out", b.linear(b.layernorm(b.add(x, z, "add"), "norm", 1e-6f), "fc2", 4));
  });
  const Plan plan = make_plan(*q.model, {});
  CHECK(plan.steps.size() > 6);
  for (const Step& s : plan.steps) CHECK(!s.sync);
}

TEST_CASE("a step that reads other threads' rows waits") {
  const auto syncs = [](const std::function<int(B & b, int x)>& body) {
    const Quantized q =
        planned([&](B& b, int x) { b.output("out", body(b, b.act(x, "act", ActType::kRelu))); });
    const Plan plan = make_plan(*q.model, {});
    std::vector<std::string> waiting;
    for (const Step& s : plan.steps)
      if (s.sync) waiting.push_back(q.model->graph[s.node].name);
    return waiting;
  };
  using Names = std::vector<std::string>;
  CHECK(syncs([](B& b, int x) { return b.pool(x, "pool"); }) == Names{"pool"});
  CHECK(syncs([](B& b, int x) { return b.slice(x, "slice", 2, 9); }) == Names{"slice"});
  CHECK(syncs([](B& b, int x) { return b.resize(x, "resize", true, 3, 3); }) == Names{"resize"});
  CHECK(syncs([](B& b, int x) { return hand_made::conv(b, x, "conv", 4, 3, 1, 1); }) ==
        Names{"conv"});
  // Those who read what such a step gave wait too where the rows are shared otherwise.
  CHECK(syncs([](B& b, int x) { return b.linear(b.pool(x, "pool"), "fc", 4); }) ==
        Names{"pool", "fc.codes", "fc"});
  CHECK(syncs([](B& b, int x) { return b.add(x, b.pool(x, "pool"), "add"); }) ==
        Names{"pool", "add"});
}

// What a thread touches of a value in a step: rows [begin, end) counted over all images.
struct Access {
  int value;
  int64_t begin, end;
  bool write;
};

// Rows by the plan's own fields, as the engine's comments say: a step gives each thread a share of
// its rows, but attention shares heads, few rows share columns, and constants are the first
// thread's.
std::vector<Access> accesses(const Plan& plan, const Step& s, int batch, int thread, int threads) {
  std::vector<Access> out;
  const auto touch = [&](int v, int64_t begin, int64_t end, bool write) {
    if (v >= 0 && !at(plan.values, v).constant && begin < end)
      out.push_back({v, begin, end, write});
  };
  const auto all = [&](int v, bool write) {
    if (v >= 0) touch(v, 0, int64_t{batch} * at(plan.values, v).rows, write);
  };
  if (s.op == Op::kConstantRows) {
    for (int image = 0; thread == 0 && image < batch; image++) {
      const int64_t first = int64_t{image} * at(plan.values, s.out).rows + s.out_first;
      touch(s.out, first, first + s.rows, true);
    }
    return out;
  }
  if (s.op == Op::kAttention || s.by_columns) {
    for (int v : s.in) all(v, false);
    all(s.residual, false);
    all(s.out, true);
    return out;
  }
  const Range r = share(int64_t{batch} * s.rows, thread, threads);
  for (int64_t i = r.begin; i < r.end; i++) {
    const int64_t image = i / s.rows, row = i % s.rows;
    const auto own = [&](int v, int64_t first, bool write) {
      const int64_t rows = at(plan.values, v).rows, of_value = rows == 1 ? 0 : row + first;
      touch(v, image * rows + of_value, image * rows + of_value + 1, write);
    };
    for (int v : s.in) {
      if (s.across)
        touch(v, image * at(plan.values, v).rows, (image + 1) * at(plan.values, v).rows, false);
      else
        own(v, 0, false);
    }
    if (s.residual >= 0) own(s.residual, 0, false);
    own(s.out, s.out_first, true);
  }
  return out;
}

// Steps of which one writes rows that another thread touches in another, with no wait between.
int races(const Plan& plan, int batch, int threads) {
  struct Seen {
    int step, thread;
    Access access;
  };
  std::vector<Seen> since;  // the last wait
  int found = 0;
  for (int i = 0; i < count_of(plan.steps); i++) {
    const Step& s = at(plan.steps, i);
    if (s.sync) since.clear();
    std::vector<Seen> now;
    for (int t = 0; t < threads; t++)
      for (const Access& a : accesses(plan, s, batch, t, threads)) {
        for (const Seen& before : since)
          found += before.thread != t && before.access.value == a.value &&
                   (before.access.write || a.write) && before.access.begin < a.end &&
                   a.begin < before.access.end;
        now.push_back({i, t, a});
      }
    since.insert(since.end(), now.begin(), now.end());
  }
  return found;
}

TEST_CASE("no two threads touch a row that one of them writes without a wait between") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const Quantized q(name, 8, 8);
    Plan plan = make_plan(*q.model, {{}, q.output_names(), 2});
    for (int threads : {2, 3, 7}) CHECK(races(plan, 2, threads) == 0);
    // The detector sees what is missing: without waits there are races, where there was a wait.
    bool waits = false;
    for (Step& s : plan.steps) waits |= s.sync, s.sync = false;
    CHECK((races(plan, 2, 3) > 0) == waits);
  }
}

// --- arena ---

struct Use {
  int first = -1, last = -1;  // steps
};

std::vector<Use> uses_of(const Plan& plan) {
  std::vector<Use> uses(plan.values.size());
  for (int i = 0; i < count_of(plan.steps); i++) {
    const Step& s = at(plan.steps, i);
    std::vector<int> touched = s.in;
    touched.insert(touched.end(), {s.residual, s.out});
    for (int v : touched) {
      if (v < 0) continue;
      if (at(uses, v).first < 0) at(uses, v).first = i;
      at(uses, v).last = i;
    }
  }
  for (const PlannedOutput& o : plan.outputs) at(uses, o.value).last = count_of(plan.steps);
  return uses;
}

// Whether some step waits after step `last` and no later than at `first`.
bool waits_between(const Plan& plan, int last, int first) {
  for (int i = last + 1; i <= first && i < count_of(plan.steps); i++)
    if (at(plan.steps, i).sync) return true;
  return false;
}

TEST_CASE("values that live at once do not overlap, and bytes change hands only behind a wait") {
  int shared = 0;
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const Quantized q(name, 8, 8);
    for (int batch : {1, 3}) {
      const Plan plan = make_plan(*q.model, {{}, q.output_names(), batch});
      const std::vector<Use> uses = uses_of(plan);
      const auto bytes = [&](int v) {
        const Value& value = at(plan.values, v);
        const int64_t rows = int64_t{value.rows} * batch;
        return value.codes ? value.sums + rows * 4 - value.offset : rows * value.stride * 4;
      };
      for (int a = 0; a < count_of(plan.values); a++) {
        const Value& x = at(plan.values, a);
        if (x.constant || at(uses, a).first < 0) continue;
        CHECK(x.offset % 64 == 0);
        CHECK(x.offset + bytes(a) <= plan.arena_bytes);
        if (x.codes) CHECK(x.sums >= x.offset + int64_t{x.rows} * batch * x.stride);
        for (int b = 0; b < count_of(plan.values); b++) {
          const Value& y = at(plan.values, b);
          if (b == a || y.constant || at(uses, b).first < at(uses, a).first) continue;
          if (x.offset + bytes(a) <= y.offset || y.offset + bytes(b) <= x.offset) continue;
          shared++;
          CHECK(at(uses, a).last < at(uses, b).first);
          CHECK(waits_between(plan, at(uses, a).last, at(uses, b).first));
        }
      }
    }
  }
  CHECK(shared > 20);  // memory is used again
}

TEST_CASE("a sum takes its operand's memory only where nobody reads that later") {
  enum class Later { kNobody, kReader, kOutput, kUnusedOutput };
  const auto in_place = [](Later later) {
    const Quantized q = planned([&](B& b, int x) {
      const int other = b.act(x, "other", ActType::kRelu);
      const int sum = b.add(b.linear(x, "fc", 8), other, "add");
      b.output("out", b.linear(sum, "last", 4));
      if (later == Later::kReader) b.output("pool", b.pool(other, "pool"));
      if (later == Later::kOutput || later == Later::kUnusedOutput) b.output("other", other);
    });
    const Plan plan = make_plan(
        *q.model,
        {{}, later == Later::kUnusedOutput ? std::vector<std::string>{"out"} : q.output_names()});
    for (const Step& s : plan.steps)
      if (s.residual >= 0) return s.residual == s.out;
    FAIL("no sum");
    return false;
  };
  CHECK(in_place(Later::kNobody));
  CHECK(!in_place(Later::kReader));
  CHECK(!in_place(Later::kOutput));
  // A reader before the sum is none later: x is read by the Linear's Quantize first.
  const Quantized before = planned([](B& b, int x) {
    const int y = b.act(x, "act", ActType::kRelu);
    b.output("out", b.add(y, b.linear(y, "fc", 8), "add"));
  });
  const Plan plan = make_plan(*before.model, {});
  CHECK(plan.steps.back().residual == plan.steps.back().out);
}

}  // namespace
}  // namespace vitrun
