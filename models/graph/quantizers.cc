#include "models/graph/quantizers.h"

#include <algorithm>

#include "kernels/pack.h"
#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr const char* kCodesSuffix = ".codes";

// A coarse step is 2^this units, so that all values stay below 2^16.
int coarse_shift(const CodeParams& params) {
  return params.twin > 0 ? 17 - params.bits : 16 - params.bits;
}

[[noreturn]] void refuse(const Node& n, const std::string& what) {
  fail("quantize '", n.name, "': ", what);
}

void check_scale(const Node& n, double scale, double zero) {
  if (!std::isnormal(static_cast<float>(scale)) || scale < 0)
    refuse(n, cat("scale is ", scale, ", expected a positive number"));
  if (!(zero >= kMinZero && zero <= kMaxZero) || zero != std::floor(zero))
    refuse(n, cat("zero point is ", zero, ", expected ", kMinZero, " to ", kMaxZero));
}

std::vector<LevelRun> levels_of(const Node& n, const Tensor& t, int bits) {
  if (t.dims.size() != 2 || t.dims[1] != 2)
    refuse(n, cat("levels are ", to_string(t.dims), ", expected [levels, 2]"));
  if (t.dims[0] > int64_t{1} << bits)
    refuse(n, cat(t.dims[0], " levels, ", bits, " bits tell ", 1 << bits, " apart"));
  std::vector<LevelRun> levels;
  for (size_t i = 0; i < t.data.size(); i += 2) {
    for (float x : {t.data[i], t.data[i + 1]})
      if (!(x >= 0 && x <= 255) || x != std::floor(x)) refuse(n, cat("a level of ", double{x}));
    levels.push_back({static_cast<uint8_t>(t.data[i]), static_cast<uint8_t>(t.data[i + 1])});
    const bool ascends = i ? levels.back().first > levels[i / 2 - 1].first &&
                                 levels.back().level > levels[i / 2 - 1].level
                           : t.data[0] == 0;
    if (!ascends) refuse(n, cat("levels do not ascend from code 0 at run ", i / 2));
  }
  return levels;
}

std::vector<UniformRange> heads_of(const Node& n, const Tensor& t) {
  if (t.dims.size() != 2 || t.dims[0] != 2)
    refuse(n, cat("ranges by head are ", to_string(t.dims), ", expected [2, heads]"));
  const auto count = static_cast<size_t>(t.dims[1]);
  std::vector<UniformRange> heads;
  for (size_t i = 0; i < count; i++) {
    check_scale(n, double{t.data[i]}, double{t.data[count + i]});
    heads.push_back({t.data[i], static_cast<int>(t.data[count + i])});
  }
  return heads;
}

}  // namespace

std::optional<Activation> activation_of(ActType type) {
  switch (type) {
    case ActType::kGelu:
      return Activation::kGelu;
    case ActType::kGeluTanh:
      return Activation::kGeluTanh;
    case ActType::kQuickGelu:
      return Activation::kQuickGelu;
    case ActType::kSilu:
      return Activation::kSilu;
    case ActType::kRelu:
      return Activation::kRelu;
    default:
      return {};
  }
}

bool CodeParams::same_as(const CodeParams& o) const {
  const auto run = [](const LevelRun& a, const LevelRun& b) {
    return a.first == b.first && a.level == b.level;
  };
  return bits == o.bits && scale == o.scale && zero == o.zero && rate == o.rate && twin == o.twin &&
         heads == o.heads && group == o.group &&
         std::equal(levels.begin(), levels.end(), o.levels.begin(), o.levels.end(), run);
}

double bits_with_ranges(const CodeParams& p, int columns) {
  constexpr double kGroupBits = 8, kRowBits = 40;
  if (p.by_head() && p.bits < 8) return p.bits + kGroupBits / p.group;
  if (!p.by_row()) return p.bits;
  const double of_row = p.bits + kRowBits / columns;
  if (p.bits == 8) return of_row;
  const int groups = std::min(kColumns * group_parts(columns, p.group), columns);
  return of_row + kGroupBits * groups / columns;
}

std::vector<uint8_t> level_table(const std::vector<LevelRun>& levels) {
  std::vector<uint8_t> table;
  for (size_t i = 0; i < levels.size(); i++)
    table.resize(i + 1 < levels.size() ? levels[i + 1].first : 256, levels[i].level);
  return table;
}

ProbabilityCodes probability_codes(const CodeParams& params) {
  switch (params.twin) {
    case CodeParams::kLogCodes:
      return ProbabilityCodes::kLog;
    case CodeParams::kSumCodes:
      return ProbabilityCodes::kLogBySum;
    case CodeParams::kCarriedCodes:
      return ProbabilityCodes::kCarried;
    default:
      return ProbabilityCodes::kSteps;
  }
}

StepCodes step_codes(const CodeParams& params) {
  const int half = 1 << (params.bits - 1), coarse = 1 << coarse_shift(params);
  if (params.twin == 0) return {0, 1 / params.scale, 0, 2 * half - 1, 0, coarse, 0};
  const int fine = coarse >> params.twin;
  return {std::ldexp(1 / params.scale, params.twin),
          1 / params.scale,
          half,
          half - 1,
          fine,
          coarse,
          (half - 1) * fine};
}

float fixed_point_unit(const CodeParams& params) {
  if (params.by_sum()) return 1;
  return params.twin == CodeParams::kLogCodes ? params.scale / 65535
                                              : std::ldexp(params.scale, -coarse_shift(params));
}

CodeParams code_params(const Node& n, const Weights& weights) {
  CodeParams p;
  const double bits = n.real(Attribute::kBits, 8), rate = n.real(Attribute::kRate, 2),
               twin = n.real(Attribute::kTwin, CodeParams::kLogCodes),
               scale = n.real(Attribute::kScale, 1), zero = n.real(Attribute::kZero, 0);
  if (!(bits >= kMinBits && bits <= kMaxBits) || bits != std::floor(bits))
    refuse(n, cat("bits are ", bits, ", expected ", kMinBits, " to ", kMaxBits));
  p.bits = static_cast<int>(bits);
  check_scale(n, scale, zero);
  if (!(rate >= double{kMinLogRate} && rate <= double{kMaxLogRate}))
    refuse(n,
           cat("rate is ", rate, ", expected ", double{kMinLogRate}, " to ", double{kMaxLogRate}));
  if (!(twin >= CodeParams::kCarriedCodes && twin <= most_twin(p.bits)) || twin != std::floor(twin))
    refuse(n, cat("twin is ", twin, ", expected -3 to ", most_twin(p.bits)));
  p.scale = static_cast<float>(scale);
  p.zero = static_cast<int>(zero);
  p.rate = static_cast<float>(rate);
  p.twin = static_cast<int>(twin);
  if (!n.weight.empty()) p.levels = levels_of(n, weights.at(n.weight), p.bits);
  if (!n.bias.empty()) p.heads = heads_of(n, weights.at(n.bias));
  if (!p.heads.empty() && !p.levels.empty()) refuse(n, "levels and ranges by head");
  const double group = n.real(Attribute::kCodeGroup, 0);
  const int least = p.heads.empty() ? kLeastGroup : 1;
  if (group != 0 && (!(group >= least && group <= kMaxDepth) || group != std::floor(group)))
    refuse(n, cat("groups of ", group, " columns, expected ", least, " to ", kMaxDepth));
  p.group = static_cast<int>(group);
  if (p.group && !p.levels.empty()) refuse(n, "levels and groups");
  const int margin = group_margin(p.bits);
  for (const UniformRange& head : p.heads)
    if (p.group && (head.zero < margin || head.zero > 255 - margin))
      refuse(n, cat("zero point of a head's groups is ", head.zero, ", expected ", margin, " to ",
                    255 - margin));
  return p;
}

void set_code_params(Graph& graph, int quantize, const CodeParams& p, Weights& weights) {
  Node& n = graph[quantize];
  n.attributes[Attribute::kBits] = p.bits;
  if (p.group) n.attributes[Attribute::kCodeGroup] = p.group;
  if (p.by_row()) return;
  n.attributes[Attribute::kScale] = double{p.scale};
  n.attributes[Attribute::kZero] = p.zero;
  if (p.rate != 2) n.attributes[Attribute::kRate] = double{p.rate};
  if (p.twin != CodeParams::kLogCodes) n.attributes[Attribute::kTwin] = p.twin;
  const auto add = [&](const std::string& name, Tensor t) {
    graph.params.push_back({name, t.dims});
    weights[name] = std::move(t);
    return name;
  };
  if (!p.levels.empty()) {
    Tensor t({static_cast<int64_t>(p.levels.size()), 2});
    for (size_t i = 0; i < p.levels.size(); i++) {
      t.data[2 * i] = p.levels[i].first;
      t.data[2 * i + 1] = p.levels[i].level;
    }
    n.weight = add(n.name + ".levels", std::move(t));
  }
  if (!p.heads.empty()) {
    const size_t count = p.heads.size();
    Tensor t({2, static_cast<int64_t>(count)});
    for (size_t i = 0; i < count; i++) {
      t.data[i] = p.heads[i].scale;
      t.data[count + i] = static_cast<float>(p.heads[i].zero);
    }
    n.bias = add(n.name + ".head_ranges", std::move(t));
  }
}

std::string quantize_name(const Site& site) {
  return site.name + kCodesSuffix;
}

std::string operand_name(const Node& quantize) {
  return quantize.name.substr(0, quantize.name.rfind(kCodesSuffix));
}

bool is_softmax(const Graph& graph, int node) {
  return graph.is(node, NodeKind::kSoftmax);
}

bool is_image(const Graph& graph, const Shapes& shapes, int node) {
  return graph.is(node, NodeKind::kWindow) && shapes[graph[node].in[0]].planar;
}

bool may_go_by_row(const Graph& graph, const Shapes& shapes, const Site& site) {
  return graph.is(site.consumer, NodeKind::kLinear) && !is_image(graph, shapes, site.node) &&
         graph[site.consumer].in[0] == site.node;
}

std::vector<Site> activation_sites(const Graph& graph) {
  const Shapes shapes = infer_shapes(graph);
  std::vector<Site> sites;
  const auto add = [&](const std::string& name, int node, int consumer, int operand, int begin,
                       int cols) {
    sites.push_back({name, graph[consumer].unit, is_softmax(graph, node), node, consumer, operand,
                     begin, begin + cols});
  };
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.kind == NodeKind::kLinear) {
      int x = n.in[0];
      if (graph.is(x, NodeKind::kWindow) && !shapes[graph[x].in[0]].planar) x = graph[x].in[0];
      add(n.unit.empty() ? n.name : n.unit, x, i, 0, 0, shapes[x].cols);
    } else if (n.kind == NodeKind::kScores) {
      const AttentionGeometry& g = shapes.geometry(i);
      add(n.name + ".q", n.in[0], i, 0, g.query_begin, g.heads * g.head_dim);
      add(n.name + ".k", n.in[1], i, 1, g.key_begin, g.heads * g.head_dim);
    } else if (n.kind == NodeKind::kMix) {
      const AttentionGeometry& g = shapes.geometry(i);
      add(graph[n.in[0]].name, n.in[0], i, 0, 0, shapes[n.in[0]].cols);
      sites.back().unit = graph[n.in[0]].unit;
      add(n.name + ".v", n.in[1], i, 1, n.whole(Attribute::kValueBegin), g.heads * g.head_dim);
    }
  }
  return sites;
}

std::vector<std::string> unit_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes)
    if (!n.unit.empty()) names.push_back(n.unit);
  return names;
}

}  // namespace vitrun
