#include "runtime/program/cli.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <tuple>

#include "models/base/error.h"
#include "runtime/cpus.h"
#include "runtime/files/atomic_file.h"

#ifndef VITRUN_VERSION
#error "the build defines VITRUN_VERSION"
#endif

namespace vitrun {
namespace {

constexpr int kUsageStatus = 2;
constexpr int kEmptyLines = 1000;  // that may follow the labels

int usage_error(const cxxopts::Options& options, const std::string& what) {
  std::cerr << options.program() << ": " << what << "\nTry '" << options.program() << " --help'.\n";
  return kUsageStatus;
}

}  // namespace

int run_program(cxxopts::Options options, const std::string& examples, int argc, char** argv,
                const std::function<int(const cxxopts::ParseResult&)>& body) {
  options.add_options()("h,help", "show this help")("version", "show the version");
  try {
    const cxxopts::ParseResult args = options.parse(argc, argv);
    int status = 0;
    if (args.count("help"))
      std::cout << options.help() << "\nExamples:\n" << examples;
    else if (args.count("version"))
      std::cout << options.program() << " " VITRUN_VERSION "\n";
    else if (!args.unmatched().empty())
      throw UsageError(cat("unexpected argument '", args.unmatched().front(), "'"));
    else
      status = body(args);
    if (!std::cout.flush()) fail("cannot write to standard output");
    return status;
  } catch (const cxxopts::exceptions::exception& e) {
    return usage_error(options, e.what());
  } catch (const UsageError& e) {
    return usage_error(options, e.what());
  } catch (const std::bad_alloc&) {
    std::cerr << options.program() << ": out of memory\n";
  } catch (const std::exception& e) {
    std::cerr << options.program() << ": " << e.what() << "\n";
  }
  return 1;
}

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)),
      terminal_(isatty(STDERR_FILENO)),
      start_(std::chrono::steady_clock::now()) {
  update(0);
}

ProgressBar::~ProgressBar() {
  if (terminal_) std::fprintf(stderr, "\r\033[K");
}

void ProgressBar::update(double fraction) {
  const int permille = static_cast<int>(fraction * 1000),
            step = terminal_ ? permille : permille / 100;
  if (step == shown_) return;
  shown_ = step;
  const double spent = seconds_since(start_);
  if (!terminal_) {
    std::fprintf(stderr, "%s: %d %% (%.1f s)\n", what_.c_str(), permille / 10, spent);
    return;
  }
  const int filled = permille * 30 / 1000;
  std::fprintf(stderr, "\r\033[K%s [%s%s] %5.1f %%", what_.c_str(),
               std::string(static_cast<size_t>(filled), '#').c_str(),
               std::string(static_cast<size_t>(30 - filled), '.').c_str(), fraction * 100);
  if (fraction > 0.02) std::fprintf(stderr, ", %.0f s left", spent / fraction * (1 - fraction));
  std::fflush(stderr);
}

double peak_memory_mb() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  return 0;
}

int int_option(const cxxopts::ParseResult& args, const std::string& name, int low, int high) {
  const int value = args[name].as<int>();
  if (value < low || value > high)
    throw UsageError(cat("--", name, " must be ", low, " to ", high, ", got ", value));
  return value;
}

int thread_option(const cxxopts::ParseResult& args) {
  return args.count("threads") ? int_option(args, "threads", 1, 256) : available_cpus();
}

void check_outputs(const cxxopts::ParseResult& args, std::initializer_list<const char*> options) {
  for (const char* option : options)
    if (args.count(option)) check_writable(args[option].as<std::string>());
}

void add_weight_options(cxxopts::Options& options) {
  using std::string;
  options.add_options()  //
      ("arch", "a timm architecture, for weights without config.json",
       cxxopts::value<string>()->default_value(""), "NAME")  //
      ("config", "the weights' config.json, where it is not beside them",
       cxxopts::value<string>()->default_value(""), "FILE")                                //
      ("heads", "a ViT's heads, where nothing states them", cxxopts::value<int>(), "N")    //
      ("pool", "token or avg, where nothing states it", cxxopts::value<string>(), "POOL")  //
      ("image-size", "take images of this size: positions are resized", cxxopts::value<string>(),
       "N|HxW");
}

namespace {

// "224" or "384x512", height first.
std::pair<int, int> image_size(const std::string& text) {
  constexpr int kMost = 2048;
  int height = 0, width = 0;
  const char *begin = text.data(), *end = begin + text.size();
  const auto first = std::from_chars(begin, end, height);
  auto last = first;
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == 'x')
    last = std::from_chars(first.ptr + 1, end, width);
  else
    width = height;
  if (last.ec != std::errc() || last.ptr != end || height < 1 || width < 1 || height > kMost ||
      width > kMost)
    throw UsageError(
        cat("--image-size must be N or HEIGHTxWIDTH, 1 to ", kMost, ", got '", text, "'"));
  return {height, width};
}

}  // namespace

WeightOptions weight_options(const cxxopts::ParseResult& args) {
  WeightOptions options;
  options.arch = args["arch"].as<std::string>();
  options.config = args["config"].as<std::string>();
  if (!options.arch.empty() && !options.config.empty())
    throw UsageError("give --arch or --config, not both");
  if (args.count("heads")) options.heads = int_option(args, "heads", 1, 256);
  if (args.count("image-size"))
    std::tie(options.image_height, options.image_width) =
        image_size(args["image-size"].as<std::string>());
  if (!args.count("pool")) return options;
  const std::string pool = args["pool"].as<std::string>();
  if (pool != "token" && pool != "avg")
    throw UsageError(cat("--pool must be token or avg, got '", pool, "'"));
  options.pool = pool == "token" ? Pool::kToken : Pool::kAverage;
  return options;
}

PredictorOptions predictor_options(const cxxopts::ParseResult& args) {
  PredictorOptions options;
  options.threads = thread_option(args);
  options.max_batch = int_option(args, "batch", 1, 1024);
  options.isa = args["isa"].as<std::string>();
  options.weights = weight_options(args);
  return options;
}

void add_exif_option(cxxopts::Options& options) {
  options.add_options()  //
      ("exif", "the orientation that cameras note: apply, or ignore as timm does",
       cxxopts::value<std::string>()->default_value("apply"), "apply|ignore");
}

Exif exif_option(const cxxopts::ParseResult& args) {
  const std::string value = args["exif"].as<std::string>();
  for (Exif exif : {Exif::kApply, Exif::kIgnore})
    if (value == exif_name(exif)) return exif;
  throw UsageError(cat("--exif must be apply or ignore, got '", value, "'"));
}

const char* exif_name(Exif exif) {
  return exif == Exif::kApply ? "apply" : "ignore";
}

std::string class_name(const std::vector<std::string>& labels, int index) {
  return index < count_of(labels) ? at(labels, index) : cat("class ", index);
}

std::vector<std::string> read_labels(const std::string& path, int classes) {
  std::ifstream in(path);
  if (!in) fail(path, ": cannot read these labels");
  std::vector<std::string> labels;
  for (std::string line; std::getline(in, line) && count_of(labels) <= classes + kEmptyLines;) {
    if (labels.empty() && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.ends_with('\r')) line.pop_back();
    labels.push_back(line);
  }
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  if (count_of(labels) != classes)
    fail(path, ": ", count_of(labels) > classes ? "more than " : "",
         std::min(count_of(labels), classes), " labels, the model has ", classes, " classes");
  return labels;
}

}  // namespace vitrun
