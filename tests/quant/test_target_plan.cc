// Bits for a machine: tables of costs, plans under a size and a time, what vitquant --bits target
// says.
#include <doctest/doctest.h>

#include <random>

#include "models/base/error.h"
#include "models/families/families.h"
#include "models/graph/quantizers.h"
#include "quant/bits/target_plan.h"
#include "runtime/choose_kernels.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

// Each unit with errors of its own size, which fall by a factor of 3 or 5 with each bit.
LogitsErrors plausible_errors(const Graph& graph, uint32_t seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<double> spread(0, 1.5);
  LogitsErrors errors;
  for (const UnitWork& work : work_of(graph)) {
    UnitErrors& e = errors[work.unit];
    const bool weighs = work.kind == NodeKind::kLinear;
    double weight = weighs ? 1e-3 * spread(random) : 0, activation = 1e-3 * spread(random);
    for (int bits = kMinBits; bits <= kMaxBits; bits++) {
      e.weight.push_back(weight);
      e.activation.push_back(activation);
      weight /= random() % 2 ? 3 : 5;
      activation /= random() % 2 ? 3 : 5;
    }
  }
  return errors;
}

const PlanFigures& figures(const PlanReport& report, const std::string& name) {
  for (const PlanFigures& f : report.plans)
    if (f.name == name) return f;
  FAIL("no plan " << name);
  return report.plans[0];
}

const char* const kArchs[] = {"deit_tiny_patch16_224", "deit_base_patch16_224",
                              "swin_tiny_patch4_window7_224"};

TEST_CASE("a plan for a target is no larger, no slower and no worse than W4/A8 everywhere") {
  for (const char* arch : kArchs)
    for (const char* target : kTargets) {
      CAPTURE(arch);
      CAPTURE(target);
      const Graph graph = build_graph(config_from_arch(arch));
      const CostTable costs = read_costs(target);
      const TargetPlan plan = plan_within(graph, plausible_errors(graph, 1), &costs, {4, 8}, {});
      const PlanFigures &base = figures(plan.report, "W4/A8"), &best = plan.report.plans.back();
      CHECK(best.name == "as chosen");
      CHECK(best.bytes <= base.bytes);
      CHECK(best.milliseconds <= base.milliseconds);
      CHECK(best.error < base.error);  // with errors so different there is much to gain
      for (const PlanFigures& f : plan.report.plans)
        if (f.bytes <= base.bytes && f.milliseconds <= base.milliseconds)
          CHECK(best.error <= f.error * (1 + 1e-9));
    }
}

TEST_CASE("where fewer bits are not faster every activation keeps 8") {
  for (const char* arch : kArchs)
    for (const char* target : {"vnni", "neondot"})
      for (double milliseconds : {0., 1e5}) {
        const Graph graph = build_graph(config_from_arch(arch));
        const CostTable costs = read_costs(target);
        PlanLimits limits;
        if (milliseconds > 0) limits.milliseconds = milliseconds;
        const TargetPlan plan =
            plan_within(graph, plausible_errors(graph, 2), &costs, {4, 8}, limits);
        for (const auto& [unit, bits] : plan.bits) CHECK(bits.activation == 8);
      }
}

TEST_CASE("on avx2 a tight time narrows inputs or weights, pixels and softmax codes stay") {
  const Graph graph = build_graph(config_from_arch("deit_small_patch16_224"));
  const CostTable costs = read_costs("avx2");
  const LogitsErrors errors = plausible_errors(graph, 3);
  const double uniform =
      figures(plan_within(graph, errors, &costs, {4, 8}, {}).report, "W4/A8").milliseconds;
  double last = 0;
  for (double part : {1.5, 1.0, 0.95, 0.9}) {
    PlanLimits limits;
    limits.milliseconds = part * uniform;
    const TargetPlan plan = plan_within(graph, errors, &costs, {4, 8}, limits);
    const PlanFigures& best = plan.report.plans.back();
    CHECK(best.milliseconds <= *limits.milliseconds);
    CHECK(best.error >= last);  // less time, no less error
    last = best.error;
    CHECK(plan.bits.at("patch_embed").activation == 8);
    CHECK(plan.bits.at("patch_embed").weight >= 4);
    for (const auto& [unit, bits] : plan.bits)
      if (unit.ends_with("attn.attn")) CHECK(bits == UnitBits{4, 8});
  }
  PlanLimits limits;
  limits.milliseconds = 0.5 * uniform;  // less than 3 bits by 3 take
  CHECK_THROWS_AS(plan_within(graph, errors, &costs, {4, 8}, limits), Error);
}

TEST_CASE("small predicted gains are not taken; without a target bytes alone count") {
  const Graph graph = build_graph(config_from_arch("deit_tiny_patch16_224"));
  LogitsErrors alike;  // by parameter: nothing to gain
  for (const UnitWork& work : work_of(graph)) {
    UnitErrors& e = alike[work.unit];
    double error = work.kind == NodeKind::kLinear ? 1e-9 * work.depth * work.cols : 0;
    for (int bits = kMinBits; bits <= kMaxBits; bits++, error /= 4) {
      e.weight.push_back(error);
      e.activation.push_back(0);
    }
  }
  const CostTable costs = read_costs("vnni");
  const TargetPlan kept = plan_within(graph, alike, &costs, {4, 8}, {});
  for (const auto& [unit, bits] : kept.bits) CHECK(bits == UnitBits{4, 8});
  CHECK(report_text(kept.report).find("kept uniform W4/A8") != std::string::npos);

  const TargetPlan sized = plan_within(graph, plausible_errors(graph, 4), nullptr, {4, 8}, {});
  CHECK(sized.report.plans.back().bytes <= figures(sized.report, "W4/A8").bytes);
  CHECK(sized.report.plans.back().milliseconds == 0);
  for (const auto& [unit, bits] : sized.bits) CHECK(bits.activation == 8);
}

TEST_CASE("the work of DeiT-T: its multiply-adds, less what reaches no logit") {
  int64_t linears = 0, attention = 0;
  for (const UnitWork& work : work_of(build_graph(config_from_arch("deit_tiny_patch16_224"))))
    (work.kind == NodeKind::kLinear ? linears : attention) += work.multiply_adds;
  const int64_t t = 197, d = 192;
  // The last block's proj, fc1 and fc2 see the class token alone, and its queries are one row.
  CHECK(linears == 196 * 768 * d + 11 * t * 12 * d * d + t * 3 * d * d + 9 * d * d + 1000 * d);
  CHECK(attention == 11 * 2 * t * t * d + 2 * t * d);
}

TEST_CASE("the sentences that tables of costs come to") {
  const auto remarks = [](const char* target) {
    std::string all;
    for (const std::string& remark : remarks_on(read_costs(target))) all += remark + "\n";
    return all;
  };
  CHECK(remarks("vnni").find("8-bit activations cost nothing on vnni\n") != std::string::npos);
  CHECK(remarks("neondot").find("weights of up to 8 bits take the same time") != std::string::npos);
  // 10 and 10.6 cycles against 8.
  CHECK(remarks("neon").find("weights above 6 bits cost 1.25 to 1.3") != std::string::npos);
  CHECK(remarks("avx2").find("8-bit activations cost nothing") == std::string::npos);
}

// A table as vitbench costs prints it, `rows` in place of the numbers of Linears.
std::string costs_json(const std::string& rows) {
  return R"({"target": "board", "isa": "neon", "cpu": "a board", "picoseconds": )" + rows + "}";
}

std::string rows_of(const std::string& first, int rows = 6) {
  std::string text = "[[" + first + ", 2, 3, 4, 5, 6]";
  for (int i = 1; i < rows; i++) text += ", [1, 2, 3, 4, 5, 6.5]";
  return text + "]";
}

TEST_CASE("a table of costs from a file, and what is refused") {
  const TempFolder folder;
  const CostTable table = read_costs(folder.file("good.json", costs_json(rows_of("1.25"))));
  CHECK(table.target == "board");
  CHECK(table.of_linear({3, 3}) == 1.25);
  CHECK(table.of_linear({8, 8}) == 6.5);
  CHECK(table.of_scores(4) == 2);  // no table of its own
  CHECK(table.of_mix(3) == 6);
  const std::pair<std::string, const char*> bad[] = {
      {"", "not valid JSON"},
      {"[1]", "expected what vitbench costs"},
      {"{}", "expected what vitbench costs"},
      {costs_json("7"), "6 rows of 6"},
      {costs_json(rows_of("1", 5)), "6 rows of 6"},
      {costs_json(rows_of("1, 1")), "6 rows of 6"},
      {costs_json(rows_of("NaN")), "not valid JSON"},
      {costs_json(rows_of("-1")), "picoseconds above 0"},
      {costs_json(rows_of("0")), "picoseconds above 0"},
      {costs_json(rows_of("1e7")), "picoseconds above 0"},
      {costs_json(rows_of("null")), "W3/A3: expected picoseconds above 0"},
      {costs_json(rows_of("\"1\"")), "picoseconds above 0"},
      {costs_json(rows_of("[1]")), "nested deeper"},
      {costs_json(rows_of("1")).replace(12, 5, ""), "one line of 1 to 200"},
      {costs_json(rows_of("1")).replace(12, 5, "a\\nb"), "one line of 1 to 200"},
      {R"({"target": 3, "isa": "a", "cpu": "b", "picoseconds": []})", "expected what vitbench"}};
  for (const auto& [text, says] : bad) {
    CAPTURE(text);
    try {
      read_costs(folder.file("bad.json", text));
      FAIL_CHECK("accepted");
    } catch (const Error& e) {
      CAPTURE(e.what());
      CHECK(std::string(e.what()).find(says) != std::string::npos);
      CHECK(std::string(e.what()).find(folder / "bad.json") != std::string::npos);
    }
  }
  CHECK_THROWS_AS(read_costs(folder / "none.json"), Error);
}

TEST_CASE("cli: vitquant --bits target says what it chose and why, and puts it into the file") {
  const TempFolder folder;
  const std::string qbin = folder / "m.qbin", page = folder / "m.html";
  const auto quantize = [&](const std::vector<std::string>& more) {
    Command command = {"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "-o", qbin};
    command.insert(command.end(), more.begin(), more.end());
    return execute(command);
  };
  const Outcome done = quantize({"--bits", "target:avx2", "--report", page});
  CAPTURE(done.err);
  REQUIRE(done.status == 0);
  for (const char* says :
       {"target avx2: measured", "weights above 4 bits cost", "W4/A8", "as chosen"})
    CHECK(done.out.find(says) != std::string::npos);
  CHECK(read_bytes(page).find("<td>as chosen</td>") != std::string::npos);
  const std::string info = output_of({"vitrun", "--model", qbin, "--info", "--json"});
  for (const char* key : {"\"target\": \"avx2\"", "\"target_costs\"", "\"predicted_ms\"",
                          "\"predicted_logits_error\"", "\"activation_codes\": \"uniform\""})
    CHECK_MESSAGE(info.find(key) != std::string::npos, key << info);
  output_of({"vitrun", "--model", qbin, "--raw", input_of("vit")});

  const auto size = std::filesystem::file_size(qbin);
  REQUIRE(quantize({"--bits", "target:vnni,size=" + std::to_string(size * 3 / 2)}).status == 0);
  CHECK(std::filesystem::file_size(qbin) <= size * 3 / 2);
  const std::string table = folder.file("board.json", costs_json(rows_of("1.25")));
  CHECK(quantize({"--bits", "target:" + table + ",time=0.001"}).status == 0);

  CHECK(quantize({"--bits", "target:" + table + ",time=0.0000001"}).status == 1);
  CHECK(quantize({"--bits", "target:vnni,size=9000"}).status == 1);
  CHECK(quantize({"--bits", "target:avx3"}).status == 1);
  CHECK(quantize({"--bits", "target:vnni,time=0"}).status == 2);
  CHECK(quantize({"--bits", "target:vnni", "--mixed", "lrp"}).status == 2);
  CHECK(quantize({"--bits", "target:vnni", "--method", "ptq4vit"}).status == 2);
}

TEST_CASE("cli: what vitbench costs prints is a target") {
  if (*VITRUN_EMULATOR) return;  // slow there
  const TempFolder folder;
  const std::string isa = choose_kernels().name;
  const std::string table = folder.file(
      "board.json", output_of({"vitbench", "costs", "--isa", isa, "--repetitions", "1", "--json"}));
  CHECK(read_costs(table).target == isa);
  const std::string said =
      output_of({"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "--bits",
                 "target:" + table, "-o", folder / "m.qbin"});
  CHECK(said.find("target " + isa + ": measured, " + isa) != std::string::npos);
  CHECK(output_of({"vitbench", "costs", "--isa", isa, "--repetitions", "1"})
            .find("attention, by bits of K and Q") != std::string::npos);
}

}  // namespace
}  // namespace vitrun
