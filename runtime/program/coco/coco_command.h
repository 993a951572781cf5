// viteval --coco: the figures of detections.
#pragma once

#include "runtime/program/cli.h"

namespace vitrun {

// Adds --coco, --detections and --report.
void add_coco_options(cxxopts::Options& options);

// Reads the annotations of --coco, says what of them does not count, and evaluates --detections.
int run_coco(const cxxopts::ParseResult& args);

}  // namespace vitrun
