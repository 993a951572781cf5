// viteval --coco: the figures of detections.
#pragma once

#include "runtime/program/cli.h"
#include "runtime/program/coco/coco_set.h"

namespace vitrun {

// Adds --coco, --detections and --report.
void add_coco_options(cxxopts::Options& options);

// Detections of the images of a set: those in a file, or what a detector finds.
struct CocoSource {
  std::string title;  // for people
  std::function<CocoDetections(const CocoSet&)> detections;
};

// Reads the annotations of --coco, says what does not count, prints the figures of the detections
// and writes the page of --report. With a reference, whose `detections` are set, prints its figures
// beside them and how far the two agree.
void evaluate_coco(const cxxopts::ParseResult& args, const CocoSource& source,
                   const CocoSource& reference = {});

// Evaluates the file of --detections, or what --model finds on --images.
int run_coco(const cxxopts::ParseResult& args);

}  // namespace vitrun
