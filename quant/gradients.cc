#include "quant/gradients.h"

#include <atomic>
#include <cmath>
#include <functional>
#include <random>
#include <span>

#include "lrp/relevance.h"

namespace vitrun {
namespace {

// Called for every image and Linear with the gradient at its output, [rows, N]; from several
// threads, an image from one alone. A padded Swin map's last row is the padding's.
using See = std::function<void(int64_t image, int linear, std::span<const float> gradient)>;

std::vector<float> random_signs(int64_t image, size_t classes) {
  std::mt19937 random(static_cast<uint32_t>(image));
  std::vector<float> signs(classes);
  for (float& s : signs) s = random() & 1 ? 1.f : -1.f;
  return signs;
}

void walk_gradients(const FloatModel& model, const Tensor& images, int threads, const See& see) {
  const std::vector<Node>& nodes = model.graph.nodes;
  const RelevanceEngine walk(model.graph, model.weights, 1);
  std::atomic<int64_t> next{0};
  ThreadPool(threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t i; (i = next.fetch_add(1)) < images.dims[0];)
      walk.explain(
          forward, slice(images, i, 1), -1, false,
          [&](int node, const Flow& flow) {
            const Node& n = nodes[static_cast<size_t>(node)];
            const std::span<const float> gradient(flow.gradient);
            if (n.kind == NodeKind::kLinear) see(i, node, gradient);
            // The walk ends at ViT's tokens, whose last rows are the patch embedding's.
            if (n.kind == NodeKind::kTokens)
              see(i, n.in[0],
                  gradient.last(static_cast<size_t>(nodes[static_cast<size_t>(n.in[0])].size())));
          },
          random_signs(i, static_cast<size_t>(nodes.back().cols)));
  });
}

}  // namespace

std::map<int, std::vector<float>> token_gradients(const FloatModel& model, const Tensor& images,
                                                  int threads) {
  const std::vector<Node>& nodes = model.graph.nodes;
  const auto tokens_of = [&](int linear) {  // without padding
    return static_cast<size_t>(
        nodes[static_cast<size_t>(nodes[static_cast<size_t>(linear)].in[0])].rows);
  };
  std::map<int, std::vector<float>> norms;
  for (size_t i = 0; i < nodes.size(); i++)
    if (const int linear = static_cast<int>(i); nodes[i].kind == NodeKind::kLinear)
      norms[linear].resize(static_cast<size_t>(images.dims[0]) * tokens_of(linear));
  walk_gradients(model, images, threads,
                 [&](int64_t image, int linear, std::span<const float> gradient) {
                   const auto cols = static_cast<size_t>(nodes[static_cast<size_t>(linear)].cols);
                   const size_t tokens = tokens_of(linear);
                   float* to = norms.at(linear).data() + static_cast<size_t>(image) * tokens;
                   for (size_t i = 0; i < tokens; i++) {
                     double squares = 0;
                     for (float g : gradient.subspan(i * cols, cols))
                       squares += double{g} * double{g};
                     to[i] = static_cast<float>(std::sqrt(squares));
                   }
                 });
  return norms;
}

}  // namespace vitrun
