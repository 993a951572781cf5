// What the programs' main functions share. Results go to stdout, everything else to stderr; exit
// status 0 ok, 1 failure, 2 usage.
#pragma once

#include <chrono>
#include <cxxopts.hpp>
#include <functional>
#include <string>
#include <vector>

#include "runtime/program/predictor.h"

namespace vitrun {

// Parses, answers --help and --version, runs `body` and turns errors into a message and an exit
// status. `examples` follow the options in --help.
int run_program(cxxopts::Options options, const std::string& examples, int argc, char** argv,
                const std::function<int(const cxxopts::ParseResult&)>& body);

// Wrong use that the option parser cannot see: exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A bar with the time left on a terminal, a plain line every tenth otherwise. On stderr.
class ProgressBar {
 public:
  explicit ProgressBar(std::string what);
  ~ProgressBar();
  void update(double fraction);

 private:
  std::string what_;
  bool terminal_;
  int shown_ = -1;
  std::chrono::steady_clock::time_point start_;
};

// The number of CPUs this process may use.
int default_threads();

// The most memory this process has had resident so far, in MB; 0 where the system does not tell.
double peak_memory_mb();

// An integer option within [low, high]; a value outside is wrong use.
int int_option(const cxxopts::ParseResult& args, const std::string& name, int low, int high);

// From the options --threads, --batch, --isa and --arch, which the program must have.
PredictorOptions predictor_options(const cxxopts::ParseResult& args);

// One class name per line, exactly `classes` of them.
std::vector<std::string> read_labels(const std::string& path, int classes);

}  // namespace vitrun
