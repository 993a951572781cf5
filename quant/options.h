// vitquant's options: what to quantize and how. viteval --table takes the same for each row.
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

// Reads the files that the options name. Fails on bad files; throws UsageError on wrong use.
QuantizeJob read_job(const cxxopts::ParseResult& args);

}  // namespace vitrun
