// The graph of a model: one flat list of nodes in execution order, the same list for the float
// engine, calibration, LRP, allocation, the .qbin and the integer engine. A node has one output;
// its inputs are earlier nodes, in any order and read by any number of nodes. Builders
// (models/families) make graphs from configurations; a .qbin holds them.
//
// A value holds, per image, [groups, rows, cols] floats; groups is 1 but for attention scores
// (windows * heads). The rows of a map of height x width tokens are its positions, row by row
// (NHWC); windows, shifts and padding exist only inside nodes. Shapes are not stored:
// infer_shapes() (shapes.h) derives them from the sizes of the inputs.
//
// kinds.def says what each kind of node computes and which attributes it has.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "models/base/index.h"
#include "models/base/tensor.h"

namespace vitrun {

enum class NodeKind : uint8_t {
#define VITRUN_NODE(kind, function, name, least, most) k##kind,
#include "models/graph/kinds.def"
};
enum class Role : uint8_t {
#define VITRUN_ROLE(role) k##role,
#include "models/graph/kinds.def"
};
enum class Attribute : uint8_t {
#define VITRUN_ATTRIBUTE(attribute, name) k##attribute,
#include "models/graph/kinds.def"
};

constexpr int kNodeKinds = 0
#define VITRUN_NODE(kind, function, name, least, most) +1
#include "models/graph/kinds.def"
    ;
constexpr int kRoles = 0
#define VITRUN_ROLE(role) +1
#include "models/graph/kinds.def"
    ;
constexpr int kAttributes = 0
#define VITRUN_ATTRIBUTE(attribute, name) +1
#include "models/graph/kinds.def"
    ;

const char* name_of(NodeKind kind);
const char* name_of(Attribute attribute);

enum class ActType { kGelu, kGeluTanh, kQuickGelu, kSilu, kRelu, kSigmoid, kTanh };
enum class NormType { kLayer, kRms, kL2 };
enum class ElementOrder { kChannelsFirst, kRowsFirst, kColumnsFirst };

struct Node {
  NodeKind kind = NodeKind::kInput;
  std::string name;  // timm's module ("blocks.0.attn.qkv") or the unit ("blocks.0.attn.matmul1")
  std::vector<int> in;
  std::string weight, bias;  // names of parameters; empty: none
  std::map<Attribute, double> attributes;
  Role role = Role::kNone;
  int block = -1;    // of the model, counted over all stages; -1: outside
  std::string unit;  // the scored unit whose bits apply (method.md, "Names"); empty: none

  bool has(Attribute a) const { return attributes.contains(a); }
  double real(Attribute a, double otherwise = 0) const {
    const auto found = attributes.find(a);
    return found == attributes.end() ? otherwise : found->second;
  }
  // The value of an attribute that infer_shapes() has found to be a whole number.
  int whole(Attribute a, int otherwise = 0) const { return static_cast<int>(real(a, otherwise)); }
  ActType act() const { return static_cast<ActType>(whole(Attribute::kType)); }
  NormType norm() const { return static_cast<NormType>(whole(Attribute::kType)); }
  float limit() const { return static_cast<float>(real(Attribute::kLimit, INFINITY)); }
  float alpha() const { return static_cast<float>(real(Attribute::kAlpha, 1)); }
};

// A tensor the graph needs and its shape.
struct Param {
  std::string name;
  Dims dims;
};

struct Output {
  std::string name;  // "logits", "embedding", "features", or a name of the graph's own
  int node = -1;
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<Param> params;
  std::vector<Output> outputs;

  const Node& operator[](int i) const { return at(nodes, i); }
  Node& operator[](int i) { return at(nodes, i); }
  int size() const { return count_of(nodes); }
  bool is(int i, NodeKind kind) const { return (*this)[i].kind == kind; }

  int find(const std::string& name) const;    // index of the node with that name; -1 if none
  int find(Role role) const;                  // index of the first node with that role; -1 if none
  int output(const std::string& name) const;  // index of the output's node; -1 if there is none
  const Param* param(const std::string& name) const;  // null if there is none
  Param* param(const std::string& name);

  int find(NodeKind kind) const;  // index of the first node of that kind; -1 if none

  // The nodes that read each node's value, in order; one that reads it twice is listed twice.
  std::vector<std::vector<int>> readers() const;
};

// Takes from `weights` exactly what the graph needs; a missing, surplus or wrongly shaped tensor
// fails with its name and both shapes. `where` names the file in messages, `arch` the model.
void check_weights(const Graph& graph, const Weights& weights, const std::string& where,
                   const std::string& arch);

}  // namespace vitrun
