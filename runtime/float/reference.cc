#include "runtime/float/reference.h"

#include <algorithm>

#include "models/base/error.h"
#include "runtime/choose_kernels.h"
#include "runtime/float/blas.h"

namespace vitrun {

namespace {

// Fails on a value that overflowed in float32, before it makes every later one a NaN or hides in a
// softmax.
void check_finite(const Tensor& value, const std::string& node) {
  const size_t bad = first_not_finite(value.data);
  if (bad == value.data.size()) return;
  const size_t images = static_cast<size_t>(value.dims[0]);
  const std::string where =
      images > 1 ? cat(" for image ", bad / (value.data.size() / images), " of ", images) : "";
  fail("the value of '", node, "' is ", double{value.data[bad]}, where,
       ": it overflows in float32");
}

}  // namespace

Reference::Reference(const Graph& graph, const Weights& weights, int threads)
    : graph_(graph),
      weights_(weights),
      kernels_(choose_kernels()),
      last_use_(graph.nodes.size(), 0),
      shapes_(infer_shapes(graph)),
      sizes_(default_sizes(graph)),
      pool_(threads) {
  blas().set_threads(1);  // the pool splits the rows; OpenBLAS must not split them again
  for (int i = 0; i < graph.size(); i++)
    for (int in : graph[i].in) at(last_use_, in) = i;
  for (const Output& o : graph.outputs) at(last_use_, o.node) = graph.size();
}

void Reference::set_size(const Tensor& images) {
  int input = graph_.size() - 1;
  while (input >= 0 && !graph_.is(input, NodeKind::kInput)) input--;
  if (input < 0 || sizes_.size() != 1)
    fail("the graph has ", sizes_.size(), " inputs instead of 1");
  const Node& n = graph_[input];
  const bool planar = shapes_[input].planar;
  const int64_t channels = n.whole(Attribute::kChannels);
  const size_t of_channels = planar ? 1 : 3, of_height = planar ? 2 : 1;
  if (images.dims.size() != 4 || images.dims[0] < 1 || images.dims[of_channels] != channels) {
    const MapSize size = default_sizes(graph_)[0];
    fail("the model takes images ", to_string({1, channels, size.height, size.width}), ", got ",
         to_string(images.dims));
  }
  const MapSize size{static_cast<int>(images.dims[of_height]),
                     static_cast<int>(images.dims[of_height + 1])};
  if (size == sizes_[0]) return;
  try {
    shapes_ = infer_shapes(graph_, {size});
  } catch (const Error& e) {
    const MapSize usual = default_sizes(graph_)[0];
    fail("the model takes images ", to_string({1, channels, usual.height, usual.width}), ", got ",
         to_string(images.dims), ": ", e.what());
  }
  sizes_ = {size};
}

template <class Value>
Tensor Reference::evaluate(int node, const Tensor& images, const Value& value) {
  const Shape& s = shapes_[node];
  Tensor y({images.dims[0], int64_t{s.groups} * s.rows, s.cols});
  std::vector<const Tensor*> in;
  for (int i : graph_[node].in) in.push_back(&value(i));
  forward({graph_, shapes_, node, in, &images, weights_, kernels_, pool_, y});
  check_finite(y, graph_[node].name);
  return y;
}

Tensor Reference::multiply(const Tensor& x, const Tensor& weight) {
  const int k = static_cast<int>(x.dims[2]), n = static_cast<int>(weight.dims[0]);
  Tensor y({x.dims[0], x.dims[1], n});
  const float* w = weight.data.data();
  const auto product = [&](int64_t begin, int64_t end) {
    affine(x.data.data() + begin * k, w, nullptr, end - begin, n, k, y.data.data() + begin * n);
  };
  parallel(pool_, rows_of(x), product, kRowsTogether);
  return y;
}

std::vector<Tensor> Reference::run_nodes(const Tensor& images, const Observer& observe,
                                         int keep_from, int last) {
  set_size(images);
  std::vector<Tensor> values(graph_.nodes.size());
  for (int i = 0; i <= last; i++) {
    at(values, i) = evaluate(i, images, [&](int in) -> const Tensor& { return at(values, in); });
    if (observe) observe(i, at(values, i));
    for (int in : graph_[i].in)
      if (in < keep_from && at(last_use_, in) == i) at(values, in) = {};
  }
  return values;
}

Tensor Reference::run_between(const Tensor& images, const std::vector<Tensor>& values,
                              const std::map<int, Tensor>& replaced, int to) {
  std::map<int, Tensor> changed;
  const auto find = [&](int node) -> const Tensor* {
    if (const auto found = replaced.find(node); found != replaced.end()) return &found->second;
    const auto found = changed.find(node);
    return found != changed.end() ? &found->second : nullptr;
  };
  std::vector<bool> needed(static_cast<size_t>(to) + 1);
  needed[static_cast<size_t>(to)] = true;
  for (int i = to; i >= 0; i--) {
    if (!needed[static_cast<size_t>(i)] || replaced.contains(i)) continue;
    for (int in : graph_[i].in) needed[static_cast<size_t>(in)] = true;
  }
  for (int i = 0; i <= to; i++) {
    if (!needed[static_cast<size_t>(i)] || replaced.contains(i)) continue;
    if (std::ranges::any_of(graph_[i].in, [&](int in) { return find(in) != nullptr; }))
      changed[i] = evaluate(i, images, [&](int in) -> const Tensor& {
        const Tensor* other = find(in);
        return other ? *other : at(values, in);
      });
  }
  return std::move(changed.at(to));
}

Tensor Reference::output_of(std::vector<Tensor>& values, int node) const {
  Tensor out = at(values, node);
  if (out.dims[1] == 1) out.dims = {out.dims[0], out.dims[2]};
  return out;
}

std::vector<Tensor> Reference::run_outputs(const Tensor& images,
                                           const std::vector<std::string>& names,
                                           const Observer& observe) {
  std::vector<int> nodes;
  for (const std::string& name : names) {
    nodes.push_back(graph_.output(name));
    if (nodes.back() < 0) fail("the model has no output '", name, "'");
  }
  const int last = nodes.empty() ? graph_.size() - 1 : *std::ranges::max_element(nodes);
  std::vector<Tensor> values = run_nodes(images, observe, graph_.size(), last);
  std::vector<Tensor> out;
  for (int node : nodes) out.push_back(output_of(values, node));
  return out;
}

Tensor Reference::run(const Tensor& images, const Observer& observe) {
  if (graph_.outputs.empty()) fail("the graph has no output");
  return std::move(run_outputs(images, {graph_.outputs[0].name}, observe)[0]);
}

std::vector<Tensor> Reference::run_keeping(const Tensor& images, int first, int last) {
  return run_nodes(images, {}, first, last);
}

}  // namespace vitrun
