#include "runtime/integer/qmodel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "runtime/detect/detector_section.h"
#include "runtime/files/coded_weight.h"
#include "runtime/files/half.h"

namespace vitrun {
namespace {

constexpr int64_t kMaxColumns = 1 << 22;  // of a graph's Linears, which may share a weight

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

const QbinTensor& need(const QbinFile& file, const std::string& name) {
  const QbinTensor* t = file.find(name);
  if (!t) fail("tensor '", name, "' is missing");
  return *t;
}

void expect(const QbinTensor& t, bool type_fits, const char* types, const Dims& dims) {
  if (!type_fits) fail("tensor '", t.name, "' has the wrong type, expected ", types);
  if (t.dims != dims)
    fail("tensor '", t.name, "' is ", to_string(t.dims), ", the model needs ", to_string(dims));
}

Tensor read_floats(const QbinTensor& t, bool bytes_allowed = false) {
  if (t.dtype != DType::kF32 && t.dtype != DType::kF16 && !(bytes_allowed && t.dtype == DType::kU8))
    fail("tensor '", t.name, "' has the wrong type, expected F32 or F16");
  Tensor out(t.dims);
  if (t.dtype == DType::kF32)
    std::memcpy(out.data.data(), t.bytes.data(), t.bytes.size());
  else if (t.dtype == DType::kU8)
    std::copy(t.bytes.begin(), t.bytes.end(), out.data.begin());
  else
    std::ranges::transform(elements<uint16_t>(t), out.data.begin(), half_to_float);
  for (float v : out.data)
    if (!std::isfinite(v)) fail("tensor '", t.name, "' holds ", double{v});
  return out;
}

void get_three(const QbinFile& file, const std::string& key, float* out) {
  const std::vector<double>& v = file.get_f64s(key);
  if (v.size() != 3) fail(file.where(), ": ", key, " has ", v.size(), " values instead of 3");
  std::copy(v.begin(), v.end(), out);
}

ModelInfo read_info(const QbinFile& file) {
  ModelInfo info;
  info.arch = file.get_string("model.arch");
  PreprocessConfig& p = info.preprocess;
  const std::string& resize = file.get_string("preprocess.resize");
  if (resize != "bicubic" && resize != "bilinear")
    fail("preprocess.resize is '", resize, "', this version knows 'bicubic' and 'bilinear'");
  p.resize = resize == "bicubic" ? PreprocessConfig::Resize::kBicubic
                                 : PreprocessConfig::Resize::kBilinear;
  p.squash = file.get_i64("preprocess.squash") != 0;
  p.floor_crop = file.get_i64("preprocess.floor_crop", 0) != 0;
  p.crop_pct = static_cast<float>(file.get_f64("preprocess.crop_pct"));
  get_three(file, "preprocess.mean", p.mean);
  get_three(file, "preprocess.std", p.std);
  if (file.has("labels")) info.labels = file.get_strings("labels");
  return info;
}

// Decodes the codes of a weight into panels, 16 columns at a time, and sums the columns.
std::shared_ptr<const std::vector<PanelLine>> decode_panels(const QbinTensor& weight,
                                                            std::vector<int32_t>& sum) {
  const int n = static_cast<int>(weight.dims[0]), k = static_cast<int>(weight.dims[1]);
  const int64_t panel = pack_bytes(kColumns, k, weight.bits);
  auto out = std::make_shared<std::vector<PanelLine>>(
      static_cast<size_t>(pack_bytes(n, k, weight.bits)) / sizeof(PanelLine));
  std::vector<uint8_t> codes(array_size(kColumns, k));
  try {
    WeightDecoder decoder(weight.bytes, weight.bits);
    for (int c = 0; c < n; c += kColumns) {
      const int columns = std::min(kColumns, n - c);
      decoder.read(std::span(codes).first(array_size(columns, k)));
      pack_codes(codes.data(), columns, k, weight.bits,
                 reinterpret_cast<uint8_t*>(out->data()) + c / kColumns * panel);
      sum_columns(codes.data(), columns, k, weight.bits, &at(sum, c));
    }
    decoder.finish();
  } catch (const Error& e) {
    fail("tensor '", weight.name, "': ", e.what());
  }
  return out;
}

// Takes the size of images and the number of classes from the main graph.
void complete_info(const QuantGraph& main, const std::string& name, ModelInfo& info) {
  const Graph& graph = main.graph;
  const Shapes& shapes = *main.shapes;
  const int input = graph.find(NodeKind::kInput), logits = graph.output("logits");
  if (std::ranges::count(graph.nodes, NodeKind::kInput, &Node::kind) > 1)
    fail("graph '", name, "' has several inputs, a run takes one");
  if (input < 0 || !shapes[input].planar || shapes[input].cols != 3)
    fail("graph '", name, "' has no image of 3 channels as its input");
  if (graph.outputs.empty()) fail("graph '", name, "' has no output");
  info.image_height = shapes[input].height;
  info.image_width = shapes[input].width;
  info.num_classes = logits < 0 ? 0 : shapes[logits].cols;
  if (logits >= 0 && shapes[logits].rows != 1)
    fail("output 'logits' has ", shapes[logits].rows, " rows, expected 1");
}

}  // namespace

QuantGraph::QuantGraph(QbinFile& file, const std::string& name)
    : graph(file.take_graph(name)), where(cat(file.where(), ": graph '", name, "'")) {
  std::set<std::string> listed;
  for (const Node& n : graph.nodes)
    for (const std::string& param : {n.weight, n.bias})
      if (!param.empty() && listed.insert(param).second)
        graph.params.push_back({param, need(file, param).dims});
  shapes = std::make_shared<const Shapes>(infer_shapes(graph));
  check_products();
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.kind == NodeKind::kLinear) {
      read_linear(file, i, (*shapes)[n.in[0]].cols);
      continue;
    }
    for (const std::string& param : {n.weight, n.bias})
      if (!param.empty()) add_param(file, param, n);
    if (n.kind != NodeKind::kQuantize) continue;
    const CodeParams& params = quantizers_[i] = code_params(n, params_);
    if (!params.heads.empty() && (*shapes)[i].cols % count_of(params.heads) != 0)
      fail("quantize '", n.name, "': ", params.heads.size(), " heads of ", (*shapes)[i].cols,
           " columns");
    if (params.by_head() && params.group != (*shapes)[i].cols / count_of(params.heads))
      fail("quantize '", n.name, "': groups of ", params.group, " columns are not its heads");
  }
}

// Every matrix product reads Quantize nodes, a convolution's through its Window.
void QuantGraph::check_products() const {
  for (const Node& n : graph.nodes) {
    if (n.kind != NodeKind::kLinear && n.kind != NodeKind::kScores && n.kind != NodeKind::kMix)
      continue;
    for (int in : n.in) {
      if (n.kind == NodeKind::kLinear && graph.is(in, NodeKind::kWindow)) in = graph[in].in[0];
      if (!graph.is(in, NodeKind::kQuantize))
        fail(name_of(n.kind), " '", n.name, "' reads ", name_of(graph[in].kind), " '",
             graph[in].name, "', expected codes of a quantize");
    }
  }
}

void QuantGraph::add_param(const QbinFile& file, const std::string& name, const Node& reader) {
  if (!params_.contains(name))
    params_[name] = read_floats(need(file, name), reader.kind == NodeKind::kQuantize);
}

void QuantGraph::read_linear(const QbinFile& file, int index, int depth) {
  const Node& node = graph[index];
  if (depth > kMaxDepth) fail("'", node.name, "' has depth ", depth, ", at most ", kMaxDepth);
  const QbinTensor& weight = need(file, node.weight);
  const int64_t n = weight.dims.empty() ? 0 : weight.dims[0];
  columns_ += n;
  if (columns_ > kMaxColumns)
    fail("'", node.name, "': the linears have more than ", kMaxColumns, " columns");
  const bool coded = weight.dtype == DType::kCoded;
  expect(weight, coded || weight.dtype == DType::kPacked, "codes", {n, depth});
  QuantLinear w;
  w.n = static_cast<int>(n);
  w.k = depth;
  w.bits = weight.bits;
  w.stored_bytes = std::ssize(weight.bytes);
  if (coded)
    read_coded(file, weight, w);
  else
    read_packed(file, weight, w);
  for (int c = 0; c < w.n; c++) {
    if (!std::isnormal(at(w.scale, c)) || at(w.scale, c) < 0)
      fail("tensor '", node.weight, "_scale' holds ", double{at(w.scale, c)}, " at ", c,
           ", expected a positive number");
  }
  if (!node.bias.empty()) w.bias = read_floats(need(file, node.bias)).data;
  w.bias.resize(w.scale.size());
  if (coded) coded_.emplace(node.weight, index);
  linears_[index] = std::move(w);
}

void QuantGraph::read_packed(const QbinFile& file, const QbinTensor& weight, QuantLinear& w) {
  const QbinTensor& scale = need(file, weight.name + "_scale");
  const QbinTensor& zero = need(file, weight.name + "_zero");
  const QbinTensor& sum = need(file, weight.name + "_sum");
  expect(scale, scale.dtype == DType::kF32, "F32", {w.n});
  expect(zero, zero.dtype == DType::kI8, "I8", {w.n});
  expect(sum, sum.dtype == DType::kI16 || sum.dtype == DType::kI32, "I16 or I32", {w.n});
  w.panels = weight.bytes.data();
  const size_t size = static_cast<size_t>(round_up(w.n, kColumns));
  w.scale = padded<float>(elements<float>(scale), size);
  w.zero = padded<int32_t>(elements<int8_t>(zero), size);
  w.sum = sum.dtype == DType::kI16 ? padded<int32_t>(elements<int16_t>(sum), size)
                                   : padded<int32_t>(elements<int32_t>(sum), size);
  for (int c = 0; c < w.n; c++) {
    const int64_t most = int64_t{w.k} << (w.bits - 1);
    if (std::abs(int64_t{at(w.sum, c)}) > most)
      fail("tensor '", sum.name, "' holds ", at(w.sum, c), " at ", c, ", no sum of ", w.k,
           " codes of ", w.bits, " bits");
  }
}

void QuantGraph::read_coded(const QbinFile& file, const QbinTensor& weight, QuantLinear& w) {
  const QbinTensor& scale = need(file, weight.name + "_scale");
  expect(scale, scale.dtype == DType::kF32, "F32", {1});
  const size_t size = static_cast<size_t>(round_up(w.n, kColumns));
  w.scale.resize(size);
  std::fill_n(w.scale.begin(), w.n, elements<float>(scale)[0]);
  w.zero.resize(size);
  if (const auto same = coded_.find(weight.name); same != coded_.end()) {
    w.decoded = linears_.at(same->second).decoded;
    w.sum = linears_.at(same->second).sum;
  } else {
    w.sum.resize(size);
    w.decoded = decode_panels(weight, w.sum);
  }
  w.panels = reinterpret_cast<const uint8_t*>(w.decoded->data());
}

int64_t QuantGraph::decoded_bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, node] : coded_)
    bytes += std::ssize(*linears_.at(node).decoded) * int64_t{sizeof(PanelLine)};
  return bytes;
}

std::vector<QuantizedOperand> QuantGraph::operands() const {
  std::vector<QuantizedOperand> out;
  for (int i = 0; i < graph.size(); i++) {
    const Node& n = graph[i];
    if (n.kind != NodeKind::kLinear && n.kind != NodeKind::kScores && n.kind != NodeKind::kMix)
      continue;
    for (int k = 0; k < count_of(n.in); k++) {
      int in = at(n.in, k);
      if (graph.is(in, NodeKind::kWindow)) in = graph[in].in[0];
      if (graph.is(in, NodeKind::kQuantize)) out.push_back({in, i, k});
    }
  }
  return out;
}

QuantModel::QuantModel(QbinFile file) : file_(std::move(file)) {
  try {
    if (is_detector(file_)) main_ = "backbone";
    if (!file_.graphs().contains(main_)) fail("it holds no graph '", main_, "'");
    for (const auto& [name, graph] : file_.graphs()) graphs_.emplace(name, QuantGraph(file_, name));
    info_ = read_info(file_);
    complete_info(graph(), main_, info_);
    if (is_detector(file_)) detector_ = read_detector(file_, info_);
    if (!info_.labels.empty() && info_.labels.size() != static_cast<size_t>(info_.num_classes))
      fail(info_.labels.size(), " labels for ", info_.num_classes, " classes");
    check_info(info_);
  } catch (const Error& e) {
    const std::string what = e.what();
    throw Error(what.starts_with(file_.where()) ? what : cat(file_.where(), ": ", what));
  }
}

const QuantGraph& QuantModel::graph(const std::string& name) const {
  const auto found = graphs_.find(name);
  if (found == graphs_.end()) fail(file_.where(), ": it holds no graph '", name, "'");
  return found->second;
}

Weights dequantize_weights(const QuantGraph& quantized) {
  Weights weights = quantized.params();
  for (int i = 0; i < quantized.graph.size(); i++) {
    const Node& n = quantized.graph[i];
    if (n.kind != NodeKind::kLinear) continue;
    const QuantLinear& w = quantized.linear(i);
    std::vector<uint8_t> codes(static_cast<size_t>(w.n) * static_cast<size_t>(w.k));
    unpack_codes(w.panels, w.n, w.k, w.bits, codes.data());
    Tensor& out = weights[n.weight] = Tensor({w.n, w.k});
    for (size_t c = 0; c < codes.size(); c++) {
      const size_t row = c / static_cast<size_t>(w.k);
      out.data[c] = w.scale[row] * static_cast<float>(codes[c] - (1 << (w.bits - 1)) - w.zero[row]);
    }
    if (n.bias.empty()) continue;
    Tensor& bias = weights[n.bias] = Tensor({w.n});
    std::copy_n(w.bias.begin(), w.n, bias.data.begin());
  }
  return weights;
}

}  // namespace vitrun
