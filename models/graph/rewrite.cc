#include "models/graph/rewrite.h"

#include <algorithm>
#include <set>

namespace vitrun {

std::vector<int> prune(Graph& g) {
  std::vector<bool> needed(g.nodes.size());
  for (const Output& o : g.outputs) needed[static_cast<size_t>(o.node)] = true;
  for (int i = g.size() - 1; i >= 0; i--)
    if (needed[static_cast<size_t>(i)])
      for (int in : g[i].in) needed[static_cast<size_t>(in)] = true;
  std::vector<int> to(g.nodes.size(), -1);
  std::vector<Node> nodes;
  std::set<std::string> read;
  for (int i = 0; i < g.size(); i++) {
    if (!needed[static_cast<size_t>(i)]) continue;
    at(to, i) = count_of(nodes);
    nodes.push_back(std::move(g[i]));
    for (int& in : nodes.back().in) in = at(to, in);
    read.insert({nodes.back().weight, nodes.back().bias});
  }
  for (Output& o : g.outputs) o.node = at(to, o.node);
  g.nodes = std::move(nodes);
  std::erase_if(g.params, [&](const Param& p) { return !read.contains(p.name); });
  return to;
}

void bypass(Graph& graph, int i) {
  const int in = graph[i].in[0];
  for (Node& n : graph.nodes) std::ranges::replace(n.in, i, in);
  for (Output& o : graph.outputs)
    if (o.node == i) o.node = in;
}

int insert(Graph& graph, int i, Node node) {
  const auto move = [i](int& to) { to += to >= i; };
  for (Node& n : graph.nodes)
    for (int& in : n.in) move(in);
  for (Output& o : graph.outputs) move(o.node);
  graph.nodes.insert(graph.nodes.begin() + i, std::move(node));
  return i;
}

LinearSize linear_size(const Graph& graph, int linear) {
  const Dims& dims = graph.param(graph[linear].weight)->dims;
  return {static_cast<int>(dims[0]), static_cast<int>(element_count(dims) / dims[0])};
}

}  // namespace vitrun
