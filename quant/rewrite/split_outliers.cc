#include "quant/rewrite/split_outliers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/graph/rewrite.h"
#include "quant/rewrite/fold.h"

namespace vitrun {
namespace {

// An outlier channel reaches so many times the largest value of the channels that are not split.
constexpr float kOutlier = 4;
constexpr float kMargin = 1.1f;  // other images may exceed the largest value seen by this factor
constexpr size_t kMostChannels = 8;  // at most so many channels of one MLP are split
constexpr int kMostCopies = 64;      // at most so many copies are added to one MLP

// The nodes of an MLP: fc1, the GELU, and fc2, or several Linears that read the same values, as a
// detector's classes and boxes do.
struct Mlp {
  int fc1, act;
  std::vector<int> readers;
  std::vector<float> top;  // the largest value of each hidden channel
};

std::vector<Mlp> mlps_of(const Graph& graph) {
  const std::vector<std::vector<int>> readers = graph.readers();
  const auto is_output = [&](int value) {
    return std::ranges::any_of(graph.outputs, [&](const Output& o) { return o.node == value; });
  };
  std::vector<Mlp> out;
  for (int i = 0; i < graph.size(); i++) {
    if (!graph.is(i, NodeKind::kAct) || !activation_of(graph[i].act())) continue;
    const int fc1 = graph[i].in[0];
    const bool fits = graph.is(fc1, NodeKind::kLinear) && at(readers, fc1).size() == 1 &&
                      !is_output(fc1) && !is_output(i) &&
                      std::ranges::all_of(at(readers, i), [&](int reader) {
                        return graph.is(reader, NodeKind::kLinear);
                      });
    if (fits)
      out.push_back(
          {fc1, i, at(readers, i), std::vector<float>(array_size(linear_size(graph, fc1).n))});
  }
  return out;
}

// The channels of an MLP that are split. Each is held to at most `limit`, and channels[i] gets
// copies[i] copies besides itself.
struct Split {
  float limit = INFINITY;
  std::vector<int> channels, copies;

  int added() const { return std::accumulate(copies.begin(), copies.end(), 0); }
};

Split choose_split(const std::vector<float>& top) {
  std::vector<int> order(top.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return at(top, a) > at(top, b); });
  const auto nth = [&](size_t i) { return at(top, order[i]); };
  Split best;
  for (size_t count = 1; count <= kMostChannels && count < top.size(); count++) {
    const float limit = nth(count);
    if (!(limit > 0) || nth(count - 1) < kOutlier * limit) continue;
    Split split{limit, {}, {}};
    float all = 0;
    for (size_t i = 0; i < count; i++) {
      const float copies = std::ceil(kMargin * nth(i) / limit) - 1;
      all += copies;
      if (all > kMostCopies) break;
      split.channels.push_back(order[i]);
      split.copies.push_back(static_cast<int>(copies));
    }
    if (all <= kMostCopies) best = split;
  }
  return best;
}

// Adds a row to fc1 for every copy: copy i of a channel has its weights, and its bias less
// i * limit.
void add_rows(Tensor& fc1, Tensor& bias, const Split& split) {
  const size_t depth = fc1.data.size() / bias.data.size();
  for (size_t i = 0; i < split.channels.size(); i++) {
    const auto channel = static_cast<size_t>(split.channels[i]);
    const std::vector<float> row(
        fc1.data.begin() + static_cast<std::ptrdiff_t>(channel * depth),
        fc1.data.begin() + static_cast<std::ptrdiff_t>((channel + 1) * depth));
    for (int copy = 1; copy <= split.copies[i]; copy++) {
      fc1.data.insert(fc1.data.end(), row.begin(), row.end());
      bias.data.push_back(bias.data[channel] - static_cast<float>(copy) * split.limit);
    }
  }
  fc1.dims[0] = bias.dims[0] = static_cast<int64_t>(bias.data.size());
}

// Adds a column to a reader for every copy, with the channel's weights.
void add_columns(Tensor& reader, const Split& split) {
  const auto rows = static_cast<size_t>(reader.dims[0]);
  const size_t hidden = reader.data.size() / rows, extra = static_cast<size_t>(split.added());
  std::vector<float> columns;
  columns.reserve(rows * (hidden + extra));
  for (size_t row = 0; row < rows; row++) {
    const float* from = reader.data.data() + row * hidden;
    columns.insert(columns.end(), from, from + hidden);
    for (size_t i = 0; i < split.channels.size(); i++)
      columns.insert(columns.end(), static_cast<size_t>(split.copies[i]), from[split.channels[i]]);
  }
  reader.dims[1] = static_cast<int64_t>(hidden + extra);
  reader.data = std::move(columns);
}

}  // namespace

int split_outliers(FloatModel& model, const ImageSource& images, int threads) {
  std::vector<Mlp> mlps = mlps_of(model.graph);
  Reference engine(model.graph, model.weights, threads);
  run_all(engine, images, [&](int node, Tensor& value) {
    for (Mlp& mlp : mlps) {
      if (mlp.act != node) continue;
      const size_t cols = mlp.top.size();
      for (size_t i = 0; i < value.data.size(); i++)
        mlp.top[i % cols] = std::max(mlp.top[i % cols], value.data[i]);
    }
  });
  int copies = 0;
  for (const Mlp& mlp : mlps) {
    const Split split = choose_split(mlp.top);
    if (split.added() == 0) continue;
    ensure_bias(model, mlp.fc1);
    const Node& fc1 = model.graph[mlp.fc1];
    std::vector<std::string> changed = {fc1.weight, fc1.bias};
    add_rows(model.weights.at(fc1.weight), model.weights.at(fc1.bias), split);
    for (int reader : mlp.readers) {
      changed.push_back(model.graph[reader].weight);
      add_columns(model.weights.at(changed.back()), split);
    }
    for (const std::string& name : changed)
      model.graph.param(name)->dims = model.weights.at(name).dims;
    model.graph[mlp.act].attributes[Attribute::kLimit] = double{split.limit};
    copies += split.added();
  }
  return copies;
}

}  // namespace vitrun
