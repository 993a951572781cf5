// The planner's other passes on hand-made graphs: which steps wait, and where values stand.
#include <doctest/doctest.h>

#include "tests/runtime/integer/quantized.h"

namespace vitrun {
namespace {

using B = GraphBuilder;

// --- schedule ---

TEST_CASE("a chain in which every row depends on itself alone waits for nobody") {
  const QuantizedCase q = planned([](B& b, int x) {
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
    const QuantizedCase q =
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

// The part of a value that a thread touches in a step: rows [begin, end) counted over all images.
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
    const QuantizedCase q(name, 8, 8);
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
    const QuantizedCase q(name, 8, 8);
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
    const QuantizedCase q = planned([&](B& b, int x) {
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
  const QuantizedCase before = planned([](B& b, int x) {
    const int y = b.act(x, "act", ActType::kRelu);
    b.output("out", b.add(y, b.linear(y, "fc", 8), "add"));
  });
  const Plan plan = make_plan(*before.model, {});
  CHECK(plan.steps.back().residual == plan.steps.back().out);
}

}  // namespace
}  // namespace vitrun
