// The options of vitquant, which say what to quantize and how; rows of viteval --table take them
// too.
#pragma once

#include <cxxopts.hpp>

#include "quant/pipeline.h"

namespace vitrun {

void add_quantize_options(cxxopts::Options& options);

struct QuantizeJob {
  FloatModel model;
  ImageSource calibration;
  QuantizeOptions options;
};

// Why an argument is refused that names an option vitquant had once, and what replaces it; empty
// where there is none.
std::string removed_option(int argc, const char* const* argv);

// Reads the files that the options name. Fails on bad files; throws UsageError on wrong use.
QuantizeJob read_job(const cxxopts::ParseResult& args);

}  // namespace vitrun
