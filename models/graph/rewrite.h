// Changes of a graph as a whole.
#pragma once

#include "models/graph/graph.h"

namespace vitrun {

// Leaves out the nodes that no output needs, and the parameters that none of the others reads.
// Returns the new index of every node, -1 for those left out.
std::vector<int> prune(Graph& graph);

// Makes every reader of node i read the first input of i instead.
void bypass(Graph& graph, int i);

// Puts a node in place i, whose inputs are before it; returns i.
int insert(Graph& graph, int i, Node node);

// N and K of a Linear's weight.
struct LinearSize {
  int n, k;
};
LinearSize linear_size(const Graph& graph, int linear);

}  // namespace vitrun
