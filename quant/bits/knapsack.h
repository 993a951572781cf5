// Chooses bits for every unit under limits: the multiple-choice knapsack, solved exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "models/base/error.h"
#include "quant/bits/bit_plan.h"

namespace vitrun {

// One choice for a unit.
struct Choice {
  UnitBits bits;
  int64_t bytes;  // >= 0
  int64_t time;   // picoseconds, >= 0
  double cost;
};

struct Limits {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  int64_t time = std::numeric_limits<int64_t>::max();
};

// Thrown where even the fewest bytes of every unit are more than allowed.
class TooFewBytes : public Error {
 public:
  explicit TooFewBytes(int64_t missing)
      : Error(cat("no choice of bits fits: ", missing, " bytes more are needed")),
        missing_(missing) {}
  int64_t missing() const { return missing_; }

 private:
  int64_t missing_;
};

// Returns the index of one choice for each unit such that bytes and time are within the limits and
// the sum of costs is least. method.md section 5 derives the lower bound and the dynamic program
// that prove the selection best. Fails where nothing fits, for want of bytes as TooFewBytes.
std::vector<size_t> choose_within(const std::vector<std::vector<Choice>>& units,
                                  const Limits& limits);

}  // namespace vitrun
