// One choice of bits for every unit under limits: the multiple-choice knapsack, solved exactly.
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
  int64_t bytes;  // not negative, as the next
  int64_t time;   // picoseconds
  double cost;
};

struct Limits {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  int64_t time = std::numeric_limits<int64_t>::max();
};

// The index of one choice for each unit such that bytes and time are within the limits and the sum
// of costs is least. With prices p, q >= 0 of bytes and time, sum of cost + p bytes + q time less p
// and q times the limits, each unit taking its least, is a lower bound L; a selection that deviates
// from those by r in all costs at least L + r. So with the prices of the greatest L (Lagrange's
// dual) dynamic programming over the units keeps only partial selections with r <= gap that no
// other undercuts in bytes, time and cost together; if it finds one of cost <= L + gap none is
// better, else the gap is doubled. Fails where nothing fits.
std::vector<size_t> choose_within(const std::vector<std::vector<Choice>>& units,
                                  const Limits& limits);

}  // namespace vitrun
