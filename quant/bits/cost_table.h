// What a multiply-add costs on a machine by the bits of its operands: built in for four kinds of
// machine, or a file that `vitbench costs` made on one's own.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "models/graph/graph.h"
#include "quant/bits/bit_plan.h"

namespace vitrun {

// Picoseconds a multiply-add on one thread, [weight bits][input bits] from kMinBits on.
using CostGrid = std::array<std::array<double, kMaxBits - kMinBits + 1>, kMaxBits - kMinBits + 1>;

struct CostTable {
  std::string target, provenance;
  CostGrid linear;
  CostGrid attention;  // [bits of K or V][bits of Q or of the softmax planes, 8]

  double of_linear(UnitBits bits) const;
  double of_scores(int bits) const;  // Q K^T, both of these bits
  double of_mix(int bits) const;     // attn V, V of these bits
};

constexpr const char* kTargets[] = {"vnni", "avx2", "neon", "neondot"};

// A built-in table by its name, or else from a file. Fails naming the file and what is wrong with
// it.
CostTable read_costs(const std::string& target_or_file);

// Costs whose ratio is below this are taken for the same: repeated measurements differ by half of
// it.
constexpr double kSameCost = 1.05;

// Sentences on what bits cost there.
std::vector<std::string> remarks_on(const CostTable& table);

// A unit's matrix products, of one image.
struct UnitWork {
  std::string unit;
  NodeKind kind = NodeKind::kLinear;  // or kScores, kMix
  int rows = 0, depth = 0, cols = 0;  // kLinear
  int64_t multiply_adds = 0;          // kMix: of both planes
};

// Of all units but the softmax, in node order; of rows that reach the logits.
std::vector<UnitWork> work_of(const Graph& graph);

}  // namespace vitrun
