#include "models/graph/builder.h"

#include <cmath>

namespace vitrun {

using A = Attribute;

int GraphBuilder::node(NodeKind kind, const std::string& name, std::vector<int> in, int cols,
                       std::map<Attribute, double> attributes) {
  Node n;
  n.kind = kind;
  n.name = name;
  n.in = std::move(in);
  n.attributes = std::move(attributes);
  n.block = block_;
  graph_.nodes.push_back(std::move(n));
  cols_.push_back(cols);
  return graph_.size() - 1;
}

std::string GraphBuilder::param(const std::string& name, Dims dims) {
  if (!graph_.param(name)) graph_.params.push_back({name, std::move(dims)});
  return name;
}

int GraphBuilder::image(int channels, int height, int width) {
  const int x = map("image", channels, height, width);
  graph_[x].attributes[A::kPlanar] = 1;
  return x;
}

int GraphBuilder::map(const std::string& name, int channels, int height, int width) {
  return node(NodeKind::kInput, name, {}, channels,
              {{A::kChannels, channels}, {A::kHeight, height}, {A::kWidth, width}});
}

int GraphBuilder::constant(const std::string& name, const Dims& dims) {
  const int x = node(NodeKind::kConst, name, {}, static_cast<int>(dims.back()));
  graph_[x].weight = param(name, dims);
  return x;
}

int GraphBuilder::window(int x, const std::string& name, int kernel, int stride, ElementOrder order,
                         int padding, bool ceil) {
  const int w = node(NodeKind::kWindow, name, {x}, kernel * kernel * cols(x),
                     {{A::kKernelHeight, kernel},
                      {A::kKernelWidth, kernel},
                      {A::kStride, stride},
                      {A::kOrder, static_cast<int>(order)}});
  if (padding) set(w, A::kPadding, padding);
  if (ceil) set(w, A::kCeil, 1);
  return w;
}

int GraphBuilder::unwindow(int x, const std::string& name, int kernel, int stride, int padding,
                           bool has_bias) {
  const int channels = cols(x) / (kernel * kernel);
  const int u = node(NodeKind::kUnwindow, name, {x}, channels,
                     {{A::kKernelHeight, kernel}, {A::kKernelWidth, kernel}, {A::kStride, stride}});
  if (padding) set(u, A::kPadding, padding);
  if (has_bias) graph_[u].bias = param(name + ".bias", {channels});
  return u;
}

int GraphBuilder::linear(int x, const std::string& name, int out_cols, bool has_bias) {
  const int y = node(NodeKind::kLinear, name, {x}, out_cols);
  const Node& in = graph_[x];
  // A convolution's weight has its elements in the order of its neighbourhoods.
  const bool conv = in.kind == NodeKind::kWindow &&
                    in.whole(A::kOrder) == static_cast<int>(ElementOrder::kChannelsFirst);
  const int k = in.whole(A::kKernelHeight);
  graph_[y].weight = param(
      name + ".weight", conv ? Dims{out_cols, cols(x) / (k * k), k, k} : Dims{out_cols, cols(x)});
  if (has_bias) graph_[y].bias = param(name + ".bias", {out_cols});
  graph_[y].unit = name;
  return y;
}

int GraphBuilder::norm(int x, const std::string& name, NormType type, float epsilon, int group) {
  return norm_columns(x, name, type, epsilon, group, 0, cols(x));
}

int GraphBuilder::norm_columns(int x, const std::string& name, NormType type, float epsilon,
                               int group, int begin, int end) {
  const int y = node(NodeKind::kNorm, name, {x}, end - begin, {{A::kEpsilon, double{epsilon}}});
  if (type != NormType::kLayer) set(y, A::kType, static_cast<int>(type));
  if (group) set(y, A::kGroup, group);
  if (begin) set(y, A::kBegin, begin);
  if (end != cols(x)) set(y, A::kEnd, end);
  graph_[y].weight = param(name + ".weight", {end - begin});
  if (type == NormType::kLayer) graph_[y].bias = param(name + ".bias", {end - begin});
  return y;
}

int GraphBuilder::layernorm(int x, const std::string& name, float epsilon) {
  return norm(x, name, NormType::kLayer, epsilon);
}

int GraphBuilder::act(int x, const std::string& name, ActType type) {
  const int y = node(NodeKind::kAct, name, {x}, cols(x));
  if (type != ActType::kGelu) set(y, A::kType, static_cast<int>(type));
  return y;
}

int GraphBuilder::mul(int x, int y, const std::string& name) {
  return node(NodeKind::kMul, name, {x, y}, cols(x));
}

int GraphBuilder::add(int x, int y, const std::string& name, float alpha) {
  const int z = node(NodeKind::kAdd, name, {x, y}, cols(x));
  if (alpha != 1) set(z, A::kAlpha, double{alpha});
  return z;
}

int GraphBuilder::concat(const std::vector<int>& xs, const std::string& name, int axis) {
  int sum = 0;
  for (int x : xs) sum += cols(x);
  return node(NodeKind::kConcat, name, xs, axis ? sum : cols(xs[0]), {{A::kAxis, axis}});
}

int GraphBuilder::slice(int x, const std::string& name, int begin, int end, int axis) {
  return node(NodeKind::kSlice, name, {x}, axis ? end - begin : cols(x),
              {{A::kAxis, axis}, {A::kBegin, begin}, {A::kEnd, end}});
}

int GraphBuilder::last_row(int x, const std::string& name) {
  return node(NodeKind::kSlice, name, {x}, cols(x), {{A::kAxis, 0}, {A::kBegin, -1}});
}

int GraphBuilder::pool(int x, const std::string& name, bool max, int begin) {
  const int y = node(NodeKind::kPool, name, {x}, cols(x), {{A::kType, int{max}}});
  if (begin) set(y, A::kBegin, begin);
  return y;
}

int GraphBuilder::pool_windows(int x, const std::string& name, bool max, int kernel, int stride,
                               int padding) {
  return node(NodeKind::kPool, name, {x}, cols(x),
              {{A::kType, int{max}},
               {A::kKernelHeight, kernel},
               {A::kKernelWidth, kernel},
               {A::kStride, stride},
               {A::kPadding, padding}});
}

int GraphBuilder::resize(int x, const std::string& name, bool bilinear, int height, int width) {
  return node(NodeKind::kResize, name, {x}, cols(x),
              {{A::kType, int{bilinear}}, {A::kHeight, height}, {A::kWidth, width}});
}

int GraphBuilder::resize_like(int x, int y, const std::string& name, bool bilinear) {
  return node(NodeKind::kResize, name, {x, y}, cols(x), {{A::kType, int{bilinear}}});
}

int GraphBuilder::rope(int x, int table, const std::string& name, int head_dim, bool interleaved,
                       int begin, int end) {
  return node(
      NodeKind::kRope, name, {x, table}, cols(x),
      {{A::kType, int{interleaved}}, {A::kHeadDim, head_dim}, {A::kBegin, begin}, {A::kEnd, end}});
}

int GraphBuilder::attention(int q, int k, int v, const std::string& name, const Attention& a) {
  const float scale = a.scale > 0 ? a.scale : 1 / std::sqrt(static_cast<float>(a.head_dim));
  const int scores = node(NodeKind::kScores, name + ".matmul1", {q, k}, 0,
                          {{A::kHeads, a.heads},
                           {A::kHeadDim, a.head_dim},
                           {A::kScale, double{scale}},
                           {A::kQueryBegin, a.query_begin},
                           {A::kKeyBegin, a.key_begin}});
  if (a.window) set(scores, A::kWindow, a.window);
  if (a.shift) set(scores, A::kShift, a.shift);
  if (a.pad_first) set(scores, A::kPadFirst, 1);
  if (a.fixed_window) set(scores, A::kFixedWindow, 1);
  const int softmax = node(NodeKind::kSoftmax, name + ".attn", {scores}, 0);
  int entries = a.bias_entries;
  if (a.grid_height) {
    set(scores, A::kHeight, a.grid_height);
    set(scores, A::kWidth, a.grid_width);
    entries = (2 * a.grid_height - 1) * (2 * a.grid_width - 1) + kTokenOffsets;
  }
  if (entries)
    graph_[softmax].weight =
        param(a.bias_table.empty() ? name + ".relative_position_bias_table" : a.bias_table,
              {entries, a.heads});
  if (a.bias >= 0) graph_[softmax].in.push_back(a.bias);
  if (a.causal) set(softmax, A::kCausal, 1);
  const int mix = node(NodeKind::kMix, name + ".matmul2", {softmax, v}, a.heads * a.head_dim,
                       {{A::kValueBegin, a.value_begin}});
  for (const auto& [node, role] :
       {std::pair{scores, Role::kScores}, std::pair{softmax, Role::kAttention},
        std::pair{mix, Role::kMix}}) {
    set_role(node, role);
    set_unit(node, graph_[node].name);
  }
  return mix;
}

Graph GraphBuilder::finish() {
  return std::move(graph_);
}

}  // namespace vitrun
