// vitbench: the benchmark program.
#include <cstdio>
#include <cstring>
#include <cxxopts.hpp>
#include <exception>

#include "bench/vitbench.h"
#include "kernels/registry.h"
#include "models/status.h"

namespace vitrun {
namespace {

cxxopts::Options describe_options() {
  cxxopts::Options options("vitbench", "Times the kernels. Results on stdout.");
  options.add_options()("command", "gemm, ops or all",
                        cxxopts::value<std::string>()->default_value("all"))(
      "isa", "ISAs to time, separated by commas, or all",
      cxxopts::value<std::vector<std::string>>()->default_value("all"))(
      "repetitions", "how often each is timed", cxxopts::value<int>()->default_value("15"))(
      "json", "one JSON object a line")("help", "this text");
  options.parse_positional({"command"});
  options.positional_help("[gemm|ops|all]");
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
  options.json = parsed.count("json") > 0;
  return options;
}

int run_bench(const std::string& command, const BenchOptions& options) {
  if (command != "gemm" && command != "ops" && command != "all") {
    fail("command '", command, "': expected gemm, ops or all");
  }
  int status = 0;
  if (command != "ops") status = bench_gemm(options);
  if (command != "gemm" && status == 0) status = bench_ops(options);
  return status;
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
