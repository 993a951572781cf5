#include "quant/export.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "models/base/error.h"
#include "quant/quantized_graph.h"
#include "runtime/files/coded_weight.h"
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

// Stores t in half precision, or in float where a value leaves the range of a half. It is for
// biases, position embeddings and bias tables, which are added to sums: half precision costs 2^-11
// of their own size.
void add_f16(QbinWriter& out, const std::string& name, const Tensor& t) {
  if (std::any_of(t.data.begin(), t.data.end(), [](float x) { return std::fabs(x) > 65504; }))
    return add_f32(out, name, t);
  std::vector<uint16_t> half(t.data.size());
  std::transform(t.data.begin(), t.data.end(), half.begin(), float_to_half);
  out.add(name, DType::kF16, 0, t.dims, bytes_of(half));
}

// Stores codes in about as many bits as their entropy, with the step that all rows share.
void add_coded(QbinWriter& out, const std::string& name, const WeightCodes& w) {
  out.add(name, DType::kCoded, w.bits, {w.n, w.k}, encode_weight(w.codes));
  out.add(name + "_scale", DType::kF32, 0, {1}, bytes_of(std::vector<float>{w.ranges[0].scale}));
}

void add_weight(QbinWriter& out, const std::string& name, const WeightCodes& w) {
  if (w.coded) return add_coded(out, name, w);
  std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(w.n, w.k, w.bits)));
  pack_codes(w.codes.data(), w.n, w.k, w.bits, panels.data());
  std::vector<int32_t> sums(w.ranges.size());
  sum_columns(w.codes.data(), w.n, w.k, w.bits, sums.data());
  std::vector<float> scales;
  std::vector<int8_t> zeros;
  for (const UniformRange& r : w.ranges) {
    scales.push_back(r.scale);
    zeros.push_back(static_cast<int8_t>(r.zero - (1 << (w.bits - 1))));
  }
  out.add(name, DType::kPacked, w.bits, {w.n, w.k}, panels);
  out.add(name + "_scale", DType::kF32, 0, {w.n}, bytes_of(scales));
  out.add(name + "_zero", DType::kI8, 0, {w.n}, bytes_of(zeros));
  const bool small =
      std::all_of(sums.begin(), sums.end(), [](int32_t s) { return s == static_cast<int16_t>(s); });
  if (small)
    out.add(name + "_sum", DType::kI16, 0, {w.n},
            bytes_of(std::vector<int16_t>(sums.begin(), sums.end())));
  else
    out.add(name + "_sum", DType::kI32, 0, {w.n}, bytes_of(sums));
}

void put_info(QbinWriter& out, const ModelInfo& info) {
  out.set("model.arch", info.arch);
  const PreprocessConfig& p = info.preprocess;
  out.set("preprocess.resize",
          std::string(p.resize == PreprocessConfig::Resize::kBicubic ? "bicubic" : "bilinear"));
  out.set("preprocess.squash", int64_t{p.squash});
  if (p.floor_crop) out.set("preprocess.floor_crop", int64_t{1});
  out.set("preprocess.crop_pct", double{p.crop_pct});
  out.set("preprocess.mean", std::vector<double>(p.mean, p.mean + 3));
  out.set("preprocess.std", std::vector<double>(p.std, p.std + 3));
  if (!info.labels.empty()) out.set("labels", info.labels);
}

// Stores a parameter of a node that is not a Linear. Parameters that are added are halves; those
// that multiply stay float, which keeps their relative precision.
void add_param(QbinWriter& out, const Node& n, const std::string& name, const Tensor& t) {
  if (n.kind == NodeKind::kQuantize && name == n.weight)
    out.add(name, DType::kU8, 0, t.dims, std::vector<uint8_t>(t.data.begin(), t.data.end()));
  else if (n.kind == NodeKind::kConst || n.kind == NodeKind::kSoftmax ||
           n.kind == NodeKind::kUnwindow)
    add_f16(out, name, t);
  else
    add_f32(out, name, t);
}

}  // namespace

QbinWriter export_model(const FloatModel& model, const std::map<std::string, WeightCodes>& weights,
                        const std::vector<SiteRange>& ranges,
                        const std::map<std::string, QbinValue>& recipe) {
  QbinWriter out;
  put_info(out, model.info);
  for (const auto& [key, value] : recipe) out.set("recipe." + key, value);
  std::vector<CodeParams> params;
  for (const SiteRange& r : ranges) params.push_back(r.params());
  QuantizedGraph quantized = insert_quantizers(model.graph, activation_sites(model.graph), params);
  std::set<std::string> added;
  const std::vector<std::vector<int>> readers = quantized.graph.readers();
  for (int i = 0; i < quantized.graph.size(); i++) {
    Node& n = quantized.graph[i];
    const auto has_range = [&](int reader) {
      return quantized.graph.is(reader, NodeKind::kQuantize) &&
             !quantized.graph[reader].has(Attribute::kCodeGroup);
    };
    if (n.kind == NodeKind::kAct && activation_of(n.act()) &&
        std::ranges::all_of(at(readers, i), has_range))
      n.attributes.erase(Attribute::kLimit);  // the codes' range ends at the limit, and clips there
    if (n.kind == NodeKind::kLinear) {
      add_weight(out, n.weight, weights.at(n.name));
      if (!n.bias.empty()) add_f16(out, n.bias, model.weights.at(n.bias));
      continue;
    }
    for (const std::string& name : {n.weight, n.bias}) {
      if (name.empty() || !added.insert(name).second) continue;
      const auto found = quantized.quantizers.find(name);
      add_param(out, n, name,
                found == quantized.quantizers.end() ? model.weights.at(name) : found->second);
    }
  }
  out.add("main", std::move(quantized.graph));
  return out;
}

}  // namespace vitrun
