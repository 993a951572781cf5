#include "quant/gradients.h"

#include <atomic>
#include <cmath>
#include <random>

namespace vitrun {
namespace {

std::vector<float> random_signs(int64_t seed, size_t classes) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<float> signs(classes);
  for (float& s : signs) s = random() & 1 ? 1.f : -1.f;
  return signs;
}

// |row| of each row of [norms, cols].
void row_norms(std::span<const float> values, std::span<float> norms) {
  const size_t cols = values.size() / norms.size();
  for (size_t i = 0; i < norms.size(); i++) {
    double squares = 0;
    for (float v : values.subspan(i * cols, cols)) squares += double{v} * double{v};
    norms[i] = static_cast<float>(std::sqrt(squares));
  }
}

}  // namespace

void GradientWalk::visit(Reference& forward, const Tensor& image, int64_t seed,
                         const Visitor& see) const {
  const std::vector<Node>& nodes = engine_.graph().nodes;
  const auto node = [&](int i) -> const Node& { return nodes[static_cast<size_t>(i)]; };
  const auto observe = [&](int at, const Flow& flow) {
    std::span<const float> gradient(flow.gradient);
    if (node(at).kind == NodeKind::kTokens) {  // whose last rows are the patch embedding's
      at = node(at).in[0];
      gradient = gradient.last(static_cast<size_t>(node(at).size()));
    }
    if (node(at).kind != NodeKind::kLinear) return;
    const int tokens = node(node(at).in[0]).rows;  // without the padding, the last row
    see(at, gradient.first(static_cast<size_t>(tokens) * static_cast<size_t>(node(at).cols)));
  };
  engine_.explain(forward, image, -1, false, observe,
                  random_signs(seed, static_cast<size_t>(nodes.back().cols)));
}

std::map<int, std::vector<float>> token_gradients(const FloatModel& model, const Tensor& images,
                                                  int threads) {
  const std::vector<Node>& nodes = model.graph.nodes;
  const auto tokens_of = [&](int linear) {
    const int input = nodes[static_cast<size_t>(linear)].in[0];
    return static_cast<size_t>(nodes[static_cast<size_t>(input)].rows);
  };
  const int64_t count = images.dims[0];
  std::map<int, std::vector<float>> norms;
  for (int i = 0; i < static_cast<int>(nodes.size()); i++)
    if (nodes[static_cast<size_t>(i)].kind == NodeKind::kLinear)
      norms[i].resize(static_cast<size_t>(count) * tokens_of(i));
  const GradientWalk walk(model);
  std::atomic<int64_t> next{0};
  ThreadPool(threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t image; (image = next.fetch_add(1)) < count;)
      walk.visit(
          forward, slice(images, image, 1), image,
          [&](int linear, std::span<const float> gradient) {
            const size_t tokens = tokens_of(linear);
            row_norms(
                gradient,
                std::span(norms.at(linear)).subspan(static_cast<size_t>(image) * tokens, tokens));
          });
  });
  return norms;
}

}  // namespace vitrun
