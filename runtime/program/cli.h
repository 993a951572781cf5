// Functions that all programs share. Results go to stdout, everything else to stderr. The exit
// status is 0 for success, 1 for a failure, 2 for wrong use.
#pragma once

#include <chrono>
#include <cxxopts.hpp>
#include <functional>
#include <string>
#include <vector>

#include "runtime/program/predictor.h"
#include "runtime/vision/image.h"

namespace vitrun {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Parses the arguments, answers --help and --version, runs `body` and turns errors into a message
// and an exit status. `examples` follow the options in --help.
int run_program(cxxopts::Options options, const std::string& examples, int argc, char** argv,
                const std::function<int(const cxxopts::ParseResult&)>& body);

// Wrong use that the option parser cannot see; the exit status is 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Prints progress on stderr: a bar with the time left on a terminal, else a line for every tenth.
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

// Returns the most memory this process has had resident so far, in MB; 0 where the system does not
// tell.
double peak_memory_mb();

// Returns an integer option; throws UsageError outside [low, high].
int int_option(const cxxopts::ParseResult& args, const std::string& name, int low, int high);

// Reads --threads; without it, the CPUs that this process may use.
int thread_option(const cxxopts::ParseResult& args);

// Fails if a file that one of these options names cannot be written.
void check_outputs(const cxxopts::ParseResult& args, std::initializer_list<const char*> options);

// Adds what a user may say of float weights: --arch, --config, --heads and --pool.
void add_weight_options(cxxopts::Options& options);
WeightOptions weight_options(const cxxopts::ParseResult& args);

// Reads --threads, --batch, --isa and the options of weights, which the program must have.
PredictorOptions predictor_options(const cxxopts::ParseResult& args);

// Adds and reads --exif, which every program that reads images has.
void add_exif_option(cxxopts::Options& options);
Exif exif_option(const cxxopts::ParseResult& args);
const char* exif_name(Exif exif);

// The name of a class, "class 7" where there are no labels.
std::string class_name(const std::vector<std::string>& labels, int index);

// Reads exactly `classes` class names, one on each line. A byte order mark, carriage returns and
// empty lines at the end do not count.
std::vector<std::string> read_labels(const std::string& path, int classes);

}  // namespace vitrun
