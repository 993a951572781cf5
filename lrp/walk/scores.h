// Unit scores summed over images: SCORES.json.
#pragma once

#include <string>
#include <vector>

#include "lrp/walk/relevance.h"

namespace vitrun {

// A sum of doubles that does not depend on their order: each is taken as a multiple of 2^-80, and
// these are added exactly. |x| < 2^20, at most 2^26 of them.
class ExactSum {
 public:
  void add(double x);
  void add(const ExactSum& other) { units_ += other.units_; }
  double value() const;
  std::string text() const;  // the integer, in units of 2^-80
  // The inverse; fails on anything else.
  static ExactSum from_text(const std::string& text);
  bool operator==(const ExactSum&) const = default;

 private:
  __extension__ __int128 units_ = 0;
};

// What is known of a model's units. Adding images and merging give the same sums in any order, so
// shards, interrupted and resumed runs end with the same file as one run.
struct Scores {
  struct Unit {
    std::string name;
    ExactSum score, squares, gradient_input;
  };

  std::string model;   // its architecture
  std::string target;  // which class was explained: "predicted", "labels" or "class 7"
  int64_t images = 0;
  std::vector<Unit> units;

  Scores() = default;
  Scores(const Graph& graph, std::string arch, std::string target_classes);

  void add(const ImageRelevance& image);
  // Fails where the other is of another model or target.
  void merge(const Scores& other);

  // Of the units in order: C_u, the mean score (method.md section 4); its standard error; and
  // Omega_u, its share of all.
  std::vector<double> contribution() const;
  std::vector<double> standard_error() const;
  std::vector<double> importance() const;
  std::vector<double> gradient_input() const;  // the mean of the other scorer
};

// Kendall's tau-b of two rankings.
double kendall_tau(const std::vector<double>& a, const std::vector<double>& b);

// All or nothing, as QbinWriter::write.
void write_scores(const Scores& scores, const std::string& path);
// Fails naming the file and what is wrong with it.
Scores read_scores(const std::string& path);

}  // namespace vitrun
