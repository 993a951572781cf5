// Nodes to steps and values.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/base/error.h"
#include "runtime/integer/plain/plain.h"
#include "runtime/integer/plan.h"

namespace vitrun {
namespace {

constexpr int64_t kConstantAlign = 64;
constexpr int64_t kMaxConstants = int64_t{1} << 32;  // bytes
constexpr int64_t kMaxBias = int64_t{1} << 28;       // numbers of all attentions' biases

// The codes of a Quantize stand in a value; this says which, and the column of its first.
struct Codes {
  int value = -1, column = 0;
};

class Lowering {
 public:
  Lowering(const QuantGraph& model, const std::vector<Fusion>& fusions,
           const std::vector<int>& need, const PlanRequest& request, Plan& plan)
      : model_(model),
        graph_(model.graph),
        shapes_(*plan.shapes),
        fusions_(fusions),
        need_(need),
        request_(request),
        readers_(graph_.readers()),
        floats_(graph_.nodes.size(), -1),
        codes_(graph_.nodes.size()),
        done_(graph_.nodes.size(), false),
        plan_(plan) {}

  void run() {
    for (int i = 0; i < graph_.size(); i++)
      if (need(i) > 0 && !at(done_, i)) lower(i);
    const std::vector<std::string> names = request_.outputs.empty()
                                               ? std::vector<std::string>{graph_.outputs[0].name}
                                               : request_.outputs;
    for (const std::string& name : names) {
      const int node = graph_.output(name);
      plan_.outputs.push_back({name, floats(node), shapes_[node].rows, shapes_[node].cols});
    }
  }

 private:
  int need(int i) const { return at(need_, i); }
  const Fusion& fusion(int i) const { return at(fusions_, i); }
  const CodeParams& quantizer(int i) const {
    if (!graph_.is(i, NodeKind::kQuantize)) refuse(i);
    return model_.quantizer(i);
  }

  [[noreturn]] void refuse(int i) const {
    fail(name_of(graph_[i].kind), " '", graph_[i].name, "' has no integer form in this place");
  }

  // The value of a node in float: constants when they are first asked for.
  int floats(int i) {
    int& value = at(floats_, i);
    if (value < 0 && graph_.is(i, NodeKind::kConst)) {
      const Shape& s = shapes_[i];
      value =
          new_constant(model_.params().at(graph_[i].weight).data.data(), s.groups * s.rows, s.cols);
    }
    if (value < 0) refuse(i);
    return value;
  }
  const Codes& codes(int i) const {
    if (at(codes_, i).value < 0) refuse(i);
    return at(codes_, i);
  }

  int add_value(bool as_codes, int rows, int cols) {
    Value v;
    v.codes = as_codes;
    v.rows = rows;
    v.cols = cols;
    v.stride = round_up(cols, as_codes ? kDepthAlign : kColumns);
    plan_.values.push_back(v);
    return count_of(plan_.values) - 1;
  }
  int new_floats(int i) { return at(floats_, i) = add_value(false, need(i), shapes_[i].cols); }
  int new_codes(int quantize) {
    const int value = add_value(true, need(quantize), shapes_[quantize].cols);
    at(plan_.values, value).by_row = quantizer(quantize).by_row();
    at(codes_, quantize) = {value, 0};
    return value;
  }

  // A constant of `rows` rows filled from row-major elements: codes or floats.
  template <class T>
  int new_constant(const T* data, int rows, int cols) {
    const int index = add_value(sizeof(T) == 1, rows, cols);
    Value& v = at(plan_.values, index);
    v.constant = true;
    const auto size = static_cast<int64_t>(sizeof(T));
    const auto used = static_cast<int64_t>(plan_.constants.size());
    v.offset = (used + kConstantAlign - 1) / kConstantAlign * kConstantAlign;
    if (v.offset + rows * v.stride * size > kMaxConstants)
      fail("the constants take more than ", kMaxConstants, " bytes");
    plan_.constants.resize(static_cast<size_t>(v.offset + rows * v.stride * size));
    for (int r = 0; r < rows; r++)
      std::memcpy(plan_.constants.data() + v.offset + r * v.stride * size, data + int64_t{r} * cols,
                  static_cast<size_t>(cols) * sizeof(T));
    return index;
  }

  // Appends a step that computes `rows` rows per image.
  Step& emit(Op op, int node, std::vector<int> in, int out, int rows) {
    Step s;
    s.op = op;
    s.node = s.result = node;
    s.in = std::move(in);
    s.out = out;
    s.rows = rows;
    plan_.steps.push_back(std::move(s));
    return plan_.steps.back();
  }

  void lower(int i);
  void lower_input(int i);
  void lower_plain(int i);
  void lower_patches(int i);
  void lower_norm_codes(int i);
  void lower_act_rows(int i);
  void lower_norm_add(int i);
  void lower_norm_operands(int i);
  void lower_quantize(int i);
  void lower_linear(int i);
  void lower_attention(int i);

  // The step that writes the codes of `quantize`.
  Step& emit_codes(Op op, int node, std::vector<int> in, int quantize) {
    const int out = new_codes(quantize);
    Step& s = emit(op, node, std::move(in), out, need(quantize));
    s.params = quantizer(quantize);
    s.result = quantize;
    return s;
  }
  // Codes that a step wrote: to their levels, and sums where the step gave none.
  void finish_codes(int quantize, bool has_sums) {
    const CodeParams& params = quantizer(quantize);
    if (has_sums && params.levels.empty()) return;
    Step& s = emit(Op::kFinish, quantize, {}, codes(quantize).value, need(quantize));
    s.params = params;
    if (!params.levels.empty()) s.levels = level_table(params.levels);
  }

  int plan_linear(int i, int quantize);
  Step& gemm(int i, int out, int linear, int rows, int column_begin, int column_end);
  void linear_floats(int i, int linear);
  void linear_operands(int i, int linear);
  void linear_codes(int i, int linear);
  void linear_embed(int i, int linear);
  void linear_add(int i, int linear);
  bool may_overwrite(int other, int linear, int add) const;
  int operands_value(int i, PlannedColumns& p);
  void plan_column_quantizers(PlannedColumns& p, size_t padded);
  void pad_row(int i, int value, int linear);
  void constant_rows(int node, int out, int first, int constant, int linear = -1) {
    Step& s = emit(Op::kConstantRows, node, {constant}, out, at(plan_.values, constant).rows);
    s.out_first = first;
    s.linear = linear;
  }
  // The Quantize that a Linear reads, through the Window of a convolution.
  int quantize_of(int linear) const {
    int in = graph_[linear].in[0];
    if (fusion(in).kind == Fusion::Kind::kGather) in = graph_[in].in[0];
    if (!graph_.is(in, NodeKind::kQuantize)) refuse(linear);
    return in;
  }
  const CodeParams& operand_quantizer(int node, int begin, const AttentionGeometry& g) const;

  const QuantGraph& model_;
  const Graph& graph_;
  const Shapes& shapes_;
  const std::vector<Fusion>& fusions_;
  const std::vector<int>& need_;
  const PlanRequest& request_;
  std::vector<std::vector<int>> readers_;
  std::vector<int> floats_;   // per node: its value as floats; -1 none
  std::vector<Codes> codes_;  // per Quantize
  std::vector<bool> done_;    // lowered, maybe as part of another node's step
  int64_t biases_ = 0;        // numbers of all attentions' biases so far
  Plan& plan_;
};

void Lowering::lower(int i) {
  const Fusion& f = fusion(i);
  switch (graph_[i].kind) {
    case NodeKind::kInput:
      lower_input(i);
      break;
    case NodeKind::kConst:   // constants come into being where they are read
    case NodeKind::kScores:  // part of the step of Mix
    case NodeKind::kSoftmax:
      break;
    case NodeKind::kLinear:
      lower_linear(i);
      break;
    case NodeKind::kMix:
      lower_attention(i);
      break;
    case NodeKind::kQuantize:
      lower_quantize(i);
      break;
    default:
      if (f.kind == Fusion::Kind::kPatches)
        lower_patches(i);
      else if (f.kind == Fusion::Kind::kNormCodes)
        lower_norm_codes(i);
      else if (f.kind == Fusion::Kind::kActRows)
        lower_act_rows(i);
      else if (f.kind == Fusion::Kind::kAdd)
        lower_norm_add(i);
      else if (f.kind == Fusion::Kind::kCodes)
        lower_norm_operands(i);
      else if (f.kind != Fusion::Kind::kGather)
        lower_plain(i);
  }
  at(done_, i) = true;
  if (f.last >= 0) at(done_, f.last) = true;
}

// An image is read by the steps of its Windows as it was given.
void Lowering::lower_input(int i) {
  if (shapes_[i].planar) return;
  emit(Op::kLoad, i, {}, new_floats(i), need(i));
}

void Lowering::lower_plain(int i) {
  const Node& n = graph_[i];
  std::vector<int> in;
  for (int k : n.in) {
    if (shapes_[k].planar) refuse(i);
    in.push_back(floats(k));
    if (n.kind == NodeKind::kResize) break;  // of the other only the size
  }
  Step& s = emit(Op::kPlain, i, std::move(in), new_floats(i), need(i));
  s.across = !plain_by_rows(n.kind);
  for (int k : n.in) s.across |= shapes_[k].rows != shapes_[i].rows && shapes_[k].rows != 1;
  const auto param = [&](const std::string& name) {
    return name.empty() ? nullptr : model_.params().at(name).data.data();
  };
  s.gamma = param(n.weight);
  s.beta = param(n.bias);
}

void Lowering::lower_patches(int i) {
  for (int quantize : at(readers_, i)) {
    if (need(quantize) == 0) continue;
    emit_codes(Op::kPatches, i, {}, quantize);
    finish_codes(quantize, true);
    at(done_, quantize) = true;
  }
}

void Lowering::lower_norm_codes(int i) {
  const int quantize = fusion(i).last;
  const int in = floats(graph_[i].in[0]);
  Step& s = emit_codes(Op::kNormCodes, i, {in}, quantize);
  s.gamma = model_.params().at(graph_[i].weight).data.data();
  s.beta = model_.params().at(graph_[i].bias).data.data();
  finish_codes(quantize, true);
}

void Lowering::lower_act_rows(int i) {
  const int in = floats(graph_[i].in[0]);
  Step& s = emit_codes(Op::kQuantize, i, {in}, fusion(i).last);
  s.activation = activation_of(graph_[i].act());
}

void Lowering::lower_norm_add(int i) {
  const int add = fusion(i).last, other = fusion(i).other;
  const int in = floats(graph_[i].in[0]), residual = floats(other);
  const int out =
      may_overwrite(other, i, add) ? residual : add_value(false, need(add), shapes_[i].cols);
  at(floats_, add) = out;
  Step& s = emit(Op::kNormAdd, i, {in}, out, need(add));
  s.gamma = model_.params().at(graph_[i].weight).data.data();
  s.beta = model_.params().at(graph_[i].bias).data.data();
  s.residual = residual;
  s.result = add;
}

// q and k, scaled to unit length, as codes.
void Lowering::lower_norm_operands(int i) {
  const int in = floats(graph_[i].in[0]);
  PlannedColumns p;
  const int out = operands_value(i, p);
  plan_column_quantizers(p, array_size(round_up(shapes_[i].cols, kColumns)));
  Step& s = emit(Op::kQuantize, i, {in}, out, need(i));
  s.gamma = model_.params().at(graph_[i].weight).data.data();
  s.column_begin = graph_[i].whole(Attribute::kBegin);
  s.columns = count_of(plan_.columns);
  plan_.columns.push_back(std::move(p));
}

void Lowering::lower_quantize(int i) {
  const int x = graph_[i].in[0];
  if (graph_.is(x, NodeKind::kSoftmax)) return;  // part of the step of Mix
  if (shapes_[x].planar) refuse(i);
  const int in = floats(x);
  Step& s = emit_codes(Op::kQuantize, i, {in}, i);
  s.column_begin = graph_[i].whole(Attribute::kBegin);
  if (!quantizer(i).heads.empty()) {
    PlannedColumns p;
    p.parts.push_back({0, shapes_[i].cols, quantizer(i)});
    plan_column_quantizers(p, array_size(round_up(shapes_[i].cols, kColumns)));
    s.columns = count_of(plan_.columns);
    plan_.columns.push_back(std::move(p));
  }
  finish_codes(i, quantizer(i).heads.empty());
}

// --- Linear ---

int Lowering::plan_linear(int i, int quantize) {
  const QuantLinear& w = model_.linear(i);
  const CodeParams& a = quantizer(quantize);
  if (!a.heads.empty()) refuse(i);
  PlannedLinear p;
  p.weight = &w;
  p.a_bits = a.code_bits();
  p.outside = static_cast<uint8_t>(std::clamp(a.zero, 0, 255));
  const UniformRange of = a.by_row() ? UniformRange{1, 1} : UniformRange{a.scale, a.zero};
  p.scale.resize(w.scale.size());
  p.offset.resize(w.scale.size());
  for (size_t c = 0; c < w.scale.size(); c++) {
    p.scale[c] = of.scale * w.scale[c];
    p.offset[c] = of.zero * (w.k * w.zero[c] - w.sum[c]);
  }
  plan_.linears.push_back(std::move(p));
  return count_of(plan_.linears) - 1;
}

Step& Lowering::gemm(int i, int out, int linear, int rows, int column_begin, int column_end) {
  const int x = graph_[i].in[0];
  Step& s = emit(Op::kGemm, i, {codes(quantize_of(i)).value}, out, rows);
  s.linear = linear;
  s.column_begin = column_begin;
  s.column_end = column_end;
  s.by_columns = rows <= kFewRows;
  if (fusion(x).kind == Fusion::Kind::kGather) {
    s.window = x;
    s.across = true;
    s.by_columns = false;
  }
  return s;
}

void Lowering::lower_linear(int i) {
  const int quantize = quantize_of(i);
  if (fusion(graph_[i].in[0]).kind == Fusion::Kind::kGather && quantizer(quantize).by_row())
    fail("linear '", graph_[i].name, "': a convolution reads rows of one range");
  if (fusion(graph_[i].in[0]).kind == Fusion::Kind::kGather &&
      (quantizer(quantize).zero < 0 ||
       quantizer(quantize).zero >= 1 << quantizer(quantize).code_bits()))
    fail("linear '", graph_[i].name, "': 0 has no code, which elements outside of the map need");
  const int linear = plan_linear(i, quantize);
  switch (fusion(i).kind) {
    case Fusion::Kind::kCodes:
      return linear_operands(i, linear);
    case Fusion::Kind::kActCodes:
    case Fusion::Kind::kRowCodes:
      return linear_codes(i, linear);
    case Fusion::Kind::kEmbed:
      return linear_embed(i, linear);
    case Fusion::Kind::kAdd:
      return linear_add(i, linear);
    default:
      linear_floats(i, linear);
  }
}

void Lowering::linear_floats(int i, int linear) {
  const int out = new_floats(i), tokens = shapes_[i].tokens();
  gemm(i, out, linear, std::min(need(i), tokens), 0, shapes_[i].cols);
  if (need(i) > tokens)  // the output for a row of zeros, the bias
    constant_rows(i, out, tokens, new_constant(model_.linear(i).bias.data(), 1, shapes_[i].cols));
}

// The value of the codes of all Quantize nodes that read node i, whose quantizers `p` gets.
int Lowering::operands_value(int i, PlannedColumns& p) {
  const int value = add_value(true, need(i), shapes_[i].cols);
  for (int q : at(readers_, i)) {
    if (need(q) == 0) continue;
    const int begin = graph_[q].whole(Attribute::kBegin);
    p.parts.push_back({begin, begin + shapes_[q].cols, quantizer(q)});
    at(codes_, q) = {value, begin};
    at(done_, q) = true;
  }
  std::ranges::sort(p.parts, {}, [](const ColumnCodes& part) { return part.begin; });
  return value;
}

// q, k and v as codes: q for the rows whose output is needed, k and v for all.
void Lowering::linear_operands(int i, int linear) {
  PlannedLinear& p = at(plan_.linears, linear);
  struct Part {
    int begin, end, rows;
  };
  std::vector<Part> parts;
  const int value = operands_value(i, p);
  const int tokens = shapes_[i].tokens();
  for (int q : at(readers_, i)) {
    if (need(q) == 0) continue;
    const int begin = graph_[q].whole(Attribute::kBegin), end = begin + shapes_[q].cols;
    // Only from a multiple of kColumns on may a product start.
    const bool own = begin % kColumns == 0 && (end % kColumns == 0 || end == shapes_[i].cols);
    parts.push_back({begin, end, own ? std::min(need(q), tokens) : -1});
  }
  std::ranges::sort(parts, {}, [](const Part& part) { return part.begin; });
  plan_column_quantizers(p, p.scale.size());
  const int most = std::min(need(i), tokens);
  if (std::ranges::any_of(parts, [](const Part& part) { return part.rows < 0; }))
    parts = {{0, shapes_[i].cols, most}};
  std::vector<Part> products;  // neighbours of equal rows at once
  for (const Part& part : parts) {
    if (!products.empty() && products.back().end == part.begin && products.back().rows == part.rows)
      products.back().end = part.end;
    else
      products.push_back(part);
  }
  // Most rows first. (stable_sort would allocate in a way that hides a failure.)
  std::ranges::sort(products, {},
                    [](const Part& part) { return std::pair(-part.rows, part.begin); });
  for (const Part& part : products)
    gemm(i, value, linear, part.rows, part.begin, part.end).epilogue = Epilogue::kCodes;
  if (shapes_[i].pad_row) pad_row(i, value, linear);
}

void Lowering::plan_column_quantizers(PlannedColumns& p, size_t padded) {
  p.inv_scale.assign(padded, 0);
  p.low.assign(padded, 0);
  p.high.assign(padded, 0);
  p.code_zero.assign(padded, 0);
  for (const ColumnCodes& part : p.parts)
    for (int c = part.begin; c < part.end; c++) {
      const UniformRange of = part.at_column(c);
      at(p.inv_scale, c) = 1 / of.scale;
      const int margin = part.params.by_head() ? group_margin(part.params.bits) : 0;
      at(p.low, c) = static_cast<float>(margin - of.zero);
      at(p.high, c) = static_cast<float>((1 << part.params.code_bits()) - 1 - margin - of.zero);
      at(p.code_zero, c) = of.zero;
    }
}

// The output for a row of zeros, the bias, in the quantizer's own arithmetic (kernels.h).
void Lowering::pad_row(int i, int value, int linear) {
  const PlannedLinear& p = at(plan_.linears, linear);
  std::vector<uint8_t> row;
  for (int c = 0; c < shapes_[i].cols; c++) {
    const float x = at(model_.linear(i).bias, c) * at(p.inv_scale, c);
    const float rounded = std::nearbyint(std::min(std::max(x, at(p.low, c)), at(p.high, c)));
    row.push_back(static_cast<uint8_t>(static_cast<int>(rounded) + at(p.code_zero, c)));
  }
  constant_rows(i, value, shapes_[i].tokens(), new_constant(row.data(), 1, shapes_[i].cols),
                linear);
}

// Codes by one range, or by a range for each row: the floats of those are kept of a block of rows
// at a time.
void Lowering::linear_codes(int i, int linear) {
  const int quantize = fusion(i).last, before = graph_[quantize].in[0];
  Step& s = gemm(i, new_codes(quantize), linear, need(i), 0, shapes_[i].cols);
  if (before != i) {
    at(done_, before) = true;
    s.activation = activation_of(graph_[before].act());
  }
  s.result = quantize;
  s.params = quantizer(quantize);
  if (!s.params.by_row()) s.epilogue = Epilogue::kActCodes;
  // Each thread that shares columns knows the sums of its own only.
  finish_codes(quantize, !s.by_columns);
}

// The patch embedding: adds the position embedding and puts the patches behind the prefix rows.
void Lowering::linear_embed(int i, int linear) {
  const Fusion& f = fusion(i);
  const int cols = shapes_[i].cols, rows = need(i);
  for (int node : {graph_[f.last].in[0], graph_[f.last].in.back()})
    if (!graph_.is(node, NodeKind::kConst)) at(done_, node) = true;
  std::vector<float> prefix;
  for (int p : f.prefix) {
    const std::vector<float>& x = model_.params().at(graph_[p].weight).data;
    prefix.insert(prefix.end(), x.begin(), x.end());
  }
  const int before = static_cast<int>(prefix.size() / static_cast<size_t>(cols));
  const std::vector<float>& pos = model_.params().at(graph_[f.other].weight).data;
  const bool of_prefix = shapes_[f.other].rows > shapes_[i].rows;
  const int first = of_prefix ? before : 0;
  const int out = at(floats_, f.last) = add_value(false, need(f.last), cols);
  const int behind = std::min(rows, need(f.last) - before);  // rows of the Linear that are needed
  if (behind > 0) {
    const int residual = new_constant(pos.data() + int64_t{first} * cols, rows, cols);
    Step& s = gemm(i, out, linear, behind, 0, cols);
    s.epilogue = Epilogue::kAdd;
    s.out_first = before;
    s.result = f.last;
    s.residual = residual;
  }
  if (before == 0) return;
  if (of_prefix) std::ranges::transform(prefix, pos, prefix.begin(), std::plus<>());
  constant_rows(f.last, out, 0, new_constant(prefix.data(), std::min(before, need(f.last)), cols));
}

// Whether the sum may take the other operand's memory: nobody reads it after the step of `linear`.
bool Lowering::may_overwrite(int other, int linear, int add) const {
  for (const Output& o : graph_.outputs)
    if (o.node == other) return false;
  const Value& v = at(plan_.values, at(floats_, other));
  return !v.constant && v.rows == need(add) &&
         std::ranges::all_of(at(readers_, other), [&](int r) { return r == add || r < linear; });
}

void Lowering::linear_add(int i, int linear) {
  const int add = fusion(i).last, other = fusion(i).other;
  const int residual = floats(other);
  const int out =
      may_overwrite(other, i, add) ? residual : add_value(false, need(add), shapes_[i].cols);
  at(floats_, add) = out;
  Step& s = gemm(i, out, linear, need(add), 0, shapes_[i].cols);
  s.epilogue = Epilogue::kAdd;
  s.residual = residual;
  s.result = add;
}

// --- attention ---

// The quantizer of q, k or v: codes of `cols` columns, of which `heads` heads start at `begin`.
// Ranges by head must be those of the same heads.
const CodeParams& Lowering::operand_quantizer(int node, int begin,
                                              const AttentionGeometry& g) const {
  const CodeParams& params = quantizer(node);
  if (params.by_row()) refuse(node);
  if (!params.heads.empty() && (count_of(params.heads) != g.heads || begin != 0 ||
                                shapes_[node].cols != g.heads * g.head_dim))
    fail("quantize '", graph_[node].name, "': ", params.heads.size(),
         " ranges by head, which are not those of the ", g.heads, " heads of ", g.head_dim,
         " columns from ", begin, " that attention reads");
  return params;
}

void Lowering::lower_attention(int i) {
  const Node& n = graph_[i];
  const int rounded = n.in[0];
  if (!graph_.is(rounded, NodeKind::kQuantize)) refuse(i);
  const int softmax = graph_[rounded].in[0];
  if (!graph_.is(softmax, NodeKind::kSoftmax)) refuse(i);
  const int scores = graph_[softmax].in[0];
  const int q = graph_[scores].in[0], k = graph_[scores].in[1], v = n.in[1];
  const AttentionGeometry& g = shapes_.geometry(i);
  PlannedAttention p;
  p.geometry = at(shapes_.attention_of, i);
  if (g.tokens > kMaxDepth)
    fail("mix '", n.name, "' has ", g.tokens, " tokens, at most ", kMaxDepth);
  p.q = operand_quantizer(q, g.query_begin, g);
  p.k = operand_quantizer(k, g.key_begin, g);
  p.v = operand_quantizer(v, n.whole(Attribute::kValueBegin), g);
  p.probability = quantizer(rounded);
  if (!p.probability.levels.empty() || !p.probability.heads.empty() || p.probability.by_row())
    refuse(rounded);
  p.q_column = codes(q).column + g.query_begin;
  p.k_column = codes(k).column + g.key_begin;
  p.v_column = codes(v).column + n.whole(Attribute::kValueBegin);
  p.in_place = g.windows == 1 && g.head_dim % kDepthAlign == 0;
  for (int t = 0; t < g.tokens; t++) p.in_place &= at(g.index, t) == t;
  // Another Mix of these scores may need more rows than this one has.
  p.queries = g.whole() || p.in_place ? need(i) : g.queries;
  if (biases_ > kMaxBias)
    fail("softmax '", graph_[softmax].name, "': what is added to scores takes more than ", kMaxBias,
         " numbers");
  plan_softmax(model_, shapes_, softmax, p);
  biases_ += count_of(p.bias);
  plan_.attentions.push_back(std::move(p));
  const int attention = count_of(plan_.attentions) - 1;
  bool as_floats = std::ranges::any_of(
      request_.outputs, [&](const std::string& name) { return graph_.output(name) == i; });
  const std::vector<int> in = {codes(q).value, codes(k).value, codes(v).value};
  for (int quantize : at(readers_, i)) {  // of several, which is rare, each computes it anew
    if (need(quantize) == 0) continue;
    if (!graph_.is(quantize, NodeKind::kQuantize) || !quantizer(quantize).heads.empty() ||
        quantizer(quantize).by_row() || shapes_[quantize].cols != shapes_[i].cols) {
      as_floats = true;
      continue;
    }
    Step& s = emit_codes(Op::kAttention, i, in, quantize);
    s.attention = attention;
    s.across = true;
    at(done_, quantize) = true;
    finish_codes(quantize, false);
  }
  if (!as_floats) return;
  Step& s = emit(Op::kAttention, i, in, new_floats(i), need(i));
  s.attention = attention;
  s.across = true;
}

}  // namespace

void lower(const QuantGraph& model, const std::vector<Fusion>& fusions,
           const std::vector<int>& need, const PlanRequest& request, Plan& plan) {
  Lowering(model, fusions, need, request, plan).run();
}

}  // namespace vitrun
