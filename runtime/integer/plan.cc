#include "runtime/integer/plan.h"

#include <algorithm>

#include "models/base/error.h"

namespace vitrun {
namespace {

std::vector<int> output_nodes(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<int> nodes;
  for (const std::string& name : names) {
    nodes.push_back(graph.output(name));
    if (nodes.back() < 0) fail("the model has no output '", name, "'");
  }
  if (!nodes.empty()) return nodes;
  if (graph.outputs.empty()) fail("the graph has no output");
  return {graph.outputs[0].node};
}

Plan plan_of(const QuantGraph& model, const PlanRequest& request) {
  const Graph& graph = model.graph;
  if (std::ranges::count(graph.nodes, NodeKind::kInput, &Node::kind) > 1)
    fail("the graph has several inputs, a run takes one");
  Plan plan;
  plan.shapes = request.sizes.empty() || request.sizes == default_sizes(graph)
                    ? model.shapes
                    : std::make_shared<const Shapes>(infer_shapes(graph, request.sizes));
  const std::vector<int> outputs = output_nodes(graph, request.outputs);
  std::vector<int> need = rows_needed(graph, *plan.shapes, outputs);
  for (int i = 0; request.all_rows && i < graph.size(); i++)
    if (at(need, i) > 0) at(need, i) = (*plan.shapes)[i].rows;
  lower(model, fuse(model, *plan.shapes, need, outputs), need, request, plan);
  schedule(plan);
  place_values(request.batch, plan);
  return plan;
}

}  // namespace

Plan make_plan(const QuantGraph& model, const PlanRequest& request) {
  try {
    return plan_of(model, request);
  } catch (const Error& e) {
    fail(model.where, ": ", e.what());
  }
}

}  // namespace vitrun
