#include "lrp/report/perturb.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "runtime/files/atomic_file.h"

namespace vitrun {
namespace {

constexpr size_t kSteps = 10;  // 0, 10, .. 90 % of the patches are removed

// Returns the indices of `map` in descending order of its values, equal ones in their own order.
std::vector<int> descending(const std::vector<float>& map) {
  std::vector<int> order(map.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return at(map, a) > at(map, b); });
  return order;
}

// Sets one patch of the image [3, height, width], which `grid` patches cover, to 0.
void erase_patch(MapSize grid, int patch, int64_t height, int64_t width, float* image) {
  const int64_t tall = height / grid.height, wide = width / grid.width;
  const int64_t y = patch / grid.width * tall, x = patch % grid.width * wide;
  for (int channel = 0; channel < 3; channel++)
    for (int64_t row = 0; row < tall; row++)
      std::fill_n(image + (channel * height + y + row) * width + x, wide, 0.f);
}

// Returns the image [1, 3, H, W] without the first 10, 20, .. 90 % of the patches of `order`,
// [kSteps - 1, 3, H, W].
Tensor without(MapSize grid, const Tensor& image, const std::vector<int>& order) {
  Tensor out({static_cast<int64_t>(kSteps) - 1, 3, image.dims[2], image.dims[3]});
  const size_t size = image.data.size();
  const float* from = image.data.data();
  size_t gone = 0;
  for (size_t step = 1; step < kSteps; step++) {
    float* to = out.data.data() + (step - 1) * size;
    std::copy_n(from, size, to);
    for (const size_t end = order.size() * step / kSteps; gone < end; gone++)
      erase_patch(grid, order[gone], image.dims[2], image.dims[3], to);
    from = to;
  }
  return out;
}

int predicted(const Tensor& logits, size_t row) {
  const auto classes = static_cast<std::ptrdiff_t>(logits.dims[1]);
  const auto first = logits.data.begin() + static_cast<std::ptrdiff_t>(row) * classes;
  return static_cast<int>(std::max_element(first, first + classes) - first);
}

}  // namespace

std::vector<float> attention_rollout(Reference& forward, const Tensor& image) {
  const Graph& graph = forward.graph();
  std::vector<Tensor> attention;
  std::vector<const AttentionGeometry*> geometry;
  forward.run(image, [&](int node, Tensor& value) {
    if (!graph.is(node, NodeKind::kSoftmax)) return;
    attention.push_back(value);
    geometry.push_back(&forward.shapes().geometry(node));
  });
  const auto t = static_cast<size_t>(geometry.at(0)->tokens);
  std::vector<float> row(t, 0);
  row[0] = 1;
  for (size_t block = attention.size(); block-- > 0;) {
    std::vector<float> next = row;
    const auto& a = attention[block].data;
    for (size_t i = 0; i < a.size(); i++)
      next[i % t] += row[i / t % t] * a[i] / static_cast<float>(geometry[block]->heads);
    for (float& x : next) x *= 0.5f;
    row = std::move(next);
  }
  const int patches = forward.shapes()[graph.find(NodeKind::kWindow)].rows;
  return {row.end() - patches, row.end()};
}

PerturbationTest::PerturbationTest(const Graph& graph, const Weights& weights, int threads,
                                   float epsilon)
    : relevance_(graph, weights, threads, epsilon), pool_(threads), names_{"relevance"} {
  if (relevance_.rolls_out()) names_.push_back("attention rollout");
  names_.push_back("random");
  correct_.resize(names_.size() * kSteps);
  for (int i = 0; i < threads; i++)
    forward_.push_back(std::make_unique<Reference>(graph, weights, 1));
}

std::vector<PerturbationTest::Order> PerturbationTest::orders_of(Reference& forward,
                                                                 const Tensor& image,
                                                                 const std::vector<float>& heatmap,
                                                                 int64_t seed) const {
  std::vector<Order> orders = {descending(heatmap)};
  if (names_.size() == 3) orders.push_back(descending(attention_rollout(forward, image)));
  Order random = orders[0];
  std::sort(random.begin(), random.end());
  std::mt19937_64 generator(static_cast<uint64_t>(seed));
  for (size_t i = random.size(); i > 1; i--) std::swap(random[i - 1], random[generator() % i]);
  orders.push_back(std::move(random));
  return orders;
}

void PerturbationTest::test(Reference& forward, const Tensor& image, int label,
                            const std::vector<Order>& orders, std::vector<int64_t>& correct) const {
  const bool whole = predicted(forward.run(image), 0) == label;
  for (size_t o = 0; o < orders.size(); o++) {
    correct[o * kSteps] += whole;
    const Tensor logits = forward.run(without(relevance_.patches(), image, orders[o]));
    for (size_t step = 1; step < kSteps; step++)
      correct[o * kSteps + step] += predicted(logits, step - 1) == label;
  }
}

void PerturbationTest::add(const Tensor& images, const std::vector<int>& labels) {
  const auto count = static_cast<size_t>(images.dims[0]);
  const auto maps = relevance_.run(images, std::vector<int>(count, -1), true);
  std::vector<std::vector<int64_t>> correct(forward_.size(), std::vector<int64_t>(correct_.size()));
  pool_.run([&](int thread) {
    const auto own = static_cast<size_t>(thread);
    for (size_t i = own; i < count; i += forward_.size()) {
      const auto index = static_cast<int64_t>(i);
      const Tensor image = slice(images, index, 1);
      Reference& forward = *forward_[own];
      test(forward, image, labels[i], orders_of(forward, image, maps[i].heatmap, images_ + index),
           correct[own]);
    }
  });
  for (const auto& part : correct)
    for (size_t i = 0; i < part.size(); i++) correct_[i] += part[i];
  images_ += static_cast<int64_t>(count);
}

std::vector<PerturbationCurve> PerturbationTest::curves() const {
  std::vector<PerturbationCurve> out;
  for (size_t o = 0; o < names_.size(); o++) {
    PerturbationCurve curve{names_[o], {}, 0};
    for (size_t step = 0; step < kSteps; step++)
      curve.accuracy.push_back(ratio(correct_[o * kSteps + step], images_));
    for (size_t step = 1; step < kSteps; step++)
      curve.area += (curve.accuracy[step - 1] + curve.accuracy[step]) / 2 / kSteps;
    out.push_back(std::move(curve));
  }
  return out;
}

void write_curves(const std::vector<PerturbationCurve>& curves, int64_t images, int64_t skipped,
                  const std::string& path) {
  nlohmann::ordered_json document = {
      {"images", images}, {"skipped", skipped}, {"curves", nlohmann::json::array()}};
  for (const PerturbationCurve& c : curves)
    document["curves"].push_back({{"order", c.order}, {"accuracy", c.accuracy}, {"area", c.area}});
  write_file(path, document.dump(1) + "\n");
}

}  // namespace vitrun
