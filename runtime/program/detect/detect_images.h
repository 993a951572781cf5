// Runs a detector for vitrun: a table of what it finds on each image, JSON, pictures.
#pragma once

#include <cxxopts.hpp>

namespace vitrun {

// Adds --draw.
void add_detect_options(cxxopts::Options& options);

// Finds objects on the images that the program was given, which may be folders. Returns the exit
// status: 1 if an image could not be read.
int detect_images(const cxxopts::ParseResult& args, const std::string& model);

}  // namespace vitrun
