// Searches images: those whose embeddings are the closest to that of a picture or, for a model with
// a text tower, of a text.
#pragma once

#include <cxxopts.hpp>

#include "runtime/program/predictor.h"

namespace vitrun {

// Adds --similar, --search and --report.
void add_similar_options(cxxopts::Options& options);
bool asks_for_similar(const cxxopts::ParseResult& args);

// Embeds the images that the program was given, which may be folders and lists, and prints the
// --topk closest to the query by the cosine of their embeddings; --report writes a page that shows
// them. The query's own file is left out. Returns the exit status: 1 if an image could not be read.
int find_similar(const cxxopts::ParseResult& args, Predictor& model);

}  // namespace vitrun
