// The bits of each unit. Weight bits decide a model's size, activation bits only its speed and
// error, so the two are separate everywhere.
#pragma once

#include <map>
#include <string>

namespace vitrun {

// The bits of a unit's weight and of its input. A product of two activations has no weight: the
// activation bits of matmul1 are those of q and k, those of matmul2 are v's, those of attn the
// softmax code's (method.md section 5).
struct UnitBits {
  int weight = 8, activation = 8;  // 3..8

  bool operator==(const UnitBits&) const = default;
};

// Bits by unit name, for every name of unit_names() (models/graph/quantizers.h).
using BitPlan = std::map<std::string, UnitBits>;

}  // namespace vitrun
