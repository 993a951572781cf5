#include "models/graph/graph.h"

#include <algorithm>
#include <utility>

#include "models/base/error.h"

namespace vitrun {

const char* name_of(NodeKind kind) {
  static constexpr const char* kNames[] = {
#define VITRUN_NODE(kind, function, name, least, most) name,
#include "models/graph/kinds.def"
  };
  return kNames[static_cast<size_t>(kind)];
}

const char* name_of(Attribute attribute) {
  static constexpr const char* kNames[] = {
#define VITRUN_ATTRIBUTE(attribute, name) name,
#include "models/graph/kinds.def"
  };
  return kNames[static_cast<size_t>(attribute)];
}

int Graph::find(const std::string& name) const {
  for (int i = 0; i < size(); i++)
    if ((*this)[i].name == name) return i;
  return -1;
}

int Graph::find(Role role) const {
  for (int i = 0; i < size(); i++)
    if ((*this)[i].role == role) return i;
  return -1;
}

int Graph::find(NodeKind kind) const {
  for (int i = 0; i < size(); i++)
    if (is(i, kind)) return i;
  return -1;
}

int Graph::output(const std::string& name) const {
  for (const Output& o : outputs)
    if (o.name == name) return o.node;
  return -1;
}

const Param* Graph::param(const std::string& name) const {
  const auto found =
      std::find_if(params.begin(), params.end(), [&](const Param& p) { return p.name == name; });
  return found == params.end() ? nullptr : &*found;
}

Param* Graph::param(const std::string& name) {
  return const_cast<Param*>(std::as_const(*this).param(name));
}

std::vector<std::vector<int>> Graph::readers() const {
  std::vector<std::vector<int>> readers(nodes.size());
  for (int i = 0; i < size(); i++)
    for (int in : (*this)[i].in) at(readers, in).push_back(i);
  return readers;
}

void check_weights(const Graph& graph, const Weights& weights, const std::string& where,
                   const std::string& arch) {
  for (const Param& p : graph.params) {
    auto found = weights.find(p.name);
    if (found == weights.end())
      fail(where, ": tensor '", p.name, "' ", to_string(p.dims), " is missing");
    if (found->second.dims != p.dims)
      fail(where, ": tensor '", p.name, "' is ", to_string(found->second.dims),
           ", the model needs ", to_string(p.dims));
  }
  if (weights.size() == graph.params.size()) return;
  for (const auto& [name, tensor] : weights)
    if (!graph.param(name))
      fail(where, ": tensor '", name, "' ", to_string(tensor.dims),
           " has no place in a model of family '", arch, "'");
}

}  // namespace vitrun
