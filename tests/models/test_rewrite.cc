// Changes of a graph as a whole: what is left, who reads what then, and where nodes stand.
#include <doctest/doctest.h>

#include "models/graph/builder.h"
#include "models/graph/rewrite.h"

namespace vitrun {
namespace {

// An image in patches -> body -> act -> last; beside it a Linear that no output needs.
Graph small_graph() {
  GraphBuilder b;
  const int image = b.image(3, 4, 4);
  const int patches = b.window(image, "patches", 2, 2, ElementOrder::kChannelsFirst);
  const int body = b.linear(patches, "body", 6);
  b.linear(body, "side", 5);
  const int act = b.act(body, "act", ActType::kGelu);
  b.output("logits", b.linear(act, "last", 2, false));
  b.output("embedding", act);
  return b.finish();
}

std::vector<std::string> names_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes) names.push_back(n.name);
  return names;
}

// The names of what a node reads.
std::vector<std::string> read_by(const Graph& graph, const std::string& name) {
  std::vector<std::string> names;
  for (int in : graph[graph.find(name)].in) names.push_back(graph[in].name);
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE("prune leaves what outputs need, with the parameters it reads") {
  Graph graph = small_graph();
  CHECK(prune(graph) == std::vector<int>{0, 1, 2, -1, 3, 4});
  CHECK(names_of(graph) == Names{"image", "patches", "body", "act", "last"});
  CHECK(read_by(graph, "act") == Names{"body"});
  CHECK(read_by(graph, "last") == Names{"act"});
  CHECK(graph.output("logits") == graph.find("last"));
  CHECK(graph.output("embedding") == graph.find("act"));
  Names params;
  for (const Param& p : graph.params) params.push_back(p.name);
  CHECK(params == Names{"body.weight", "body.bias", "last.weight"});
  CHECK(prune(graph) == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("prune keeps a parameter that one of its two readers is left to read") {
  Graph graph = small_graph();
  graph[graph.find("side")].bias = "body.bias";
  prune(graph);
  CHECK(graph.param("body.bias") != nullptr);
  CHECK(graph.param("side.bias") == nullptr);
}

TEST_CASE("bypass gives readers and outputs the node's first input") {
  Graph graph = small_graph();
  bypass(graph, graph.find("act"));
  CHECK(read_by(graph, "last") == Names{"body"});
  CHECK(graph.output("embedding") == graph.find("body"));
  CHECK(graph.output("logits") == graph.find("last"));
  CHECK(graph.find("act") >= 0);  // until it is pruned
  prune(graph);
  CHECK(graph.find("act") < 0);
  CHECK(infer_shapes(graph)[graph.output("logits")].cols == 2);

  GraphBuilder b;
  const int x = b.map("map", 3, 2, 2), y = b.constant("scale", {3});
  const int product = b.mul(x, y, "product");
  b.output("logits", b.add(product, product, "twice"));
  Graph scaled = b.finish();
  bypass(scaled, product);
  CHECK(read_by(scaled, "twice") == Names{"map", "map"});
  prune(scaled);
  CHECK(names_of(scaled) == Names{"map", "twice"});
  CHECK(scaled.params.empty());
}

TEST_CASE("insert moves what stands behind and no connection") {
  for (const char* before : {"body", "act", "last"}) {
    CAPTURE(before);
    const Graph was = small_graph();
    Graph graph = was;
    const int place = graph.find(before);
    Node node;
    node.kind = NodeKind::kAct;
    node.name = "new";
    node.in = {place - 1};
    CHECK(insert(graph, place, node) == place);
    CHECK(graph[place].name == "new");
    CHECK(read_by(graph, "new") == Names{was[place - 1].name});
    for (const Node& n : was.nodes) CHECK(read_by(graph, n.name) == read_by(was, n.name));
    for (const Output& o : was.outputs) CHECK(graph[graph.output(o.name)].name == was[o.node].name);
    CHECK(graph.find(before) == place + 1);
    infer_shapes(graph);  // every node still comes after what it reads
  }
}

TEST_CASE("the size of a Linear is that of its weight, also of a convolution's") {
  const Graph graph = small_graph();
  const LinearSize body = linear_size(graph, graph.find("body")),
                   last = linear_size(graph, graph.find("last"));
  CHECK(graph.param("body.weight")->dims == Dims{6, 3, 2, 2});
  CHECK(body.n == 6);
  CHECK(body.k == 12);
  CHECK(last.n == 2);
  CHECK(last.k == 6);
}

}  // namespace
}  // namespace vitrun
