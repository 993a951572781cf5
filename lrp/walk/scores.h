// Sums the scores of units over images, and reads and writes them as SCORES.json.
#pragma once

#include <string>
#include <vector>

#include "lrp/walk/relevance.h"

namespace vitrun {

// A sum of doubles that does not depend on their order: each is rounded to a multiple of 2^-80, and
// these are added exactly. At most 2^26 doubles may be added, each with |x| < 2^20.
class ExactSum {
 public:
  void add(double x);
  void add(const ExactSum& other) { units_ += other.units_; }
  double value() const;
  std::string text() const;  // the sum as an integer, in units of 2^-80
  // The inverse of text(); fails on any other text.
  static ExactSum from_text(const std::string& text);
  bool operator==(const ExactSum&) const = default;

 private:
  __extension__ __int128 units_ = 0;
};

// The scores of a model's units, summed over images. Images and other Scores may be added in any
// order, so shards, interrupted and resumed runs end with the same file as one run.
struct Scores {
  struct Unit {
    std::string name;
    ExactSum score, squares, gradient_input;
  };

  std::string model;  // the model's architecture
  std::string
      target;  // the class that was explained: "predicted", "labels", "class 7"; or "embedding"
  double epsilon = 0;  // of the rules (method.md section 4)
  int64_t images = 0;
  int64_t skipped = 0;  // images that could not be read, which are in no sum
  std::vector<Unit> units;

  Scores() = default;
  Scores(const Graph& graph, std::string arch, std::string target_classes, double epsilon);

  void add(const ImageRelevance& image);
  // Adds the other's sums. Fails where the other is of another model, target or epsilon.
  void merge(const Scores& other);

  // Vectors over the units (method.md section 4).
  std::vector<double> contribution() const;    // C_u, the mean score
  std::vector<double> standard_error() const;  // the standard error of C_u
  std::vector<double> importance() const;      // Omega_u = C_u / sum C
  std::vector<double> gradient_input() const;  // the mean score of the other scorer
};

// Returns Kendall's tau_b of two rankings.
double kendall_tau(const std::vector<double>& a, const std::vector<double>& b);

// Writes SCORES.json, all or nothing (atomic_file.h).
void write_scores(const Scores& scores, const std::string& path);
// Reads SCORES.json. Fails naming the file and what is wrong with it.
Scores read_scores(const std::string& path);

}  // namespace vitrun
