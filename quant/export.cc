#include "quant/export.h"

#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "runtime/files/half.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {
namespace {

template <class T>
std::span<const uint8_t> bytes_of(const std::vector<T>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(T)};
}

void add_f32(QbinWriter& out, const std::string& name, const Tensor& t) {
  out.add(name, DType::kF32, 0, t.dims, bytes_of(t.data));
}

// Biases, position embeddings and bias tables add to sums: half precision costs them 2^-11 of their
// own size. Kept in float where a value leaves the range of a half.
void add_f16(QbinWriter& out, const std::string& name, const Tensor& t) {
  if (std::any_of(t.data.begin(), t.data.end(), [](float x) { return std::fabs(x) > 65504; }))
    return add_f32(out, name, t);
  std::vector<uint16_t> half(t.data.size());
  std::transform(t.data.begin(), t.data.end(), half.begin(), float_to_half);
  out.add(name, DType::kF16, 0, t.dims, bytes_of(half));
}

void add_weight(QbinWriter& out, const std::string& node, const WeightCodes& w) {
  std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(w.n, w.k, w.bits)));
  pack_codes(w.codes.data(), w.n, w.k, w.bits, panels.data());
  std::vector<int32_t> sums(static_cast<size_t>(w.n));
  sum_columns(w.codes.data(), w.n, w.k, w.bits, sums.data());
  std::vector<float> scales;
  std::vector<int8_t> zeros;
  for (const UniformRange& r : w.ranges) {
    scales.push_back(r.scale);
    zeros.push_back(static_cast<int8_t>(r.zero - (1 << (w.bits - 1))));
  }
  out.add(node + ".weight", DType::kPacked, w.bits, {w.n, w.k}, panels);
  out.add(node + ".weight_scale", DType::kF32, 0, {w.n}, bytes_of(scales));
  out.add(node + ".weight_zero", DType::kI8, 0, {w.n}, bytes_of(zeros));
  const bool small =
      std::all_of(sums.begin(), sums.end(), [](int32_t s) { return s == static_cast<int16_t>(s); });
  if (small)
    out.add(node + ".weight_sum", DType::kI16, 0, {w.n},
            bytes_of(std::vector<int16_t>(sums.begin(), sums.end())));
  else
    out.add(node + ".weight_sum", DType::kI32, 0, {w.n}, bytes_of(sums));
}

// Which of the 8-bit codes each Linear's input has, where it does not have all.
void add_levels(QbinWriter& out, const Graph& graph, const std::vector<SiteRange>& ranges) {
  const std::vector<Site> sites = activation_sites(graph);
  for (size_t i = 0; i < sites.size(); i++)
    if (const auto& levels = ranges[i].levels; !levels.empty())
      out.add(graph.nodes[static_cast<size_t>(sites[i].consumer)].name + ".input_levels",
              DType::kU8, 0, {static_cast<int64_t>(levels.size()), 2}, bytes_of(levels));
}

// Scale and zero point of each head of q, k and v, where heads have their own.
void add_heads(QbinWriter& out, const Graph& graph, const std::vector<SiteRange>& ranges) {
  const std::vector<Site> sites = activation_sites(graph);
  std::map<int, std::vector<UniformRange>> by_qkv;  // in the order q, k, v, as sites are
  for (size_t i = 0; i < sites.size(); i++) {
    auto& heads = by_qkv[sites[i].node];
    heads.insert(heads.end(), ranges[i].heads.begin(), ranges[i].heads.end());
  }
  for (const auto& [node, heads] : by_qkv) {
    if (heads.empty()) continue;
    std::vector<float> scales;
    std::vector<int16_t> zeros;
    for (const UniformRange& h : heads) {
      scales.push_back(h.scale);
      zeros.push_back(static_cast<int16_t>(h.zero));
    }
    const Dims dims{3, static_cast<int64_t>(heads.size() / 3)};
    const std::string& name = graph.nodes[static_cast<size_t>(node)].name;
    out.add(name + ".head_scale", DType::kF32, 0, dims, bytes_of(scales));
    out.add(name + ".head_zero", DType::kI16, 0, dims, bytes_of(zeros));
  }
}

void put_config(QbinWriter& out, const ModelConfig& c) {
  auto flag = [](bool b) { return int64_t{b}; };
  out.set("model.arch", c.arch);
  out.set("model.family", std::string(c.family == Family::kVit ? "vit" : "swin"));
  out.set("model.image_size", std::vector<int64_t>{c.image_height, c.image_width});
  out.set("model.patch", int64_t{c.patch});
  out.set("model.num_classes", int64_t{c.num_classes});
  out.set("model.norm_eps", double{c.norm_eps});
  out.set("model.qkv_bias", flag(c.qkv_bias));
  out.set("model.embed_dim", int64_t{c.embed_dim});
  out.set("model.mlp_hidden", int64_t{c.mlp_hidden});
  if (c.pixel_patches) out.set("model.pixel_patches", flag(true));
  if (!c.mlp_extra.empty())
    out.set("model.mlp_extra", std::vector<int64_t>(c.mlp_extra.begin(), c.mlp_extra.end()));
  out.set("model.depths", std::vector<int64_t>(c.depths.begin(), c.depths.end()));
  out.set("model.heads", std::vector<int64_t>(c.heads.begin(), c.heads.end()));
  if (c.family == Family::kVit) {
    out.set("model.class_token", flag(c.class_token));
    out.set("model.distilled", flag(c.distilled));
    out.set("model.pos_embed_has_prefix", flag(c.pos_embed_has_prefix));
  } else {
    out.set("model.window", int64_t{c.window});
  }
  const PreprocessConfig& p = c.preprocess;
  out.set("preprocess.resize",
          std::string(p.resize == PreprocessConfig::Resize::kBicubic ? "bicubic" : "bilinear"));
  out.set("preprocess.squash", flag(p.squash));
  out.set("preprocess.crop_pct", double{p.crop_pct});
  out.set("preprocess.mean", std::vector<double>(p.mean, p.mean + 3));
  out.set("preprocess.std", std::vector<double>(p.std, p.std + 3));
  if (!c.labels.empty()) out.set("labels", c.labels);
}

void put_sites(QbinWriter& out, const std::vector<Site>& sites,
               const std::vector<SiteRange>& ranges) {
  std::vector<std::string> names;
  std::vector<int64_t> bits, zeros, twins;
  std::vector<double> scales, rates;
  for (size_t i = 0; i < sites.size(); i++) {
    names.push_back(sites[i].name);
    bits.push_back(ranges[i].bits);
    scales.push_back(ranges[i].range.scale);
    zeros.push_back(ranges[i].range.zero);
    rates.push_back(double{ranges[i].rate});
    twins.push_back(ranges[i].twin);
  }
  out.set("site.name", names);
  out.set("site.bits", bits);
  out.set("site.scale", scales);
  out.set("site.zero", zeros);
  if (std::any_of(rates.begin(), rates.end(), [](double r) { return r != 2; }))
    out.set("site.rate", rates);  // absent: 2
  if (std::any_of(twins.begin(), twins.end(), [](int64_t t) { return t >= 0; }))
    out.set("site.twin", twins);  // absent: -1
}

}  // namespace

QbinWriter export_model(const FloatModel& model, const std::map<std::string, WeightCodes>& weights,
                        const std::vector<SiteRange>& ranges,
                        const std::map<std::string, QbinValue>& recipe) {
  QbinWriter out;
  put_config(out, model.config);
  put_sites(out, activation_sites(model.graph), ranges);
  for (const auto& [key, value] : recipe) out.set("recipe." + key, value);
  std::map<std::string, const Node*> reader;  // of each parameter
  for (const Node& n : model.graph.nodes)
    for (const std::string* p : {&n.weight, &n.bias})
      if (!p->empty()) reader[*p] = &n;
  for (const Param& p : model.graph.params) {
    const Tensor& t = model.weights.at(p.name);
    const Node* n = reader.contains(p.name) ? reader.at(p.name) : nullptr;  // class tokens: none
    if (n && n->kind == NodeKind::kLinear && p.name == n->weight)
      add_weight(out, n->name, weights.at(n->name));
    else if (n && n->kind == NodeKind::kLayerNorm)
      add_f32(out, p.name, t);  // gamma scales: its relative error matters
    else
      add_f16(out, p.name, t);
  }
  add_levels(out, model.graph, ranges);
  add_heads(out, model.graph, ranges);
  return out;
}

}  // namespace vitrun
