#include "quant/reparam.h"

namespace vitrun {
namespace {

// Scales the rows of a Linear's weight [N, K] and its bias [N] by gamma [N].
void scale_rows(Tensor& weight, Tensor& bias, const std::vector<float>& gamma) {
  const size_t n = gamma.size(), k = weight.data.size() / n;
  for (size_t i = 0; i < n; i++) {
    bias.data[i] *= gamma[i];
    for (size_t j = 0; j < k; j++) weight.data[i * k + j] *= gamma[i];
  }
}

}  // namespace

void fold_layer_scale(FloatModel& model) {
  if (!model.config.layer_scale) return;
  for (const Node& n : model.graph.nodes) {
    if (n.kind != NodeKind::kLayerScale) continue;
    const Node& linear = model.graph.nodes[static_cast<size_t>(n.in[0])];
    scale_rows(model.weights.at(linear.weight), model.weights.at(linear.bias),
               model.weights.at(n.weight).data);
    model.weights.erase(n.weight);
  }
  model.config.layer_scale = false;
  model.graph = build_graph(model.config);
}

}  // namespace vitrun
