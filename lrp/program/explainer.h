// An Explainer is a model with the images that vitlrp explains, a classifier or a detector.
#pragma once

#include <cxxopts.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "lrp/report/score_page.h"
#include "lrp/walk/scores.h"

namespace vitrun {

class Explainer {
 public:
  virtual ~Explainer() = default;
  virtual int64_t count() const = 0;     // of images
  virtual Scores no_scores() const = 0;  // those of no images
  // Adds images [first, first + n) and returns the largest error of conservation. Says on stderr
  // which could not be explained and counts them as skipped.
  virtual double add(int64_t first, int64_t n, Scores& scores) = 0;
  // Draws the relevance of the first images that can be explained.
  virtual std::vector<Picture> draw(int64_t count) = 0;
};

// Reads --epsilon.
double epsilon_option(const cxxopts::ParseResult& args);

// The model of --weights with the images that the options name.
std::unique_ptr<Explainer> open_explainer(const cxxopts::ParseResult& args);

}  // namespace vitrun
