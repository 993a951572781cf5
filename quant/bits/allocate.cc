#include "quant/bits/allocate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "models/graph/quantizers.h"
#include "models/graph/rewrite.h"
#include "runtime/files/qbin.h"

namespace vitrun {
namespace {

// One unit of a block with all that decides its bits.
struct BlockUnit {
  std::string name, kind;  // "blocks.3.attn.qkv", "attn.qkv"
  int block = 0;           // Swin's blocks are numbered through all stages
  int64_t parameters = 0;  // elements of the weight; 0 for a product of two activations
  double importance = 0;
};

// Returns the Linear of a unit, -1 where the unit is a product of two activations.
int linear_of(const Graph& graph, const std::string& unit) {
  for (int i = 0; i < graph.size(); i++)
    if (graph.is(i, NodeKind::kLinear) && graph[i].unit == unit) return i;
  return -1;
}

int64_t parameters_of(const Graph& graph, const std::string& unit) {
  const int node = linear_of(graph, unit);
  return node < 0 ? 0 : element_count(graph.param(graph[node].weight)->dims);
}

// The unit's name within its block: "blocks.3.attn.qkv" -> "attn.qkv".
std::string kind_of(const std::string& unit) {
  const size_t at = unit.find("blocks.");
  return at == std::string::npos ? unit : unit.substr(unit.find('.', at + 7) + 1);
}

std::vector<BlockUnit> block_units(const Graph& graph, const Importance& importance) {
  std::vector<BlockUnit> units;
  for (const Node& n : graph.nodes)
    if (n.block >= 0 && !n.unit.empty())
      units.push_back(
          {n.unit, kind_of(n.unit), n.block, parameters_of(graph, n.unit), importance.at(n.unit)});
  return units;
}

// Returns the groups of units that are lowered together, the least important first. A group is one
// unit (kByUnit) or a whole block (kByBlock). The first two blocks are never lowered.
std::vector<std::vector<const BlockUnit*>> lowering_order(
    const std::vector<const BlockUnit*>& units, MixedCase mixed_case) {
  std::map<int, std::vector<const BlockUnit*>> groups;
  for (size_t i = 0; i < units.size(); i++)
    if (units[i]->block >= 2)
      groups[mixed_case == MixedCase::kByBlock ? units[i]->block : static_cast<int>(i)].push_back(
          units[i]);
  std::vector<std::vector<const BlockUnit*>> order;
  for (auto& [key, group] : groups) order.push_back(std::move(group));
  auto sum = [](const std::vector<const BlockUnit*>& group) {
    double total = 0;
    for (const BlockUnit* u : group) total += u->importance;
    return total;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const auto& a, const auto& b) { return sum(a) < sum(b); });
  return order;
}

// Lowers groups until the parameters lowered make up for those raised. A unit without a weight
// counts as one parameter, so that as many such units are lowered as were raised.
void lower(const std::vector<const BlockUnit*>& units, MixedCase mixed_case,
           const std::function<void(const BlockUnit&)>& lower_one) {
  auto size = [](const BlockUnit& u) { return std::max<int64_t>(u.parameters, 1); };
  int64_t owed = 0;
  for (const BlockUnit* u : units)
    if (u->block < 2) owed += size(*u);
  for (const auto& group : lowering_order(units, mixed_case)) {
    if (owed <= 0) return;
    for (const BlockUnit* u : group) {
      owed -= size(*u);
      lower_one(*u);
    }
  }
}

}  // namespace

Importance read_importance(const std::string& path, const Graph& graph) {
  Importance importance;
  try {
    const nlohmann::json document = read_json(path, 4);
    for (const auto& unit : document.at("units")) {
      const std::string name = unit.at("name");
      const double value = unit.at("importance");
      if (!(value >= 0) || std::isinf(value))
        fail(path, ": the importance of '", name, "' is ", value, ", expected a number >= 0");
      if (!importance.emplace(name, value).second) fail(path, ": unit '", name, "' occurs twice");
    }
  } catch (const nlohmann::json::exception& e) {
    fail(path, ": expected SCORES.json of vitlrp: ", e.what());
  }
  std::set<std::string> known;
  for (const Node& n : graph.nodes) {
    if (n.unit.empty()) continue;
    known.insert(n.unit);
    if (n.block >= 0 && !importance.contains(n.unit))
      fail(path, ": unit '", n.unit, "' of the model is missing");
  }
  for (const auto& [name, value] : importance)
    if (!known.contains(name)) fail(path, ": the model has no unit '", name, "'");
  return importance;
}

BitPlan uniform_plan(const Graph& graph, UnitBits bits) {
  BitPlan plan;
  for (const std::string& name : unit_names(graph)) plan[name] = bits;
  return plan;
}

BitPlan mixed_plan(const Graph& graph, const Importance& importance, const MixedOptions& options) {
  if (options.weight_bits <= kMinBits)
    fail("mixed precision around ", options.weight_bits,
         " bits has no bits to lower: the least is ", kMinBits);
  const std::vector<BlockUnit> units = block_units(graph, importance);
  if (units.empty() || units.back().block < 2) fail("mixed precision needs more than two blocks");
  BitPlan plan = uniform_plan(graph, {options.weight_bits, options.activation_bits});
  auto change = [&](const std::string& name, int by) {
    UnitBits& bits = plan.at(name);
    bits.weight = std::clamp(bits.weight + by, kMinBits, kMaxBits);
    if (options.operands == MixedOperands::kBoth)
      bits.activation = std::clamp(bits.activation + by, kMinBits, kMaxBits);
  };
  // Units of one pool are lowered in exchange for units of the same pool.
  std::map<std::string, std::vector<const BlockUnit*>> pools;
  for (const BlockUnit& u : units) {
    if (u.block < 2) change(u.name, 1);
    pools[options.mixed_case == MixedCase::kByUnit ? u.kind : ""].push_back(&u);
  }
  for (const auto& [kind, pool] : pools)
    lower(pool, options.mixed_case, [&](const BlockUnit& u) { change(u.name, -1); });
  return plan;
}

Importance within_kinds(const Importance& importance, const std::set<std::string>& units) {
  std::map<std::string, std::pair<double, int>> kinds;  // sum and count of each kind
  for (const auto& [name, value] : importance)
    if (units.contains(name)) {
      auto& [sum, count] = kinds[kind_of(name)];
      sum += value;
      count++;
    }
  Importance relative;
  for (const auto& [name, value] : importance)
    if (units.contains(name)) {
      const auto& [sum, count] = kinds.at(kind_of(name));
      relative[name] = sum > 0 ? value * count / sum : 1;
    }
  return relative;
}

int64_t weight_bytes(int cols, int depth, int bits) {
  const bool wide = int64_t{depth} << (bits - 1) > 32767;  // whether a column sum exceeds int16
  const int align = static_cast<int>(kQbinAlign);
  return pack_bytes(cols, depth, bits) +
         (wide ? round_up(4 * cols, align) - round_up(2 * cols, align) : 0);
}

int64_t level_bytes(int bits) {
  return bits < kMaxBits ? round_up(2 << bits, static_cast<int>(kQbinAlign)) : 0;
}

BitPlan budget_plan(const Graph& graph, const Importance& importance, const OutputErrors& errors,
                    const UnitBits& base, MixedOperands operands, int64_t bytes, bool levels) {
  const auto of_input = [&](int bits) {
    return levels ? level_bytes(operands == MixedOperands::kBoth ? bits : base.activation) : 0;
  };
  BitPlan plan;
  std::vector<std::string> names;
  std::vector<std::vector<Choice>> units;
  std::set<std::string> linears;
  for (const auto& [unit, of_bits] : errors) linears.insert(unit);
  const Importance relative = within_kinds(importance, linears);
  for (const std::string& name : unit_names(graph)) {
    plan[name] = base;
    const auto found = errors.find(name);
    if (found == errors.end()) continue;
    const LinearSize size = linear_size(graph, linear_of(graph, name));
    const bool scored = relative.contains(name);
    names.push_back(name);
    units.emplace_back();
    for (int bits = kMinBits; bits <= kMaxBits; bits++)
      if (scored || bits == base.weight)
        units.back().push_back(
            {{bits, base.activation},
             weight_bytes(size.n, size.k, bits) + of_input(bits),
             0,
             scored ? relative.at(name) * at(found->second, bits - kMinBits) : 0});
  }
  const std::vector<size_t> chosen = choose_within(units, {.bytes = bytes});
  for (size_t u = 0; u < units.size(); u++) {
    const int bits = units[u][chosen[u]].bits.weight;
    plan[names[u]].weight = bits;
    if (operands == MixedOperands::kBoth && units[u].size() > 1) plan[names[u]].activation = bits;
  }
  return plan;
}

namespace {

UnitBits bits_of(const nlohmann::json& value, const std::string& path, const std::string& name) {
  const bool pair = value.is_array() && value.size() == 2;
  const auto checked = [&](const nlohmann::json& number) {
    if (!number.is_number_integer())
      fail(path, ": '", name, "': expected bits or [weight bits, activation bits]");
    if (number < kMinBits || number > kMaxBits)
      fail(path, ": '", name, "': bits must be ", kMinBits, " to ", kMaxBits, ", got ",
           number.dump());
    return number.get<int>();
  };
  return {checked(pair ? value[0] : value), checked(pair ? value[1] : value)};
}

}  // namespace

BitPlan read_bits(const std::string& path, BitPlan plan) {
  const nlohmann::json document = read_json(path, 2);
  if (!document.is_object()) fail(path, ": expected an object of units and their bits");
  std::map<std::string, size_t> longest;  // by unit, the length of the name that its bits are from
  for (const auto& [name, value] : document.items()) {
    const UnitBits bits = bits_of(value, path, name);
    bool fits = false;
    for (auto& [unit, current] : plan) {
      if (unit != name && !unit.starts_with(name + ".")) continue;
      fits = true;
      if (name.size() < longest[unit]) continue;
      longest[unit] = name.size();
      current = bits;
    }
    if (!fits) fail(path, ": the model has no unit '", name, "'");
  }
  return plan;
}

}  // namespace vitrun
