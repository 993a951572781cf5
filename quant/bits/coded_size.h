// Errors from which the rates of entropy-coded weights are chosen for a file of a given size. By
// default they are those that the weights are predicted to make; the others are for comparison
// (method.md section 22).
#pragma once

#include "quant/bits/allocate.h"
#include "quant/bits/logits_error.h"
#include "quant/bits/step_plan.h"

namespace vitrun {

// Error of a Linear when its codes have an entropy of about 3 bits, from which StepPlan takes the
// rates. n is its number of weights, Omega its relevance divided by the mean over its kind of unit,
// Lambda the relative squared error of its output (method.md section 5).
enum class RateBy {
  kPrediction,      // the squared change of the logits, predicted (section 17)
  kRelevance,       // n Omega: the published score, used as the sensitivity of a weight
  kRelevanceError,  // Omega Lambda, which --bits budget minimises too
  kEqual,           // n: the same rate for all
  kRandom,          // those of kPrediction a weight, dealt out at random
};

constexpr std::pair<const char*, RateBy> kRateNames[] = {
    {"prediction", RateBy::kPrediction},
    {"relevance", RateBy::kRelevance},
    {"relevance-error", RateBy::kRelevanceError},
    {"equal", RateBy::kEqual},
    {"random", RateBy::kRandom}};

const char* name_of(RateBy by);

struct CodedSize {
  int64_t bytes = 0;  // the most of the file
  RateBy by = RateBy::kPrediction;
  Importance importance = {};  // kRelevance, kRelevanceError
  uint64_t seed = 0;           // kRandom
};

struct CodedOptions {
  bool compensate = false;  // as PredictOptions
  int threads = 1;
};

// Returns the Linears of `bits` (by node, the most bits of a code) that belong to a unit, with the
// errors of `size.by`. A unit without relevance counts as the mean of its kind.
std::vector<StepPlan::Linear> coded_linears(const FloatModel& model,
                                            const std::map<int, UnitBits>& bits,
                                            const ImageSource& images, const CodedSize& size,
                                            const CodedOptions& options, const Progress& progress);

}  // namespace vitrun
