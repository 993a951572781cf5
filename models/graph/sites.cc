#include "models/graph/sites.h"

namespace vitrun {
namespace {

// "patch_embed.proj" -> "patch_embed", "head.fc" -> "head": the unit a Linear is scored under.
std::string unit_of(const Node& linear) {
  if (linear.name == "patch_embed.proj") return "patch_embed";
  if (linear.name == "head.fc") return "head";
  return linear.name;
}

Site slice(const Graph& graph, const std::string& name, const std::string& unit, int node,
           int consumer, int part, int parts) {
  Site s;
  s.name = name;
  s.unit = unit;
  s.node = node;
  s.consumer = consumer;
  const int cols = graph.nodes[static_cast<size_t>(node)].cols / parts;
  s.begin = part * cols;
  s.end = s.begin + cols;
  return s;
}

}  // namespace

std::vector<Site> activation_sites(const Graph& graph) {
  std::vector<Site> sites;
  for (size_t i = 0; i < graph.nodes.size(); i++) {
    const Node& n = graph.nodes[i];
    const int at = static_cast<int>(i);
    if (n.kind == NodeKind::kLinear) {
      sites.push_back(slice(graph, unit_of(n), unit_of(n), n.in[0], at, 0, 1));
    } else if (n.kind == NodeKind::kScores) {
      sites.push_back(slice(graph, n.name + ".q", n.name, n.in[0], at, 0, 3));
      sites.push_back(slice(graph, n.name + ".k", n.name, n.in[0], at, 1, 3));
    } else if (n.kind == NodeKind::kMix) {
      const std::string softmax = graph.nodes[static_cast<size_t>(n.in[0])].name;
      sites.push_back(slice(graph, softmax, softmax, n.in[0], at, 0, 1));
      sites.back().kind = CodeKind::kSoftmax;
      sites.push_back(slice(graph, n.name + ".v", n.name, n.in[1], at, 2, 3));
    }
  }
  return sites;
}

std::vector<std::string> unit_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes) switch (n.kind) {
      case NodeKind::kLinear:
        names.push_back(unit_of(n));
        break;
      case NodeKind::kScores:
      case NodeKind::kSoftmax:
      case NodeKind::kMix:
        names.push_back(n.name);
        break;
      default:
        break;
    }
  return names;
}

}  // namespace vitrun
