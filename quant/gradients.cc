#include "quant/gradients.h"

#include <atomic>
#include <cmath>
#include <random>
#include <span>

#include "lrp/relevance.h"

namespace vitrun {
namespace {

std::vector<float> random_signs(int64_t image, size_t classes) {
  std::mt19937 random(static_cast<uint32_t>(image));
  std::vector<float> signs(classes);
  for (float& s : signs) s = random() & 1 ? 1.f : -1.f;
  return signs;
}

// |row| of the first rows of [.., cols], as many as `norms` holds.
void row_norms(std::span<const float> values, size_t cols, std::span<float> norms) {
  for (size_t i = 0; i < norms.size(); i++) {
    double squares = 0;
    for (float v : values.subspan(i * cols, cols)) squares += double{v} * double{v};
    norms[i] = static_cast<float>(std::sqrt(squares));
  }
}

}  // namespace

std::map<int, std::vector<float>> token_gradients(const FloatModel& model, const Tensor& images,
                                                  int threads) {
  const std::vector<Node>& nodes = model.graph.nodes;
  const auto node = [&](int i) -> const Node& { return nodes[static_cast<size_t>(i)]; };
  const auto tokens_of = [&](int linear) {  // without the padding of a Swin map, the last row
    return static_cast<size_t>(node(node(linear).in[0]).rows);
  };
  const int64_t count = images.dims[0];
  std::map<int, std::vector<float>> norms;
  for (int i = 0; i < static_cast<int>(nodes.size()); i++)
    if (node(i).kind == NodeKind::kLinear)
      norms[i].resize(static_cast<size_t>(count) * tokens_of(i));
  const RelevanceEngine walk(model.graph, model.weights, 1);
  std::atomic<int64_t> next{0};
  ThreadPool(threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t image; (image = next.fetch_add(1)) < count;) {
      const auto see = [&](int at, const Flow& flow) {
        std::span<const float> gradient(flow.gradient);
        if (node(at).kind == NodeKind::kTokens) {  // whose last rows are the patch embedding's
          at = node(at).in[0];
          gradient = gradient.last(static_cast<size_t>(node(at).size()));
        }
        if (node(at).kind != NodeKind::kLinear) return;
        const size_t tokens = tokens_of(at);
        row_norms(gradient, static_cast<size_t>(node(at).cols),
                  std::span(norms.at(at)).subspan(static_cast<size_t>(image) * tokens, tokens));
      };
      walk.explain(forward, slice(images, image, 1), -1, false, see,
                   random_signs(image, static_cast<size_t>(nodes.back().cols)));
    }
  });
  return norms;
}

}  // namespace vitrun
