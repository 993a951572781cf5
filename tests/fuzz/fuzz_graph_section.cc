// Fuzz target: the graphs in a .qbin's head as raw bytes, without the checksum around them. What is
// accepted has whole names, known kinds, and outputs among its nodes.
#include "runtime/files/graph_section.h"

#include "tests/fuzz/fuzz_target.h"

namespace vitrun {

void fuzz_target(std::span<const uint8_t> bytes) {
  Choices choices(bytes);
  const auto count = static_cast<uint32_t>(choices.below(4));
  const size_t used = std::min<size_t>(1, bytes.size());
  const auto graphs = read_graphs(bytes.subspan(used), count, "fuzz");
  FUZZ_CHECK(graphs.size() == count);
  for (const auto& [name, graph] : graphs) {
    FUZZ_CHECK(!name.empty() && graph.nodes.size() <= kMaxNodes);
    for (const Node& n : graph.nodes) {
      FUZZ_CHECK(!n.name.empty() && static_cast<int>(n.kind) < kNodeKinds);
      FUZZ_CHECK(static_cast<int>(n.role) < kRoles);
      for (int in : n.in) FUZZ_CHECK(in >= 0);
      for (const auto& [attribute, value] : n.attributes)
        FUZZ_CHECK(static_cast<int>(attribute) < kAttributes && value == value);
    }
    for (const Output& o : graph.outputs) FUZZ_CHECK(o.node >= 0 && o.node < graph.size());
  }
}

}  // namespace vitrun
