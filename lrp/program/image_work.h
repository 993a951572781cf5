// The images that vitlrp was given, and what it explains of each.
#pragma once

#include <cxxopts.hpp>
#include <functional>
#include <string>
#include <vector>

#include "models/graph/model_info.h"
#include "runtime/program/image_loader.h"

namespace vitrun {

// The images to explain, by their position.
struct Work {
  int64_t count = 0;
  // Loads images; LoadedImages' indices are positions.
  std::function<LoadedImages(int64_t first, int64_t n)> load;
  std::vector<int> targets;          // the class to explain for each image, -1: the predicted one
  std::string target = "predicted";  // Scores::target
  std::vector<int> labels;           // labels of the images, -1: none; empty for a raw tensor
};

// The classes of the images that were read.
std::vector<int> of_read(const LoadedImages& batch, const std::vector<int>& classes);

// Takes the images that --images, --raw, --labels, --limit and --shard name. `labelled`: the
// command reads labels.
Work choose_work(const cxxopts::ParseResult& args, const ModelInfo& config, bool labelled);

// The photographs of --images, --limit and --shard, for a detector, which takes any size.
std::vector<std::string> choose_photos(const cxxopts::ParseResult& args, const ModelInfo& config);

}  // namespace vitrun
