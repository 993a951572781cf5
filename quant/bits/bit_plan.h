// How many bits each unit gets. Weight bits decide a model's size, activation bits only its speed
// and error, so they are separate everywhere.
#pragma once

#include <map>
#include <string>

namespace vitrun {

// Bits of a unit's weight and of its input activation. Products of two activations have no weight:
// matmul1's activation bits are those of q and k, matmul2's those of v, attn's those of the softmax
// code (method.md section 5).
struct UnitBits {
  int weight = 8, activation = 8;  // 3..8

  bool operator==(const UnitBits&) const = default;
};

// By unit name, for every name of unit_names() (models/graph/sites.h).
using BitPlan = std::map<std::string, UnitBits>;

}  // namespace vitrun
