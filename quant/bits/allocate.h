// Chooses the bits of each unit by its relevance (method.md section 5).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "models/graph/graph.h"
#include "quant/bits/bit_plan.h"
#include "quant/bits/knapsack.h"

namespace vitrun {

// Omega (method.md section 4) by unit name, for every unit of a block and Swin's reductions.
using Importance = std::map<std::string, double>;

// Reads SCORES.json as vitlrp writes it. Fails, naming the file and the unit, where a unit is
// missing, unknown or given twice, or an importance is negative or not a number.
Importance read_importance(const std::string& path, const Graph& graph);

enum class MixedCase {
  kByUnit,   // each kind of unit is lowered in the blocks where that kind matters least
  kByBlock,  // whole blocks are lowered, those with the least sum of importances
};

enum class MixedOperands { kBoth, kWeights };  // a unit's weight and activation bits change, or W

struct MixedOptions {
  MixedCase mixed_case = MixedCase::kByUnit;
  MixedOperands operands = MixedOperands::kBoth;
  int weight_bits = 4, activation_bits = 4;  // bits of units that are neither raised nor lowered
};

// Every unit of a graph with the same bits.
BitPlan uniform_plan(const Graph& graph, UnitBits bits);

// The paper's rule (method.md section 5): every unit of the first two blocks gets one bit more, and
// the least important units of later blocks one bit less, until the weights take no more bits than
// at the base. Bits stay within 3..8. A base of 3 leaves nothing to lower and fails.
BitPlan mixed_plan(const Graph& graph, const Importance& importance, const MixedOptions& options);

// Lambda of method.md section 5 by unit, each a vector over bits kMinBits .. kMaxBits
// (quant/bits/linear_error.h computes it).
using OutputErrors = std::map<std::string, std::vector<double>>;

// Divides the importance of each of these units by the mean over those of its kind (method.md
// section 5): contributions are means over output elements, whose sizes and counts differ between
// kinds. Units without an importance are left out.
Importance within_kinds(const Importance& importance, const std::set<std::string>& units);

// An upper bound on the bytes of a file that depend on the bits of a weight [cols, depth]: its
// codes, and what its column sums take beyond 16 bits each (method.md section 5).
int64_t weight_bytes(int cols, int depth, int bits);

// The bytes that the levels of an input of `bits` bits take in a file (CodeParams::levels).
int64_t level_bytes(int bits);

// Minimises the sum of Omega Lambda over the Linears (method.md section 5) such that all
// weight_bytes(), plus level_bytes() of the inputs if `levels`, sum to at most `bytes`. Units
// without an importance (patch embedding, heads) and products of two activations stay at the base.
// Inputs get as many bits as their weights with MixedOperands::kBoth, else the base's. Fails where
// even 3 bits everywhere take more bytes.
BitPlan budget_plan(const Graph& graph, const Importance& importance, const OutputErrors& errors,
                    const UnitBits& base, MixedOperands operands, int64_t bytes,
                    bool levels = false);

// Reads a JSON object {"blocks.0": 5, "blocks.1.attn.qkv": [4, 8], ...}. A key is a unit's name or
// its front up to a dot; a value is the bits of both operands, or [weight, activation]. The longest
// key that fits a unit decides its bits; units that no key fits keep those of `base`, which names
// all units. Fails on keys that fit no unit and on bits outside 3..8.
BitPlan read_bits(const std::string& path, BitPlan base);

}  // namespace vitrun
