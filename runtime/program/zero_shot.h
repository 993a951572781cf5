// Classes by their names: a model of images and texts gives each name a vector, and an image is of
// the class whose vector is the closest.
#pragma once

#include <cxxopts.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/program/predictor.h"

namespace vitrun {

// Adds --classes and --template.
void add_class_options(cxxopts::Options& options);

struct NamedClasses {
  std::vector<std::string> names;      // empty: not asked for
  std::vector<std::string> templates;  // each with {} in the place of the name
};
// Reads them; throws UsageError where they make no sense, and fails on a file that is no list.
NamedClasses class_options(const cxxopts::ParseResult& args);

// The vectors of the classes, [classes, D], as class_vector() gives them.
Tensor class_embeddings(const NamedClasses& classes, const TextEmbedder& embed);

// The model with the output "logits": for each class, the scale times the cosine of its vector and
// the image's embedding.
std::unique_ptr<Predictor> with_classes(std::unique_ptr<Predictor> model,
                                        const NamedClasses& classes);

// Opens a model, with classes if some are named.
std::unique_ptr<Predictor> open_with_classes(const std::string& path, PredictorOptions options,
                                             const NamedClasses& classes);

}  // namespace vitrun
