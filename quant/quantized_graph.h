// A float graph with the Quantize nodes that its matrix products need.
#pragma once

#include "models/graph/quantizers.h"

namespace vitrun {

struct QuantizedGraph {
  Graph graph;
  Weights quantizers;         // the parameters of its Quantize nodes
  std::vector<int> original;  // node -> node of the float graph; -1: a Quantize or its Window
};

// Puts a Quantize with params[i] before the operand that sites[i] names. Operands that have value,
// columns and parameters in common share one Quantize. Nodes that no output needs any more are left
// out.
QuantizedGraph insert_quantizers(const Graph& graph, const std::vector<Site>& sites,
                                 const std::vector<CodeParams>& params);

}  // namespace vitrun
