// How many bits each unit gets, by its relevance (method.md section 5).
#pragma once

#include <string>
#include <vector>

#include "models/graph/graph.h"
#include "quant/bits/bit_plan.h"
#include "quant/bits/knapsack.h"

namespace vitrun {

// Relative importance by unit name, of every unit of the blocks (and Swin's reductions).
using Importance = std::map<std::string, double>;

// From SCORES.json as vitlrp writes it. Fails naming the file and the unit where one is missing,
// unknown or given twice, or an importance is negative or not a number.
Importance read_importance(const std::string& path, const Graph& graph);

enum class MixedCase {
  kByUnit,   // for each kind of unit the blocks where that kind matters least are lowered
  kByBlock,  // whole blocks are lowered, those whose units matter least together
};

enum class MixedOperands { kBoth, kWeights };  // which bits are mixed: W and A, or W alone

struct MixedOptions {
  MixedCase mixed_case = MixedCase::kByUnit;
  MixedOperands operands = MixedOperands::kBoth;
  int weight_bits = 4, activation_bits = 4;  // the base: units that are neither raised nor lowered
};

// The paper's rule: every unit of the first two blocks gets one bit more, and of the later blocks
// the least important are lowered by one until the weights take no more bits than at the base:
// where blocks are of one size, two of each kind. Bits stay within 3..8: a unit at 3 is not
// lowered, which at base 3 leaves nothing to lower and fails.
BitPlan mixed_plan(const Graph& graph, const Importance& importance, const MixedOptions& options);

// Lambda of method.md section 5, kMinBits .. kMaxBits, by unit (quant/bits/linear_error.h).
using OutputErrors = std::map<std::string, std::vector<double>>;

// At most so many bytes of a file depend on the bits of a weight [cols, depth]: its codes, and what
// its column sums take beyond 16 bits each.
int64_t weight_bytes(int cols, int depth, int bits);

// What the levels of an input of `bits` bits take (CodeParams).
int64_t level_bytes(int bits);

// The bits with the least sum of Omega Lambda over the Linears such that all weight_bytes()
// and with `levels` those of their inputs together are at most `bytes`. Units without an
// importance (patch embedding, heads) and products of two activations stay at the base; with
// MixedOperands::kBoth inputs get as many bits as their weights, else the base's. Fails where 3
// bits everywhere are too many.
BitPlan budget_plan(const Graph& graph, const Importance& importance, const OutputErrors& errors,
                    const UnitBits& base, MixedOperands operands, int64_t bytes,
                    bool levels = false);

// From a JSON object {"blocks.0": 5, "blocks.1.attn.qkv": [4, 8], ...}: a unit or the front of unit
// names up to a dot, and the bits of both operands or [weight, activation]. The longest name that
// fits a unit counts; others get the base. Fails on names that fit none and bits out of 3..8.
BitPlan read_bits(const std::string& path, const Graph& graph, const UnitBits& base);

}  // namespace vitrun
