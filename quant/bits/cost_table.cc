#include "quant/bits/cost_table.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "models/graph/quantizers.h"
#include "runtime/integer/plan.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

constexpr int kWidths = kMaxBits - kMinBits + 1;
constexpr double kMostPicoseconds = 1e6;
constexpr size_t kMostName = 200;  // characters of a target's or machine's name

size_t index_of(int bits) {
  return static_cast<size_t>(bits - kMinBits);
}

template <class F>
CostGrid grid_of(const F& cost) {
  CostGrid grid;
  for (size_t w = 0; w < grid.size(); w++)
    for (size_t a = 0; a < grid.size(); a++)
      grid[w][a] = cost(kMinBits + static_cast<int>(w), kMinBits + static_cast<int>(a));
  return grid;
}

CostGrid flat(double picoseconds) {
  return grid_of([=](int, int) { return picoseconds; });
}

// Measured by `vitbench costs --isa avx512vnni --repetitions 61`, the mean of two runs. The kernel
// does not look at activation bits, and weight bits change its time by no more than two runs
// differ, so one number stands for all widths.
CostTable vnni() {
  return {"vnni", "measured, AVX-512-VNNI of an Intel Xeon (Sapphire Rapids)", flat(3.04),
          flat(3.78)};
}

// Measured by `vitbench costs --isa avx2 --repetitions 61` on the same machine, the mean of two
// runs.
CostTable avx2() {
  return {"avx2",
          "measured, AVX2 of an Intel Xeon (Sapphire Rapids)",
          {{
              {{6.71, 6.73, 6.74, 6.75, 6.91, 6.94}},
              {{6.65, 6.73, 6.83, 6.87, 6.93, 7.75}},
              {{6.79, 6.88, 6.92, 7.00, 7.75, 8.25}},
              {{6.76, 6.85, 6.97, 7.46, 8.17, 8.37}},
              {{6.93, 7.08, 7.64, 8.29, 8.33, 10.34}},
              {{6.97, 7.38, 8.15, 8.30, 10.25, 13.71}},
          }},
          {{
              {{7.75, 7.75, 7.80, 7.76, 7.77, 7.87}},
              {{7.77, 7.74, 7.77, 7.78, 7.84, 8.26}},
              {{7.75, 7.72, 7.79, 7.87, 8.45, 9.16}},
              {{7.77, 7.80, 7.86, 8.22, 9.22, 9.35}},
              {{7.80, 7.83, 8.24, 9.11, 9.45, 11.19}},
              {{7.81, 8.26, 9.15, 9.39, 11.21, 14.84}},
          }}};
}

// Estimated from llvm-mca's cycles for 64 multiply-adds on a Cortex-A72 (bench/results/
// arm_estimate.md). kernels/arm/neon.cc chooses its tile by how many products an int16 can sum
// (products_run() there), so the cycles depend on that number.
CostTable neon() {
  const CostGrid grid = grid_of([](int weight, int activation) {
    const int largest = activation == 8 ? 128 : (1 << activation) - 1;
    const int run = 32767 / (largest << (weight - 1));
    const double cycles = run == 1 ? 10.6 : run < 4 ? 10.0 : 8.0;
    return 1000 * cycles / 64 / 1.5;
  });
  return {"neon", "estimated by llvm-mca, Cortex-A72 at 1.5 GHz", grid, grid};
}

// Estimated in the same way for a Cortex-A76, whose sdot takes all widths alike.
CostTable neondot() {
  const double picoseconds = 1000 * 2.1 / 64 / 2.4;
  return {"neondot", "estimated by llvm-mca, Cortex-A76 at 2.4 GHz", flat(picoseconds),
          flat(picoseconds)};
}

CostGrid grid_in(const nlohmann::json& document, const char* key, const std::string& path) {
  const nlohmann::json& rows = document.at(key);
  const auto square = [](const nlohmann::json& list) {
    return list.is_array() && list.size() == static_cast<size_t>(kWidths);
  };
  if (!square(rows) || !std::all_of(rows.begin(), rows.end(), square))
    fail(path, ": '", key, "' must be ", kWidths, " rows of ", kWidths,
         " numbers, by bits of weight and input from ", kMinBits);
  return grid_of([&](int weight, int activation) {
    const nlohmann::json& value = rows[index_of(weight)][index_of(activation)];
    const double picoseconds = value.is_number() ? value.get<double>() : 0;
    if (!(picoseconds > 0 && picoseconds <= kMostPicoseconds))
      fail(path, ": '", key, "', W", weight, "/A", activation,
           ": expected picoseconds above 0, at ", "most ", kMostPicoseconds, ", got ",
           value.dump().substr(0, 40));
    return picoseconds;
  });
}

std::string text_in(const nlohmann::json& document, const char* key, const std::string& path) {
  std::string text = document.at(key);
  const auto control = [](char c) { return static_cast<unsigned char>(c) < ' '; };
  if (text.empty() || text.size() > kMostName || std::any_of(text.begin(), text.end(), control))
    fail(path, ": '", key, "' must be one line of 1 to ", kMostName, " characters");
  return text;
}

CostTable costs_in(const std::string& path) {
  const nlohmann::json document = read_json(path, 3);
  try {
    CostTable table;
    table.target = text_in(document, "target", path);
    table.provenance =
        cat("measured, ", text_in(document, "isa", path), " of ", text_in(document, "cpu", path));
    table.linear = grid_in(document, "picoseconds", path);
    table.attention = document.contains("attention_picoseconds")
                          ? grid_in(document, "attention_picoseconds", path)
                          : table.linear;
    return table;
  } catch (const nlohmann::json::exception& e) {
    fail(path, ": expected what vitbench costs --isa ISA --json prints: ",
         std::string(e.what()).substr(0, 200));
  }
}

double cost_in(const CostGrid& grid, int weight_bits, int activation_bits) {
  return grid[index_of(weight_bits)][index_of(activation_bits)];
}

// "1.10" or "1.10 to 1.70".
std::string range_text(double low, double high) {
  const std::string from = fixed(low, 2), to = fixed(high, 2);
  return from == to ? from : cat(from, " to ", to);
}

// Says how many times the cheapest inputs 8-bit inputs cost, over all bits of weights.
std::string remark_on_inputs(const CostTable& table) {
  double low = INFINITY, high = 0;
  for (const auto& row : table.linear) {
    const double factor = row.back() / *std::min_element(row.begin(), row.end());
    low = std::min(low, factor);
    high = std::max(high, factor);
  }
  if (high <= kSameCost) return cat("8-bit activations cost nothing on ", table.target);
  return cat("8-bit activations cost ", range_text(low, high), " times narrower ones on ",
             table.target);
}

// Says above how many bits weights cost more than 4-bit ones, for 8-bit inputs.
std::string remark_on_weights(const CostTable& table) {
  const auto factor = [&](int bits) {
    return cost_in(table.linear, bits, 8) / cost_in(table.linear, 4, 8);
  };
  int most = kMaxBits;  // the widest weights that cost no more than those of 4 bits
  double low = INFINITY, high = 0;
  for (; most > 4 && factor(most) > kSameCost; most--) {
    low = std::min(low, factor(most));
    high = std::max(high, factor(most));
  }
  if (most == kMaxBits) return cat("weights of up to 8 bits take the same time on ", table.target);
  return cat("weights above ", most, " bits cost ", range_text(low, high), " times those of 4 on ",
             table.target);
}

}  // namespace

double CostTable::of_linear(UnitBits bits) const {
  return cost_in(linear, bits.weight, bits.activation);
}

double CostTable::of_scores(int bits) const {
  return cost_in(attention, bits, bits);
}

double CostTable::of_mix(int bits) const {
  return cost_in(attention, bits, 8);
}

CostTable read_costs(const std::string& target_or_file) {
  for (const auto make : {vnni, avx2, neon, neondot})
    if (CostTable table = make(); table.target == target_or_file) return table;
  if (!std::filesystem::exists(target_or_file))
    fail("target '", target_or_file,
         "': expected vnni, avx2, neon, neondot or a file that vitbench costs --json wrote");
  return costs_in(target_or_file);
}

std::vector<std::string> remarks_on(const CostTable& table) {
  return {remark_on_inputs(table), remark_on_weights(table)};
}

std::vector<UnitWork> work_of(const Graph& graph) {
  const Shapes shapes = infer_shapes(graph);
  const std::vector<int> needed = rows_needed(graph, shapes, {graph.outputs.at(0).node});
  std::vector<UnitWork> all;
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.unit.empty() || n.kind == NodeKind::kSoftmax) continue;
    UnitWork work{n.unit, n.kind};
    if (n.kind == NodeKind::kLinear) {
      work.rows = std::min(at(needed, i), shapes[i].tokens());
      work.depth = shapes[n.in[0]].cols;
      work.cols = shapes[i].cols;
      work.multiply_adds = int64_t{work.rows} * work.depth * work.cols;
    } else {
      const AttentionGeometry& g = shapes.geometry(i);
      const int queries = n.kind == NodeKind::kScores || g.windows == 1 ? at(needed, i) : g.tokens;
      work.multiply_adds = int64_t{g.windows} * g.heads * queries * g.tokens * g.head_dim;
    }
    all.push_back(std::move(work));
  }
  return all;
}

}  // namespace vitrun
