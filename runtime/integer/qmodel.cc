#include "runtime/integer/qmodel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "runtime/files/half.h"

namespace vitrun {
namespace {

Family family_of(const std::string& name, const std::string& where) {
  if (name == "vit") return Family::kVit;
  if (name == "swin") return Family::kSwin;
  fail(where, ": model.family is '", name, "', this version knows 'vit' and 'swin'");
}

std::vector<int> get_ints(const QbinFile& file, const std::string& key) {
  std::vector<int> out;
  for (int64_t v : file.get_i64s(key)) {
    if (v < INT32_MIN || v > INT32_MAX)
      fail(file.where(), ": ", key, " holds ", v, ", which no model has");
    out.push_back(static_cast<int>(v));
  }
  return out;
}

int get_int(const QbinFile& file, const std::string& key) {
  const int64_t v = file.get_i64(key);
  if (v < INT32_MIN || v > INT32_MAX)
    fail(file.where(), ": ", key, " is ", v, ", which no model has");
  return static_cast<int>(v);
}

void get_three(const QbinFile& file, const std::string& key, float* out) {
  const std::vector<double>& v = file.get_f64s(key);
  if (v.size() != 3) fail(file.where(), ": ", key, " has ", v.size(), " values instead of 3");
  std::copy(v.begin(), v.end(), out);
}

template <class T>
std::span<const T> elements(const QbinTensor& t) {
  return {reinterpret_cast<const T*>(t.bytes.data()), t.bytes.size() / sizeof(T)};
}

template <class To, class From>
std::vector<To> padded(std::span<const From> v, size_t size) {
  std::vector<To> out(v.begin(), v.end());
  out.resize(size);
  return out;
}

void check_scale(const std::string& at, double scale, int64_t zero) {
  if (!std::isnormal(static_cast<float>(scale)) || scale < 0)
    fail(at, "scale is ", scale, ", expected a positive number");
  if (zero < kMinZero || zero > kMaxZero)
    fail(at, "zero point is ", zero, ", expected ", kMinZero, " to ", kMaxZero);
}

}  // namespace

std::vector<uint8_t> level_table(const std::vector<LevelRun>& levels) {
  std::vector<uint8_t> table;
  for (size_t i = 0; i < levels.size(); i++)
    table.resize(i + 1 < levels.size() ? levels[i + 1].first : 256, levels[i].level);
  return table;
}

// A coarse step is 2^this units, so that all values stay below 2^16.
static int coarse_shift(const SiteParams& site) {
  return site.twin > 0 ? 17 - site.bits : 16 - site.bits;
}

StepCodes step_codes(const SiteParams& site) {
  const int half = 1 << (site.bits - 1), coarse = 1 << coarse_shift(site);
  if (site.twin == 0) return {0, 1 / site.scale, 0, 2 * half - 1, 0, coarse, 0};
  const int fine = coarse >> site.twin;
  return {std::ldexp(1 / site.scale, site.twin),
          1 / site.scale,
          half,
          half - 1,
          fine,
          coarse,
          (half - 1) * fine};
}

float fixed_point_unit(const SiteParams& site) {
  return site.twin == SiteParams::kLogCodes ? site.scale / 65535
                                            : std::ldexp(site.scale, -coarse_shift(site));
}

ModelConfig get_config(const QbinFile& file) {
  ModelConfig c;
  c.arch = file.get_string("model.arch");
  c.family = family_of(file.get_string("model.family"), file.where());
  const std::vector<int> size = get_ints(file, "model.image_size");
  if (size.size() != 2)
    fail(file.where(), ": model.image_size has ", size.size(), " values instead of 2");
  c.image_height = size[0];
  c.image_width = size[1];
  c.patch = get_int(file, "model.patch");
  c.num_classes = get_int(file, "model.num_classes");
  c.norm_eps = static_cast<float>(file.get_f64("model.norm_eps"));
  c.qkv_bias = file.get_i64("model.qkv_bias") != 0;
  c.embed_dim = get_int(file, "model.embed_dim");
  c.mlp_hidden = get_int(file, "model.mlp_hidden");
  c.pixel_patches = file.has("model.pixel_patches") && file.get_i64("model.pixel_patches") != 0;
  if (file.has("model.mlp_extra")) c.mlp_extra = get_ints(file, "model.mlp_extra");
  c.depths = get_ints(file, "model.depths");
  c.heads = get_ints(file, "model.heads");
  if (c.family == Family::kVit) {
    c.class_token = file.get_i64("model.class_token") != 0;
    c.distilled = file.get_i64("model.distilled") != 0;
    c.pos_embed_has_prefix = file.get_i64("model.pos_embed_has_prefix") != 0;
  } else {
    c.window = get_int(file, "model.window");
  }
  PreprocessConfig& p = c.preprocess;
  const std::string& resize = file.get_string("preprocess.resize");
  if (resize != "bicubic" && resize != "bilinear")
    fail(file.where(), ": preprocess.resize is '", resize,
         "', this version knows 'bicubic' and 'bilinear'");
  p.resize = resize == "bicubic" ? PreprocessConfig::Resize::kBicubic
                                 : PreprocessConfig::Resize::kBilinear;
  p.squash = file.get_i64("preprocess.squash") != 0;
  p.crop_pct = static_cast<float>(file.get_f64("preprocess.crop_pct"));
  get_three(file, "preprocess.mean", p.mean);
  get_three(file, "preprocess.std", p.std);
  if (file.has("labels")) c.labels = file.get_strings("labels");
  return c;
}

QuantModel::QuantModel(QbinFile file) : file_(std::move(file)) {
  try {
    graph_ = build_graph(get_config(file_));
  } catch (const Error& e) {
    const std::string what = e.what();
    throw Error(what.starts_with(file_.where()) ? what : cat(file_.where(), ": ", what));
  }
  sites_ = activation_sites(graph_);
  read_sites();
  std::map<std::string, const Param*> linear_params;
  for (size_t i = 0; i < graph_.nodes.size(); i++) {
    Node& n = graph_.nodes[i];
    if (n.kind == NodeKind::kLayerScale)
      fail(file_.where(), ": LayerScale must be folded before quantization");
    if (n.kind == NodeKind::kLinear) read_linear(static_cast<int>(i), n);
  }
  for (const Param& p : graph_.params) {
    auto of_linear = [&](const Node& n) {
      return n.kind == NodeKind::kLinear && (p.name == n.weight || p.name == n.bias);
    };
    if (std::none_of(graph_.nodes.begin(), graph_.nodes.end(), of_linear))
      params_[p.name] = read_floats(p.name, p.dims);
  }
}

const SiteParams& QuantModel::site(int consumer, int i) const {
  for (size_t s = 0; s < sites_.size(); s++)
    if (sites_[s].consumer == consumer) return site_params_[s + static_cast<size_t>(i)];
  fail("node '", graph_.nodes[static_cast<size_t>(consumer)].name, "' reads no codes");
}

void QuantModel::read_sites() {
  const auto& names = file_.get_strings("site.name");
  const auto& bits = file_.get_i64s("site.bits");
  const auto& scales = file_.get_f64s("site.scale");
  const auto& zeros = file_.get_i64s("site.zero");
  const size_t count = sites_.size();
  const std::vector<double> rates =
      file_.has("site.rate") ? file_.get_f64s("site.rate") : std::vector<double>(count, 2);
  const std::vector<int64_t> twins = file_.has("site.twin")
                                         ? file_.get_i64s("site.twin")
                                         : std::vector<int64_t>(count, SiteParams::kLogCodes);
  if (names.size() != count || bits.size() != count || scales.size() != count ||
      zeros.size() != count || rates.size() != count || twins.size() != count)
    fail(file_.where(), ": site.name, bits, scale, zero, rate and twin hold ", names.size(), ", ",
         bits.size(), ", ", scales.size(), ", ", zeros.size(), ", ", rates.size(), " and ",
         twins.size(), " values, the model has ", count, " activation sites");
  for (size_t i = 0; i < count; i++) {
    const std::string at = cat(file_.where(), ": site '", sites_[i].name, "': ");
    const float scale = static_cast<float>(scales[i]);
    if (names[i] != sites_[i].name) fail(at, "the file has '", names[i], "' in its place");
    if (bits[i] < kMinBits || bits[i] > kMaxBits)
      fail(at, "bits are ", bits[i], ", expected 3 to 8");
    check_scale(at, scales[i], zeros[i]);
    if (!(rates[i] >= double{kMinLogRate} && rates[i] <= double{kMaxLogRate}))
      fail(at, "rate is ", rates[i], ", expected ", kMinLogRate, " to ", kMaxLogRate);
    const int widest = most_twin(static_cast<int>(bits[i]));
    if (twins[i] < SiteParams::kLogCodes || twins[i] > widest)
      fail(at, "twin is ", twins[i], ", expected -1 to ", widest);
    site_params_.push_back({static_cast<int>(bits[i]), scale, static_cast<int>(zeros[i]),
                            static_cast<float>(rates[i]), static_cast<int>(twins[i]),
                            read_levels(sites_[i], static_cast<int>(bits[i])),
                            read_heads(sites_[i])});
  }
}

std::vector<LevelRun> QuantModel::read_levels(const Site& site, int bits) const {
  const Node& reader = graph_.nodes[static_cast<size_t>(site.consumer)];
  if (reader.kind != NodeKind::kLinear) return {};
  const QbinTensor* t = file_.find(reader.name + ".input_levels");
  if (!t) return {};
  const std::string at = cat(file_.where(), ": tensor '", t->name, "' ");
  if (t->dtype != DType::kU8 || t->dims.size() != 2 || t->dims[1] != 2)
    fail(at, "has the wrong type or shape, expected U8 [levels, 2]");
  if (t->dims[0] > int64_t{1} << bits)
    fail(at, "holds ", t->dims[0], " levels, ", bits, " bits tell ", 1 << bits, " apart");
  std::vector<LevelRun> levels;
  for (size_t i = 0; i < t->bytes.size(); i += 2) {
    levels.push_back({t->bytes[i], t->bytes[i + 1]});
    if (i ? t->bytes[i] <= t->bytes[i - 2] || t->bytes[i + 1] <= t->bytes[i - 1] : t->bytes[i] != 0)
      fail(at, "does not ascend from code 0 at run ", i / 2);
  }
  return levels;
}

std::vector<UniformRange> QuantModel::read_heads(const Site& site) const {
  const Node& reader = graph_.nodes[static_cast<size_t>(site.consumer)];
  const Node& qkv = graph_.nodes[static_cast<size_t>(site.node)];
  if (reader.attention < 0 || qkv.kind != NodeKind::kLinear) return {};
  const QbinTensor* scales = file_.find(qkv.name + ".head_scale");
  const QbinTensor* zeros = file_.find(qkv.name + ".head_zero");
  if (!scales && !zeros) return {};
  const int64_t count = graph_.attention[static_cast<size_t>(reader.attention)].heads;
  const auto fits = [&](const QbinTensor* t, DType type) {
    return t && t->dtype == type && t->dims == Dims{3, count};
  };
  const auto shape = [](const QbinTensor* t) { return t ? to_string(t->dims) : "missing"; };
  if (!fits(scales, DType::kF32) || !fits(zeros, DType::kI16))
    fail(file_.where(), ": '", qkv.name, "': head_scale is ", shape(scales), ", head_zero ",
         shape(zeros), ", expected F32 and I16 of [3, ", count, "]");
  const auto first = static_cast<size_t>(site.begin / (qkv.cols / 3)) * static_cast<size_t>(count);
  std::vector<UniformRange> heads;
  for (size_t i = first; i < first + static_cast<size_t>(count); i++) {
    const UniformRange of{elements<float>(*scales)[i], elements<int16_t>(*zeros)[i]};
    check_scale(cat(file_.where(), ": '", qkv.name, "', head ", i - first, ": "), double{of.scale},
                of.zero);
    heads.push_back(of);
  }
  return heads;
}

void QuantModel::read_linear(int index, Node& node) {
  auto need = [&](const std::string& name) -> const QbinTensor& {
    const QbinTensor* t = file_.find(name);
    if (!t) fail(file_.where(), ": tensor '", name, "' is missing");
    return *t;
  };
  auto expect = [&](const QbinTensor& t, bool type_fits, const char* types, const Dims& dims) {
    if (!type_fits)
      fail(file_.where(), ": tensor '", t.name, "' has the wrong type, expected ", types);
    if (t.dims != dims)
      fail(file_.where(), ": tensor '", t.name, "' is ", to_string(t.dims), ", the model needs ",
           to_string(dims));
  };
  const int64_t n = node.cols;
  const Node& in = graph_.nodes[static_cast<size_t>(node.in[0])];
  if (in.cols > kMaxDepth)
    fail(file_.where(), ": '", node.name, "' has depth ", in.cols, ", at most ", kMaxDepth);

  const QbinTensor& weight = need(node.name + ".weight");
  const QbinTensor& scale = need(node.name + ".weight_scale");
  const QbinTensor& zero = need(node.name + ".weight_zero");
  const QbinTensor& sum = need(node.name + ".weight_sum");
  expect(weight, weight.dtype == DType::kPacked, "packed codes", {n, in.cols});
  expect(scale, scale.dtype == DType::kF32, "F32", {n});
  expect(zero, zero.dtype == DType::kI8, "I8", {n});
  expect(sum, sum.dtype == DType::kI16 || sum.dtype == DType::kI32, "I16 or I32", {n});

  QuantLinear w;
  w.n = node.cols;
  w.k = in.cols;
  w.bits = weight.bits;
  w.panels = weight.bytes.data();
  const size_t size = static_cast<size_t>(round_up(w.n, kColumns));
  w.scale = padded<float>(elements<float>(scale), size);
  w.zero = padded<int32_t>(elements<int8_t>(zero), size);
  w.sum = sum.dtype == DType::kI16 ? padded<int32_t>(elements<int16_t>(sum), size)
                                   : padded<int32_t>(elements<int32_t>(sum), size);
  for (int64_t c = 0; c < n; c++) {
    const float s = w.scale[static_cast<size_t>(c)];
    if (!std::isnormal(s) || s < 0)
      fail(file_.where(), ": tensor '", scale.name, "' holds ", s, " at ", c,
           ", expected a positive number");
    const int64_t most = int64_t{w.k} << (w.bits - 1);
    if (std::abs(int64_t{w.sum[static_cast<size_t>(c)]}) > most)
      fail(file_.where(), ": tensor '", sum.name, "' holds ", w.sum[static_cast<size_t>(c)], " at ",
           c, ", no sum of ", w.k, " codes of ", w.bits, " bits");
  }
  if (const std::string bias = node.name + ".bias"; !node.bias.empty() || file_.find(bias)) {
    node.bias = bias;
    w.bias = read_floats(bias, {n}).data;
  }
  w.bias.resize(size);
  linears_[index] = std::move(w);
}

Tensor QuantModel::read_floats(const std::string& name, const Dims& dims) const {
  const QbinTensor* t = file_.find(name);
  if (!t) fail(file_.where(), ": tensor '", name, "' is missing");
  if (t->dtype != DType::kF32 && t->dtype != DType::kF16)
    fail(file_.where(), ": tensor '", name, "' has the wrong type, expected F32 or F16");
  if (t->dims != dims)
    fail(file_.where(), ": tensor '", name, "' is ", to_string(t->dims), ", the model needs ",
         to_string(dims));
  Tensor out(dims);
  if (t->dtype == DType::kF32)
    std::memcpy(out.data.data(), t->bytes.data(), t->bytes.size());
  else
    std::transform(elements<uint16_t>(*t).begin(), elements<uint16_t>(*t).end(), out.data.begin(),
                   half_to_float);
  for (float v : out.data)
    if (!std::isfinite(v)) fail(file_.where(), ": tensor '", name, "' holds ", v);
  return out;
}

}  // namespace vitrun
