// Mixed precision by relevance: the paper's rule on hand-made importances, the knapsack against
// every selection.
#include <doctest/doctest.h>

#include <random>

#include "models/sites.h"
#include "models/status.h"
#include "quant/allocate.h"
#include "runtime/model_file.h"
#include "tests/program.h"

namespace vitrun {
namespace {

// A DeiT of 12 equal blocks.
Graph deit() {
  return build_graph(config_from_arch("deit_tiny_patch16_224"));
}

Importance importance_of(const Graph& graph, double (*of)(int block, const std::string& kind)) {
  Importance importance;
  for (const std::string& name : unit_names(graph)) {
    if (!name.starts_with("blocks.")) continue;
    const size_t dot = name.find('.', 7);
    importance[name] = of(std::stoi(name.substr(7, dot - 7)), name.substr(dot + 1));
  }
  return importance;
}

int64_t weight_bits(const Graph& graph, const BitPlan& plan) {
  int64_t bits = 0;
  for (const auto& [unit, b] : plan)
    if (const int node = graph.find(unit); node >= 0 && unit.starts_with("blocks."))
      if (const Node& n = graph.nodes[static_cast<size_t>(node)]; n.kind == NodeKind::kLinear)
        bits += int64_t{b.weight} * n.cols * graph.nodes[static_cast<size_t>(n.in[0])].cols;
  return bits;
}

TEST_CASE("by-unit: the first two blocks rise, for each kind the two least important fall") {
  const Graph graph = deit();
  const Importance importance = importance_of(graph, [](int block, const std::string& kind) {
    return kind == "mlp.fc1" ? 20.0 - block : 1.0 + block;  // fc1 matters less the deeper
  });
  const BitPlan plan = mixed_plan(graph, importance, {});
  for (int block = 0; block < 12; block++)
    for (const char* kind : {"attn.qkv", "attn.matmul1", "attn.attn", "attn.matmul2", "attn.proj",
                             "mlp.fc1", "mlp.fc2"}) {
      const bool fc1 = std::string(kind) == "mlp.fc1";
      const bool falls = fc1 ? block >= 10 : block == 2 || block == 3;
      const int want = block < 2 ? 5 : falls ? 3 : 4;
      const std::string unit = cat("blocks.", block, ".", kind);
      CAPTURE(unit);
      CHECK(plan.at(unit) == UnitBits{want, want});
    }
  CHECK(plan.at("head") == UnitBits{4, 4});
  BitPlan uniform = plan;
  for (auto& [unit, bits] : uniform) bits = {4, 4};
  CHECK(weight_bits(graph, plan) == weight_bits(graph, uniform));
}

TEST_CASE("by-block lowers whole blocks; weights alone leave activations; equal ones go in order") {
  const Graph graph = deit();
  const Importance importance = importance_of(
      graph, [](int block, const std::string&) { return block == 7 || block == 9 ? 0.5 : 1.0; });
  const BitPlan plan = mixed_plan(graph, importance,
                                  {.mixed_case = MixedCase::kByBlock,
                                   .operands = MixedOperands::kWeights,
                                   .weight_bits = 6,
                                   .activation_bits = 8});
  for (int block = 0; block < 12; block++) {
    const int want = block < 2 ? 7 : block == 7 || block == 9 ? 5 : 6;
    CHECK(plan.at(cat("blocks.", block, ".mlp.fc2")) == UnitBits{want, 8});
  }
  const Importance equal = importance_of(graph, [](int, const std::string&) { return 1.0; });
  const BitPlan tied = mixed_plan(graph, equal, {});
  CHECK(tied.at("blocks.2.attn.qkv").weight == 3);
  CHECK(tied.at("blocks.3.attn.qkv").weight == 3);
  CHECK(tied.at("blocks.4.attn.qkv").weight == 4);
}

TEST_CASE("Swin's unequal blocks: no more weight bits than at the base") {
  const Graph graph = build_graph(config_from_arch("swin_tiny_patch4_window7_224"));
  Importance importance;
  double next = 1;
  for (const std::string& name : unit_names(graph)) importance[name] = next += 1;
  for (MixedCase c : {MixedCase::kByUnit, MixedCase::kByBlock}) {
    const BitPlan plan = mixed_plan(graph, importance, {.mixed_case = c});
    CHECK(plan.at("layers.0.blocks.1.attn.qkv").weight == 5);
    int64_t more = 0;
    for (const auto& [unit, bits] : plan)
      if (const int node = graph.find(unit); node >= 0)
        if (const Node& n = graph.nodes[static_cast<size_t>(node)]; n.kind == NodeKind::kLinear)
          more +=
              (bits.weight - 4) * int64_t{n.cols} * graph.nodes[static_cast<size_t>(n.in[0])].cols;
    CHECK(more <= 0);
  }
}

TEST_CASE("base 3 has nothing to lower") {
  const Graph graph = deit();
  const Importance equal = importance_of(graph, [](int, const std::string&) { return 1.0; });
  CHECK_THROWS_AS(mixed_plan(graph, equal, {.weight_bits = 3}), Error);
}

TEST_CASE("the knapsack finds what trying everything finds") {
  std::mt19937 random(5);
  for (int round = 0; round < 50; round++) {
    std::vector<std::vector<Choice>> units(5);
    for (auto& unit : units)
      for (int bits = 3; bits < 7; bits++)
        unit.push_back(
            {bits, static_cast<int64_t>(random() % 50 + 1), static_cast<double>(random() % 1000)});
    const int64_t limit = 40 + static_cast<int64_t>(random() % 150);
    double least = -1;
    for (int code = 0; code < 1024; code++) {
      int64_t bytes = 0;
      double cost = 0;
      for (size_t u = 0; u < 5; u++) {
        const Choice& c = units[u][static_cast<size_t>(code >> (2 * u) & 3)];
        bytes += c.bytes;
        cost += c.cost;
      }
      if (bytes <= limit && (least < 0 || cost < least)) least = cost;
    }
    if (least < 0) {
      CHECK_THROWS_AS(choose_within(units, limit), Error);
      continue;
    }
    const std::vector<size_t> chosen = choose_within(units, limit);
    int64_t bytes = 0;
    double cost = 0;
    for (size_t u = 0; u < 5; u++) {
      bytes += units[u][chosen[u]].bytes;
      cost += units[u][chosen[u]].cost;
    }
    CHECK(bytes <= limit);
    CHECK(cost == doctest::Approx(least));
  }
}

TEST_CASE("cli: relevance to mixed precision, end to end, and its refusals") {
  const TempFolder folder;
  const std::string scores = folder / "s.json", qbin = folder / "m.qbin";
  output_of({"vitlrp", "-w", model("swin"), "--raw", input_of("swin"), "-o", scores});
  const Command quantize = {"vitquant", "-w", model("swin"), "--calib-raw", input_of("swin"),
                            "--wbits",  "4",  "--abits",     "4",           "-o",
                            qbin};
  const auto with = [&](std::vector<std::string> more) {
    Command command = quantize;
    command.insert(command.end(), more.begin(), more.end());
    return execute(command);
  };
  const Outcome done = with({"--mixed", "lrp", "--importance", scores, "--method", "crl"});
  CHECK(done.status == 0);
  CHECK(done.out.find("layers.0.blocks.0.attn.qkv       W5/A5") != std::string::npos);
  output_of({"vitrun", "--model", qbin, "--raw", input_of("swin")});

  CHECK(with({"--mixed", "lrp"}).status == 2);
  CHECK(with({"--mixed", "lrp", "--importance", scores, "--mp-case", "odd"}).status == 2);
  const std::string text = read_bytes(scores);
  const auto refused = [&](const std::string& content, const char* says) {
    const Outcome o = with({"--mixed", "lrp", "--importance", folder.file("bad.json", content)});
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.err.find(says) != std::string::npos);
  };
  refused("{", "bad.json");
  refused("{\"units\": []}", "missing");
  std::string renamed = text;
  renamed.replace(renamed.find("mlp.fc1"), 7, "mlp.fc3");
  refused(renamed, "mlp.fc1");
  refused(text.substr(0, text.find("\"units\": [") + 10) +
              "{\"name\": \"layers.0.blocks.0.attn.qkv\", \"importance\": -1}]}",
          "expected a number");
}

TEST_CASE("vitquant folds LayerNorms unless weights have fewer bits than activations") {
  const TempFolder folder;
  const struct {
    const char *weight_bits, *activation_bits, *asked, *done;
  } rows[] = {{"8", "8", "auto", "repq"},
              {"4", "8", "auto", "layerwise"},
              {"4", "4", "auto", "repq"},
              {"4", "8", "crl", "crl"}};
  for (const auto& row : rows) {
    const std::string out = folder / "m.qbin";
    output_of({"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "--wbits",
               row.weight_bits, "--abits", row.activation_bits, "--method", row.asked, "-o", out});
    CAPTURE(row.weight_bits);
    CAPTURE(row.activation_bits);
    CHECK(output_of({"vitrun", "--model", out, "--info", "--json"})
              .find(cat("\"method\": \"", row.done, "\"")) != std::string::npos);
  }
}

}  // namespace
}  // namespace vitrun
