// Reads the graphs of a .qbin's head (qbin.h, point 2).
#pragma once

#include <map>
#include <span>

#include "models/graph/graph.h"

namespace vitrun {

constexpr uint32_t kMaxNodes = 1 << 16;

// How a node's unit, weight and bias are stored: whether it has each, and whether it is spelled
// out, because it is not the node's NAME, NAME.weight or NAME.bias.
class NodeNames {
 public:
  explicit NodeNames(const Node& n) : node_(n) {}

  uint8_t flags() const;
  std::vector<const std::string*> spelled_out() const;

 private:
  const Node& node_;
};

// Reads `count` graphs by name. Fails on numbers of no kind, role or attribute, on counts beyond
// the limits and on bytes left over. Whether nodes fit together is checked by infer_shapes().
std::map<std::string, Graph> read_graphs(std::span<const uint8_t> bytes, uint32_t count,
                                         const std::string& where);

}  // namespace vitrun
