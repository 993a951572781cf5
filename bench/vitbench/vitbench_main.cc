// vitbench: the benchmark program.
#include <cstdio>
#include <cstring>
#include <cxxopts.hpp>
#include <exception>

#include "bench/vitbench/vitbench.h"
#include "kernels/registry.h"
#include "models/base/error.h"

namespace vitrun {
namespace {

cxxopts::Options describe_options() {
  cxxopts::Options options("vitbench",
                           "Times the kernels and whole models. Results on stdout.\n"
                           "vitbench costs --isa avx2 --json > board.json makes a table for "
                           "vitquant --bits target:board.json.");
  options.add_options()(
      "command",
      "gemm, chain, ops, model, page (this machine and whole models on it), costs or all",
      cxxopts::value<std::string>()->default_value("all"))(
      "isa", "ISAs to time, separated by commas, or all",
      cxxopts::value<std::vector<std::string>>()->default_value("all"))(
      "arch", "model: what to time, separated by commas",
      cxxopts::value<std::vector<std::string>>()->default_value("deit_small_patch16_224"))(
      "model", "model: .qbin files instead, separated by commas",
      cxxopts::value<std::vector<std::string>>())(
      "threads", "model: thread counts, separated by commas",
      cxxopts::value<std::vector<int>>()->default_value("1,2"))(
      "batch", "model: images a run", cxxopts::value<int>()->default_value("1"))(
      "profile", "model: time by kind of step")("repetitions", "how often each is timed",
                                                cxxopts::value<int>()->default_value("15"))(
      "json", "one JSON object a line")("peers", "chain: oneDNN and OpenBLAS beside ours")(
      "help", "this text");
  options.parse_positional({"command"});
  options.positional_help("[gemm|chain|ops|model|page|costs|all]");
  return options;
}

BenchOptions read_options(const cxxopts::ParseResult& parsed) {
  BenchOptions options;
  options.isas = parsed["isa"].as<std::vector<std::string>>();
  if (options.isas == std::vector<std::string>{"all"}) options.isas.clear();
  for (const std::string& name : options.isas) {
    if (!find_kernels(name.c_str())) {
      fail("--isa ", name, ": unknown or not supported here; this CPU has ", isa_names());
    }
  }
  options.repetitions = parsed["repetitions"].as<int>();
  if (options.repetitions < 1) fail("--repetitions ", options.repetitions, ": expected at least 1");
  options.archs = parsed["arch"].as<std::vector<std::string>>();
  if (parsed.count("model")) options.models = parsed["model"].as<std::vector<std::string>>();
  options.threads = parsed["threads"].as<std::vector<int>>();
  options.batch = parsed["batch"].as<int>();
  if (options.batch < 1) fail("--batch ", options.batch, ": expected at least 1");
  options.profile = parsed.count("profile") > 0;
  options.json = parsed.count("json") > 0;
  options.peers = parsed.count("peers") > 0;
  return options;
}

// The subcommands, in the order in which `all` runs them.
constexpr struct {
  const char* name;
  int (*run)(const BenchOptions& options);
} kCommands[] = {
    {"gemm", bench_gemm}, {"chain", bench_chain}, {"ops", bench_ops}, {"model", bench_model}};

int run_bench(const std::string& command, const BenchOptions& options) {
  if (command == "page") return bench_page(options);
  if (command == "costs") return bench_costs(options);
  bool known = false;
  for (const auto& c : kCommands) {
    if (command != "all" && command != c.name) continue;
    known = true;
    if (const int status = c.run(options)) return status;
  }
  if (!known) fail("command '", command, "': expected gemm, chain, ops, model, page, costs or all");
  return 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  cxxopts::Options options = vitrun::describe_options();
  try {
    const cxxopts::ParseResult parsed = options.parse(argc, argv);
    if (parsed.count("help")) {
      std::printf("%s\n", options.help().c_str());
      return 0;
    }
    return vitrun::run_bench(parsed["command"].as<std::string>(), vitrun::read_options(parsed));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vitbench: %s\n", error.what());
    return 2;
  }
}
