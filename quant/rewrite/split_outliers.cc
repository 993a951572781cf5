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

// The nodes of an MLP: fc1, the GELU and fc2.
struct Mlp {
  int fc1, act, fc2;
  std::vector<float> top;  // the largest value of each hidden channel
};

std::vector<Mlp> mlps_of(const Graph& graph) {
  std::vector<Mlp> out;
  for (int i = 0; i < graph.size(); i++) {
    if (!graph.is(i, NodeKind::kLinear)) continue;
    const int act = graph[i].in[0];
    if (!graph.is(act, NodeKind::kAct) || !activation_of(graph[act].act()) ||
        !graph.is(graph[act].in[0], NodeKind::kLinear))
      continue;
    const LinearSize fc1 = linear_size(graph, graph[act].in[0]);
    out.push_back({graph[act].in[0], act, i, std::vector<float>(array_size(fc1.n))});
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

// Adds a row to fc1 and a column to fc2 for every copy: copy i of a channel has its weights, and
// its bias less i * limit.
void add_copies(Tensor& fc1, Tensor& bias, Tensor& fc2, const Split& split) {
  const size_t depth = fc1.data.size() / bias.data.size(), hidden = bias.data.size(),
               extra = static_cast<size_t>(split.added());
  std::vector<float> columns;
  columns.reserve(static_cast<size_t>(fc2.dims[0]) * (hidden + extra));
  for (size_t row = 0; row < static_cast<size_t>(fc2.dims[0]); row++) {
    const float* from = fc2.data.data() + row * hidden;
    columns.insert(columns.end(), from, from + hidden);
    for (size_t i = 0; i < split.channels.size(); i++)
      columns.insert(columns.end(), static_cast<size_t>(split.copies[i]), from[split.channels[i]]);
  }
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
  fc1.dims[0] = bias.dims[0] = fc2.dims[1] = static_cast<int64_t>(hidden + extra);
  fc2.data = std::move(columns);
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
    Node& fc1 = model.graph[mlp.fc1];
    Node& fc2 = model.graph[mlp.fc2];
    add_copies(model.weights.at(fc1.weight), model.weights.at(fc1.bias),
               model.weights.at(fc2.weight), split);
    for (const std::string& name : {fc1.weight, fc1.bias, fc2.weight})
      model.graph.param(name)->dims = model.weights.at(name).dims;
    model.graph[mlp.act].attributes[Attribute::kLimit] = double{split.limit};
    copies += split.added();
  }
  return copies;
}

}  // namespace vitrun
