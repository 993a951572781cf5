// Detections that a model finds, for viteval --coco.
#pragma once

#include "runtime/program/coco/coco_command.h"

namespace vitrun {

// Runs the detector of `path`, that of --model or --reference, on the set's images, which lie in
// --images by their file names. A class is the category of its label, or without labels the
// category in the order of their ids. An image that cannot be read has no detections and is noted.
CocoSource detector_source(const cxxopts::ParseResult& args, const std::string& path);

}  // namespace vitrun
