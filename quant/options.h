// The options of vitquant, which say what to quantize and how; rows of viteval --table take them
// too.
#pragma once

#include <cxxopts.hpp>

#include "quant/pipeline.h"
#include "quant/quantize_detector.h"

namespace vitrun {

void add_quantize_options(cxxopts::Options& options);

struct QuantizeJob {
  FloatModel model;
  ImageSource calibration;
  QuantizeOptions options;
  std::string note;  // lines about images that are not used; empty for nothing
};

// A message where an argument names an option that vitquant no longer has; it says what replaces
// the option. Empty otherwise.
std::string removed_option(int argc, const char* const* argv);

// Reads the files that the options name. It fails on bad files and throws UsageError on wrong use.
QuantizeJob read_job(const cxxopts::ParseResult& args);

struct DetectorJob {
  FloatDetector model;
  PhotoSource calibration;
  QuantizeOptions options;
  std::string note;
};
// The same for weights of a detector.
DetectorJob read_detector_job(const cxxopts::ParseResult& args);

}  // namespace vitrun
