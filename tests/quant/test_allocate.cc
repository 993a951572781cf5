// Mixed precision by relevance: the paper's rule on hand-made importances, the knapsack against
// every selection.
#include <doctest/doctest.h>

#include <random>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "models/families/families.h"
#include "models/graph/quantizers.h"
#include "models/graph/rewrite.h"
#include "quant/bits/allocate.h"
#include "runtime/files/model_file.h"
#include "tests/runtime/program/program.h"

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

int64_t parameters_of(const Graph& graph, int linear) {
  const LinearSize size = linear_size(graph, linear);
  return int64_t{size.n} * size.k;
}

int64_t packed_bytes(const Graph& graph, int linear, int bits) {
  const LinearSize size = linear_size(graph, linear);
  return pack_bytes(size.n, size.k, bits);
}

int64_t weight_bits(const Graph& graph, const BitPlan& plan) {
  int64_t bits = 0;
  for (const auto& [unit, b] : plan)
    if (const int node = graph.find(unit); node >= 0 && unit.starts_with("blocks."))
      if (graph.is(node, NodeKind::kLinear)) bits += b.weight * parameters_of(graph, node);
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
        if (graph.is(node, NodeKind::kLinear))
          more += (bits.weight - 4) * parameters_of(graph, node);
    CHECK(more <= 0);
  }
}

TEST_CASE("base 3 has nothing to lower") {
  const Graph graph = deit();
  const Importance equal = importance_of(graph, [](int, const std::string&) { return 1.0; });
  CHECK_THROWS_AS(mixed_plan(graph, equal, {.weight_bits = 3}), Error);
}

TEST_CASE("the knapsack finds what trying everything finds, under one limit and under two") {
  std::mt19937 random(5);
  const auto below = [&](uint32_t end) { return static_cast<int64_t>(random() % end); };
  int failed = 0;
  for (int round = 0; round < 300; round++) {
    std::vector<std::vector<Choice>> units(5);
    for (auto& unit : units)
      for (int bits = 3; bits < 7; bits++)
        unit.push_back({{bits, 8},
                        below(50),
                        below(round % 3 ? 50 : 3),
                        static_cast<double>(below(round % 2 ? 1000 : 4))});
    Limits limits{.bytes = 20 + below(150)};
    if (round % 5) limits.time = 20 + below(150);
    double least = -1;
    for (size_t code = 0; code < 1024; code++) {
      int64_t bytes = 0, time = 0;
      double cost = 0;
      for (size_t u = 0; u < 5; u++) {
        const Choice& c = units[u][code >> (2 * u) & 3];
        bytes += c.bytes;
        time += c.time;
        cost += c.cost;
      }
      if (bytes <= limits.bytes && time <= limits.time && (least < 0 || cost < least)) least = cost;
    }
    if (least < 0) {
      CHECK_THROWS_AS(choose_within(units, limits), Error);
      failed++;
      continue;
    }
    const std::vector<size_t> chosen = choose_within(units, limits);
    int64_t bytes = 0, time = 0;
    double cost = 0;
    for (size_t u = 0; u < 5; u++) {
      const Choice& c = units[u][chosen[u]];
      bytes += c.bytes;
      time += c.time;
      cost += c.cost;
    }
    CHECK(bytes <= limits.bytes);
    CHECK(time <= limits.time);
    CHECK(cost == doctest::Approx(least));
  }
  CHECK(failed > 10);  // both kinds occur
  CHECK(failed < 200);
}

// The second word of the line that begins with a unit's name.
std::string bits_in(const std::string& table, const std::string& unit) {
  const size_t at = table.find("\n" + unit + " ");
  if (at == std::string::npos) return "none";
  const size_t from = table.find_first_not_of(' ', at + 1 + unit.size());
  return table.substr(from, table.find_first_of(" \n", from) - from);
}

TEST_CASE("a budget buys the least sum of importance times error, and no more than it has") {
  const Graph graph = build_graph(config_from_arch("deit_tiny_patch16_224"));
  Importance importance = importance_of(graph, [](int block, const std::string&) {
    return block == 5 ? 100.0 : 1.0;  // one block matters
  });
  OutputErrors errors;
  for (const std::string& name : unit_names(graph)) {
    const bool product = name.find("matmul") != name.npos || name.ends_with("attn.attn");
    if (!product) errors[name] = {1.0 / 64, 1.0 / 256, 1.0 / 1024, 1.0 / 4096, 1.0 / 16384, 1e-5};
  }
  int64_t uniform = 0;  // packed bytes of all weights at 4 bits
  for (int i = 0; i < graph.size(); i++)
    if (graph.is(i, NodeKind::kLinear)) uniform += packed_bytes(graph, i, 4);
  for (auto operands : {MixedOperands::kBoth, MixedOperands::kWeights}) {
    const BitPlan plan = budget_plan(graph, importance, errors, {4, 8}, operands, uniform);
    int64_t bytes = 0;
    for (const auto& [unit, bits] : plan) {
      CAPTURE(unit);
      const bool scored = errors.contains(unit) && importance.contains(unit);
      CHECK(bits.activation == (scored && operands == MixedOperands::kBoth ? bits.weight : 8));
      if (!scored) CHECK(bits.weight == 4);
      if (scored && unit.starts_with("blocks.5.")) CHECK(bits.weight > 5);
      if (scored && !unit.starts_with("blocks.5.")) CHECK(bits.weight <= 5);
      const int node = graph.find(unit == "patch_embed" ? "patch_embed.proj" : unit);
      if (node < 0 || !graph.is(node, NodeKind::kLinear)) continue;
      bytes += packed_bytes(graph, node, bits.weight);
    }
    CHECK(bytes <= uniform);
    CHECK(bytes > uniform * 99 / 100);  // nearly all of it is spent
  }
  CHECK_THROWS_AS(
      budget_plan(graph, importance, errors, {4, 8}, MixedOperands::kWeights, uniform / 2), Error);
}

TEST_CASE("cli: a file made to a size is no larger, and says what each unit got") {
  const TempFolder folder;
  const std::string scores = folder / "s.json", qbin = folder / "m.qbin", page = folder / "m.html";
  output_of({"vitlrp", "-w", model("vit"), "--raw", input_of("vit"), "-o", scores});
  const auto quantize = [&](const std::string& size, bool by_relevance = true) {
    Command command = {"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"),
                       "--wbits",  "4",  "--mixed",    "budget",      "--size",
                       size,       "-o", qbin,         "--report",    page};
    if (by_relevance) command.insert(command.end(), {"--importance", scores});
    return execute(command);
  };
  output_of(
      {"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "--wbits", "5", "-o", qbin});
  const auto size = std::filesystem::file_size(qbin);
  const Outcome done = quantize(std::to_string(size));
  CAPTURE(done.err);
  REQUIRE(done.status == 0);
  CHECK(std::filesystem::file_size(qbin) <= size);
  CHECK(std::filesystem::file_size(qbin) > size * 8 / 10);
  CHECK(bits_in(done.out, "patch_embed") == "4/8");
  const std::string html = read_bytes(page);
  CHECK(html.find("<td>blocks.1.mlp.fc2</td>") != html.npos);
  CHECK(html.find("http") == html.npos);  // self-contained
  output_of({"vitrun", "--model", qbin, "--raw", input_of("vit")});
  // Without relevance every Linear, the head too, counts by what its error does to the logits.
  const Outcome by_logits = quantize(std::to_string(size), false);
  CHECK(by_logits.status == 0);
  CHECK(std::filesystem::file_size(qbin) <= size);
  CHECK(by_logits.out.find("rankings") == by_logits.out.npos);
  const Outcome small = quantize("9000");
  CHECK(small.status == 1);
  const std::string said =
      "no choice of bits fits into a file of 9000 bytes: the smallest possible has ";
  REQUIRE(small.err.find(said) != small.err.npos);
  // The file has that size, but for the few bytes of numbers that other_bytes() bounds from above.
  const std::string smallest = small.err.substr(small.err.find(said) + said.size());
  CHECK(quantize(std::to_string(std::stoll(smallest) - 1)).status == 1);
  REQUIRE(quantize(std::to_string(std::stoll(smallest))).status == 0);
  CHECK(static_cast<long long>(std::filesystem::file_size(qbin)) <= std::stoll(smallest));
}

TEST_CASE(
    "cli: an entropy-coded file has the size asked for, its bits are shown, too few refused") {
  const TempFolder folder;
  const std::string qbin = folder / "m.qbin", page = folder / "m.html";
  const auto quantize = [&](const std::string& size) {
    return execute({"vitquant", "-w", model("swin"), "--calib-raw", input_of("swin"), "--size",
                    size, "-o", qbin, "--report", page});
  };
  const Outcome done = quantize("24000");
  CAPTURE(done.err);
  REQUIRE(done.status == 0);
  CHECK(std::filesystem::file_size(qbin) <= 24000);
  CHECK(std::filesystem::file_size(qbin) > 23500);
  const std::string bits = bits_in(done.out, "layers.0.blocks.0.attn.qkv");
  CHECK(bits.ends_with("/8"));
  CHECK(read_bytes(page).find("<td>" + bits + "</td>") != std::string::npos);
  output_of({"vitrun", "--model", qbin, "--raw", input_of("swin"), "--logits", folder / "l.npy"});
  const std::string info = output_of({"vitrun", "--model", qbin, "--info", "--json"});
  for (const char* shown : {"\"decoded_weights\"", "\"stored_bits\"", "\"coded_bytes\": 24000",
                            "\"rates_by\": \"prediction\""})
    CHECK(info.find(shown) != std::string::npos);

  const Outcome small = quantize("9000");
  CHECK(small.status == 1);
  CHECK(small.err.find("no steps of the weights fit into a file of 9000 bytes: the smallest "
                       "possible has about ") != std::string::npos);
}

TEST_CASE("cli: bits by hand, the longest name counts; refusals") {
  const TempFolder folder;
  const auto run = [&](const std::string& bits) {
    return execute({"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "--wbits", "4",
                    "--bits", folder.file("bits.json", bits), "-o", folder / "m.qbin"});
  };
  const Outcome done = run(R"({"blocks.1.mlp.fc1": 6, "blocks.1": [5, 7], "head": 3})");
  CHECK(done.status == 0);
  CHECK(bits_in(done.out, "blocks.0.mlp.fc1") == "4/8");
  CHECK(bits_in(done.out, "blocks.1.mlp.fc1") == "6/6");
  CHECK(bits_in(done.out, "blocks.1.mlp.fc2") == "5/7");
  CHECK(bits_in(done.out, "blocks.1.attn.matmul1") == "7");
  CHECK(bits_in(done.out, "head") == "3/3");
  const std::pair<const char*, const char*> bad[] = {
      {"{", "not valid JSON"},
      {"[4]", "expected an object"},
      {R"({"blocks": {"0": 4}})", "expected bits or [weight bits, activation bits]"},
      {R"({"blocks.1": 4.5})", "expected bits or"},
      {R"({"blocks.1": [4, 9]})", "bits must be 3 to 8, got 9"},
      {R"({"blocks.1": 4294967300})", "bits must be 3 to 8"},
      {R"({"block.1": 4})", "the model has no unit 'block.1'"},
      {R"({"blocks.1.mlp": 4, "blocks.1.mlp": 5})", "appears twice"}};
  for (const auto& [text, message] : bad) {
    const Outcome o = run(text);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.err.find(folder / "bits.json: ") != o.err.npos);
    CHECK(o.err.find(message) != o.err.npos);
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
  CHECK(bits_in(done.out, "layers.0.blocks.0.attn.qkv") == "5/5");
  output_of({"vitrun", "--model", qbin, "--raw", input_of("swin")});

  CHECK(with({"--mixed", "lrp"}).status == 2);
  CHECK(with({"--mixed", "budget"}).status == 2);
  CHECK(with({"--mixed", "lrp", "--importance", scores, "--bits", "x.json"}).status == 2);
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
