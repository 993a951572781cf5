#include "runtime/float/fake_quant.h"

#include <algorithm>
#include <cmath>

#include "kernels/pack.h"

namespace vitrun {
namespace {

Tensor dequantize(const QuantLinear& w, const Dims& dims) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.n) * static_cast<size_t>(w.k));
  unpack_codes(w.panels, w.n, w.k, w.bits, codes.data());
  Tensor out(dims);
  for (size_t i = 0; i < codes.size(); i++) {
    const size_t row = i / static_cast<size_t>(w.k);
    out.data[i] = w.scale[row] * static_cast<float>(codes[i] - (1 << (w.bits - 1)) - w.zero[row]);
  }
  return out;
}

float log_coded(float x, const SiteParams& p) {
  const float last = static_cast<float>(1 << p.bits);
  const float k = std::nearbyint(std::clamp(p.rate * std::log2(p.scale / x), 0.f, last));
  if (k == last) return 0;
  return p.scale * static_cast<float>(log_code_value(static_cast<int>(k), p.rate)) / 65535;
}

// As kernels.h, StepCodes.
float step_coded(float x, const StepCodes& s, float unit) {
  const float fine = std::nearbyint(std::min(x * s.fine_inverse, static_cast<float>(s.fine_codes)));
  if (fine < static_cast<float>(s.fine_codes))
    return unit * fine * static_cast<float>(s.fine_value);
  const float coarse =
      std::nearbyint(std::min(x * s.coarse_inverse, static_cast<float>(s.coarse_top)));
  return unit *
         std::max(coarse * static_cast<float>(s.coarse_value), static_cast<float>(s.fine_top));
}

float softmax_coded(float x, const SiteParams& p) {
  return p.twin == SiteParams::kLogCodes ? log_coded(x, p)
                                         : step_coded(x, step_codes(p), fixed_point_unit(p));
}

}  // namespace

UniformRounding::UniformRounding(const SiteParams& params)
    : quantizer_(params.quantizer()), scale_(params.scale) {
  if (params.levels.empty()) return;
  for (uint8_t level : level_table(params.levels))
    levels_.push_back(static_cast<float>(level - params.zero));
}

float UniformRounding::operator()(float x) const {
  const Quantizer& q = quantizer_;
  const float low = static_cast<float>(-q.zero), high = static_cast<float>(q.max_code - q.zero);
  const float v = x * q.inv_scale;
  const float code = v > low ? std::nearbyint(std::min(v, high)) : low;
  if (levels_.empty()) return scale_ * code;
  return scale_ * levels_[static_cast<size_t>(static_cast<int>(code) + q.zero)];
}

Weights dequantize_weights(const QuantModel& model) {
  Weights weights = model.params();
  const Graph& graph = model.graph();
  for (size_t i = 0; i < graph.nodes.size(); i++) {
    const Node& n = graph.nodes[i];
    if (n.kind != NodeKind::kLinear) continue;
    const QuantLinear& w = model.linear(static_cast<int>(i));
    weights[n.weight] = dequantize(w, {w.n, w.k});
    if (n.bias.empty()) continue;
    Tensor& bias = weights[n.bias] = Tensor({w.n});
    std::copy_n(w.bias.begin(), w.n, bias.data.begin());
  }
  return weights;
}

void fake_quantize(const Site& site, const SiteParams& params, Tensor& value) {
  if (!params.heads.empty()) {
    const int heads = static_cast<int>(params.heads.size());
    for (int head = 0; head < heads; head++) {
      const UniformRange of = params.of_head(head);
      fake_quantize(head_of(site, head, heads), {params.bits, of.scale, of.zero}, value);
    }
    return;
  }
  const UniformRounding uniform(params);
  const int64_t cols = value.dims[2];
  for (int64_t row = 0; row < value.dims[0] * value.dims[1]; row++)
    for (int64_t c = row * cols + site.begin; c < row * cols + site.end; c++) {
      float& x = value.data[static_cast<size_t>(c)];
      x = site.kind == CodeKind::kUniform ? uniform(x) : softmax_coded(x, params);
    }
}

Reference::Observer fake_quantizer(const QuantModel& model) {
  return [&model](int node, Tensor& value) {
    for (size_t i = 0; i < model.sites().size(); i++)
      if (model.sites()[i].node == node)
        fake_quantize(model.sites()[i], model.site_params()[i], value);
  };
}

}  // namespace vitrun
