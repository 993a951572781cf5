#include "runtime/files/graph_section.h"

#include <cmath>

#include "runtime/files/cursor.h"

namespace vitrun {
namespace {

constexpr int kMaxOutputs = 64;

// A name that a node may have beside its own.
struct OptionalName {
  int has, spelled;          // flags: the node has the name; it is spelled out in the file
  std::string Node::*field;  // the name's place in a node
  const char* suffix;        // the name is the node's own and this suffix if it is not spelled out
};
constexpr OptionalName kOptionalNames[] = {
    {1, 2, &Node::unit, ""}, {4, 8, &Node::weight, ".weight"}, {16, 32, &Node::bias, ".bias"}};

template <class T>
T enumerator(Cursor& cursor, int count, const char* what) {
  const int number = cursor.number<uint8_t>();
  if (number >= count)
    cursor.fail_item(what, " ", number, ", this version knows those below ", count);
  return static_cast<T>(number);
}

Node read_node(Cursor& cursor, const std::string& item) {
  Node n;
  cursor.begin_item(item);
  n.kind = enumerator<NodeKind>(cursor, kNodeKinds, "kind");
  n.role = enumerator<Role>(cursor, kRoles, "role");
  n.block = cursor.number<int32_t>();
  n.name = cursor.name();
  cursor.begin_item(item, " '", n.name, "'");
  const int flags = cursor.number<uint8_t>();
  for (const OptionalName& o : kOptionalNames) {
    if ((flags & o.spelled) && !(flags & o.has)) cursor.fail_item("flags ", flags);
    if (flags & o.has) n.*o.field = flags & o.spelled ? cursor.name() : n.name + o.suffix;
  }
  if (flags > 63) cursor.fail_item("flags ", flags);
  for (int left = cursor.number<uint8_t>(); left > 0; left--) {
    const uint32_t in = cursor.number<uint32_t>();
    if (in >= kMaxNodes) cursor.fail_item("reads node ", in, " of at most ", kMaxNodes);
    n.in.push_back(static_cast<int>(in));
  }
  for (int left = cursor.number<uint8_t>(); left > 0; left--) {
    const auto attribute = enumerator<Attribute>(cursor, kAttributes, "attribute");
    const double value = cursor.number<double>();
    if (std::isnan(value)) cursor.fail_item(name_of(attribute), " is NaN");
    if (!n.attributes.empty() && n.attributes.rbegin()->first >= attribute)
      cursor.fail_item("attributes do not ascend");
    n.attributes[attribute] = value;
  }
  return n;
}

}  // namespace

uint8_t NodeNames::flags() const {
  int flags = 0;
  for (const OptionalName& o : kOptionalNames) {
    const std::string& name = node_.*o.field;
    if (name.empty()) continue;
    flags |= o.has;
    if (name != node_.name + o.suffix) flags |= o.spelled;
  }
  return static_cast<uint8_t>(flags);
}

std::vector<const std::string*> NodeNames::spelled_out() const {
  std::vector<const std::string*> names;
  for (const OptionalName& o : kOptionalNames)
    if (flags() & o.spelled) names.push_back(&(node_.*o.field));
  return names;
}

std::map<std::string, Graph> read_graphs(std::span<const uint8_t> bytes, uint32_t count,
                                         const std::string& where) {
  std::map<std::string, Graph> graphs;
  Cursor cursor(bytes, where);
  for (uint32_t g = 0; g < count; g++) {
    cursor.begin_item("graph ", g);
    const std::string name = cursor.name(), item = cat("graph '", name, "'");
    cursor.begin_item(item);
    const uint32_t nodes = cursor.number<uint32_t>();
    if (nodes > kMaxNodes)
      cursor.fail_item("expected at most ", kMaxNodes, " nodes, found ", nodes);
    Graph graph;
    for (uint32_t i = 0; i < nodes; i++)
      graph.nodes.push_back(read_node(cursor, cat(item, ", node ", i)));
    cursor.begin_item(item);
    const int outputs = cursor.number<uint16_t>();
    if (outputs > kMaxOutputs)
      cursor.fail_item("expected at most ", kMaxOutputs, " outputs, found ", outputs);
    for (int i = 0; i < outputs; i++) {
      Output o{cursor.name(), 0};
      const uint32_t node = cursor.number<uint32_t>();
      if (node >= nodes) cursor.fail_item("output '", o.name, "' is node ", node, " of ", nodes);
      if (graph.output(o.name) >= 0) cursor.fail_item("output '", o.name, "' is there twice");
      o.node = static_cast<int>(node);
      graph.outputs.push_back(std::move(o));
    }
    if (!graphs.emplace(name, std::move(graph)).second) cursor.fail_item("is there twice");
  }
  if (!cursor.left().empty())
    fail(where, ": graphs: ", cursor.left().size(), " bytes after the last graph");
  return graphs;
}

}  // namespace vitrun
