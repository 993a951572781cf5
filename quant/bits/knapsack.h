// Chooses bits for every unit under limits: the multiple-choice knapsack, solved exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

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

// Returns the index of one choice for each unit such that bytes and time are within the limits and
// the sum of costs is least. method.md section 5 derives the lower bound and the dynamic program
// that prove the selection best. Fails where nothing fits.
std::vector<size_t> choose_within(const std::vector<std::vector<Choice>>& units,
                                  const Limits& limits);

}  // namespace vitrun
