// The graphs in a .qbin's head (qbin.h, point 2).
#pragma once

#include <map>
#include <span>

#include "models/graph/graph.h"

namespace vitrun {

constexpr uint32_t kMaxNodes = 1 << 16;

// Which of a node's unit, weight and bias it has and which of them are spelled out, because they
// are not the node's name, NAME.weight and NAME.bias.
class NodeNames {
 public:
  explicit NodeNames(const Node& n) : node_(n) {}

  uint8_t flags() const;
  std::vector<const std::string*> spelled_out() const;

 private:
  const Node& node_;
};

// Fails on what is no graph section: numbers of no kind, role or attribute, counts beyond the
// limits, bytes left over. Which node reads which is infer_shapes()'s to judge.
std::map<std::string, Graph> read_graphs(std::span<const uint8_t> bytes, uint32_t count,
                                         const std::string& where);

}  // namespace vitrun
