// The time of a multiply-add on a machine by the bits of its operands (method.md section 18). Four
// kinds of machine are built in; `vitbench costs` writes the file for another.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "models/graph/graph.h"
#include "quant/bits/bit_plan.h"

namespace vitrun {

// Picoseconds of a multiply-add on one thread, [weight bits - kMinBits][input bits - kMinBits].
using CostGrid = std::array<std::array<double, kMaxBits - kMinBits + 1>, kMaxBits - kMinBits + 1>;

struct CostTable {
  std::string target, provenance;
  CostGrid linear;
  CostGrid attention;  // K or V takes the place of the weight, Q or a softmax plane of the input

  double of_linear(UnitBits bits) const;
  double of_scores(int bits) const;  // Q K^T, where Q and K have `bits` bits
  double of_mix(int bits) const;     // attn V, where V has `bits` bits and a softmax plane has 8
};

constexpr const char* kTargets[] = {"vnni", "avx2", "neon", "neondot"};

// Returns the built-in table of that name, or else reads a file of `vitbench costs --json`. Fails
// naming the file and what is wrong with it.
CostTable read_costs(const std::string& target_or_file);

// Costs whose ratio is below this count as equal, since repeated measurements differ by half of the
// excess over 1.
constexpr double kSameCost = 1.05;

// Returns sentences on what activation and weight bits cost on that machine.
std::vector<std::string> remarks_on(const CostTable& table);

// The matrix products of a unit for one image.
struct UnitWork {
  std::string unit;
  NodeKind kind = NodeKind::kLinear;  // kLinear, kScores or kMix
  int rows = 0, depth = 0, cols = 0;  // sizes of a Linear, 0 for the other kinds
  int64_t multiply_adds = 0;          // of kMix with each plane of the softmax codes
};

// Returns the work of all units but the softmax, in node order. Only rows that reach the logits
// count.
std::vector<UnitWork> work_of(const Graph& graph);

}  // namespace vitrun
