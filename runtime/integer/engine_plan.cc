#include "runtime/integer/engine_plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/base/error.h"

namespace vitrun {

std::vector<int> rows_needed(const Graph& graph) {
  std::vector<int> need(graph.nodes.size(), 0);
  need.back() = graph.nodes.back().rows;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& n = graph.nodes[i];
    for (int k = 0; k < 2; k++) {
      if (n.in[k] < 0) continue;
      const Node& in = graph.nodes[static_cast<size_t>(n.in[k])];
      int rows = in.rows;  // all, unless the node is row by row
      switch (n.kind) {
        case NodeKind::kLinear:
        case NodeKind::kLayerNorm:
        case NodeKind::kLayerScale:
        case NodeKind::kGelu:
        case NodeKind::kAdd:
        case NodeKind::kSoftmax:
          rows = std::min(in.rows, need[i]);
          break;
        case NodeKind::kSelect:
          rows = n.select + 1;
          break;
        case NodeKind::kMix: {
          const bool whole =
              graph.attention[static_cast<size_t>(n.attention)].windows == 1 && k == 0;
          if (whole && need[i] < n.rows) rows = need[i];
          break;
        }
        default:
          break;
      }
      int& r = need[static_cast<size_t>(n.in[k])];
      r = std::max(r, rows);
    }
  }
  return need;
}

namespace {

class Planner {
 public:
  Planner(const QuantModel& model, int batch, bool all_rows)
      : model_(model), graph_(model.graph()), batch_(batch) {
    need_ = rows_needed(graph_);
    for (size_t i = 0; all_rows && i < need_.size(); i++) need_[i] = graph_.nodes[i].rows;
    consumers_.resize(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); i++)
      for (int in : graph_.nodes[i].in)
        if (in >= 0) consumers_[static_cast<size_t>(in)].push_back(static_cast<int>(i));
    floats_.assign(graph_.nodes.size(), -1);
    codes_.assign(graph_.nodes.size(), -1);
  }

  Plan make() {
    for (size_t i = 0; i < graph_.nodes.size(); i++)
      if (floats_[i] < 0 && codes_[i] < 0) lower(static_cast<int>(i));
    plan_.logits = floats_.back();
    place_values();
    return std::move(plan_);
  }

 private:
  const Node& node(int i) const { return graph_.nodes[static_cast<size_t>(i)]; }
  int need(int i) const { return need_[static_cast<size_t>(i)]; }
  int& floats(int i) { return floats_[static_cast<size_t>(i)]; }
  int& codes(int i) { return codes_[static_cast<size_t>(i)]; }
  // The only consumer of a node if it is of this kind, else -1.
  int sole_consumer(int i, NodeKind kind) const {
    const auto& c = consumers_[static_cast<size_t>(i)];
    return c.size() == 1 && node(c[0]).kind == kind ? c[0] : -1;
  }

  int new_value(int of_node, bool as_codes) {
    const Node& n = node(of_node);
    Value v;
    v.codes = as_codes;
    v.rows = need(of_node);
    v.cols = n.cols;
    v.stride = round_up(n.cols, as_codes ? kDepthAlign : kColumns);
    plan_.values.push_back(v);
    return static_cast<int>(plan_.values.size()) - 1;
  }

  // A constant of `rows` rows filled from row-major elements: codes or floats.
  template <class T>
  int new_constant(const T* data, int rows, int cols) {
    Value v;
    v.codes = sizeof(T) == 1;
    v.constant = true;
    v.rows = rows;
    v.cols = cols;
    v.stride = round_up(cols, v.codes ? kDepthAlign : kColumns);
    const auto size = static_cast<int64_t>(sizeof(T));
    v.offset = align(static_cast<int64_t>(plan_.constants.size()));
    plan_.constants.resize(static_cast<size_t>(v.offset + rows * v.stride * size));
    for (int r = 0; r < rows; r++)
      std::memcpy(plan_.constants.data() + v.offset + r * v.stride * size, data + int64_t{r} * cols,
                  static_cast<size_t>(cols) * sizeof(T));
    plan_.values.push_back(v);
    return static_cast<int>(plan_.values.size()) - 1;
  }

  // Appends a step that computes `rows` rows per image.
  Step& emit(Op op, int of_node, int in, int out, int rows) {
    Step s;
    s.op = op;
    s.node = s.result = of_node;
    s.in = in;
    s.out = out;
    s.rows = rows;
    plan_.steps.push_back(s);
    return plan_.steps.back();
  }

  Step& emit_codes(Op op, int of_node, int in, int site_node, int consumer) {
    codes(site_node) = new_value(site_node, true);
    Step& s = emit(op, of_node, in, codes(site_node), need(site_node));
    s.site = model_.site(consumer);
    s.result = site_node;
    return s;
  }

  void lower(int i) {
    const Node& n = node(i);
    switch (n.kind) {
      case NodeKind::kPatches:
        return lower_patches(i);
      case NodeKind::kLinear:
        return lower_linear(i);
      case NodeKind::kLayerNorm:
        return lower_norm(i);
      case NodeKind::kMix:
        return lower_attention(i);
      case NodeKind::kScores:
      case NodeKind::kSoftmax:
        return;  // part of kMix's step
      case NodeKind::kMerge:
        return lower_plain(Op::kMerge, i);
      case NodeKind::kSelect:
        return lower_plain(Op::kSelect, i);
      case NodeKind::kMean:
        return lower_plain(Op::kMean, i);
      case NodeKind::kAdd:
        return lower_plain(Op::kAdd, i);
      case NodeKind::kTokens:
      case NodeKind::kGelu:
      case NodeKind::kLayerScale:
        fail("node '", n.name, "' has no integer form in this place");
    }
  }

  void lower_patches(int i) {
    const int linear = consumers_[static_cast<size_t>(i)][0];
    emit_codes(Op::kPatches, i, -1, i, linear);
    finish_codes(i, linear);
  }

  // Codes that a step wrote for `linear`: to their levels, and sums where the step gave none.
  void finish_codes(int of_node, int linear, bool has_sums = true) {
    const SiteParams& site = model_.site(linear);
    if (has_sums && site.levels.empty()) return;
    Step& s = emit(Op::kFinish, of_node, -1, codes(of_node), need(of_node));
    s.site = site;
    if (!site.levels.empty()) s.levels = level_table(site.levels);
  }

  void lower_plain(Op op, int i) {
    const Node& n = node(i);
    floats(i) = new_value(i, false);
    Step& s = emit(op, i, floats(n.in[0]), floats(i), n.rows);
    if (op == Op::kAdd) s.in2 = floats(n.in[1]);
  }

  void lower_norm(int i) {
    const int in = floats(node(i).in[0]);
    const int linear = sole_consumer(i, NodeKind::kLinear);
    if (linear < 0) floats(i) = new_value(i, false);
    Step& s = linear >= 0 ? emit_codes(Op::kNormCodes, i, in, i, linear)
                          : emit(Op::kNorm, i, in, floats(i), need(i));
    s.gamma = model_.params().at(node(i).weight).data.data();
    s.beta = model_.params().at(node(i).bias).data.data();
    if (linear >= 0) finish_codes(i, linear);
  }

  void lower_linear(int i) {
    const Node& n = node(i);
    if (codes(n.in[0]) < 0) {
      emit_codes(Op::kQuantize, n.in[0], floats(n.in[0]), n.in[0], i);
      finish_codes(n.in[0], i);
    }
    const int in = codes(n.in[0]);
    const int linear = plan_linear(i);
    const int gelu = sole_consumer(i, NodeKind::kGelu);
    const int add = sole_consumer(i, NodeKind::kAdd);
    const int tokens = sole_consumer(i, NodeKind::kTokens);
    if (gelu >= 0) return linear_gelu(i, gelu, in, linear);
    if (tokens >= 0) return linear_tokens(i, tokens, in, linear);
    if (add >= 0 && node(add).alpha == 1) return linear_add(i, add, in, linear);
    if (const int scores = attention_of(i); scores >= 0) return linear_qkv(i, scores, in, linear);
    floats(i) = new_value(i, false);
    gemm(i, in, floats(i), linear, need(i), 0, n.cols);
  }

  // The kScores that reads a Linear's value, -1 if there is none.
  int attention_of(int i) const {
    for (int c : consumers_[static_cast<size_t>(i)])
      if (node(c).kind == NodeKind::kScores) return c;
    return -1;
  }

  // q, k and v as codes: q for the rows whose output is needed, k and v for all.
  void linear_qkv(int i, int scores, int in, int linear) {
    const Node& n = node(i);
    const int mix = consumers_[static_cast<size_t>(i)].back();
    PlannedLinear& p = plan_.linears[static_cast<size_t>(linear)];
    p.parts = {model_.site(scores, 0), model_.site(scores, 1), model_.site(mix, 1)};
    plan_column_quantizers(p, n.cols,
                           graph_.attention[static_cast<size_t>(node(scores).attention)].head_dim);
    codes(i) = new_value(i, true);
    const bool whole = graph_.attention[static_cast<size_t>(node(scores).attention)].windows == 1;
    const int rows = std::min(need(i), node(n.in[0]).rows), dim = n.cols / 3;
    const int queries = whole && dim % kColumns == 0 ? std::min(rows, need(scores)) : rows;
    if (queries < rows) {
      gemm(i, in, codes(i), linear, rows, dim, n.cols).epilogue = Epilogue::kCodes;
      gemm(i, in, codes(i), linear, queries, 0, dim).epilogue = Epilogue::kCodes;
    } else {
      gemm(i, in, codes(i), linear, rows, 0, n.cols).epilogue = Epilogue::kCodes;
    }
    if (n.pad_row) pad_row(i, linear);
  }

  static void plan_column_quantizers(PlannedLinear& p, int cols, int head_dim) {
    const size_t padded = p.scale.size();
    p.inv_scale.assign(padded, 0);
    p.low.assign(padded, 0);
    p.high.assign(padded, 0);
    p.code_zero.assign(padded, 0);
    const int dim = cols / 3;
    for (int c = 0; c < cols; c++) {
      const SiteParams& part = p.parts[static_cast<size_t>(c / dim)];
      const UniformRange of = part.of_head(c % dim / head_dim);
      const auto at = static_cast<size_t>(c);
      p.inv_scale[at] = 1 / of.scale;
      p.low[at] = static_cast<float>(-of.zero);
      p.high[at] = static_cast<float>((1 << part.bits) - 1 - of.zero);
      p.code_zero[at] = of.zero;
    }
  }

  // The qkv of a zero token, its bias, in the quantizer's own arithmetic (kernels.h).
  void pad_row(int i, int linear) {
    const Node& n = node(i);
    const PlannedLinear& p = plan_.linears[static_cast<size_t>(linear)];
    std::vector<uint8_t> row;
    for (size_t c = 0; c < static_cast<size_t>(n.cols); c++) {
      const float x = model_.linear(i).bias[c] * p.inv_scale[c];
      const float rounded = std::nearbyint(std::min(std::max(x, p.low[c]), p.high[c]));
      row.push_back(static_cast<uint8_t>(static_cast<int>(rounded) + p.code_zero[c]));
    }
    constant_rows(i, codes(i), n.rows - 1, new_constant(row.data(), 1, n.cols)).linear = linear;
  }

  Step& gemm(int i, int in, int out, int linear, int rows, int column_begin, int column_end) {
    Step& s = emit(Op::kGemm, i, in, out, rows);
    s.linear = linear;
    s.column_begin = column_begin;
    s.column_end = column_end;
    s.by_columns = rows <= kFewRows;
    return s;
  }

  void linear_gelu(int i, int gelu, int in, int linear) {
    const int consumer = sole_consumer(gelu, NodeKind::kLinear);
    if (consumer < 0) fail("node '", node(gelu).name, "' has no integer form in this place");
    codes(gelu) = new_value(gelu, true);
    floats(i) = -2;  // done, never materialised
    Step& s = gemm(i, in, codes(gelu), linear, need(i), 0, node(i).cols);
    s.epilogue = Epilogue::kGeluCodes;
    s.result = gelu;
    s.site = model_.site(consumer);
    finish_codes(gelu, consumer,
                 !s.by_columns);  // else a thread knows the sums of its columns only
  }

  // The patch embedding: adds the position embedding and puts the patches behind the prefix rows.
  void linear_tokens(int i, int tokens, int in, int linear) {
    const Node& t = node(tokens);
    const int prefix = t.rows - node(i).rows, cols = t.cols;
    const std::vector<float>& pos = model_.params().at(t.weight).data;
    const bool has_prefix = graph_.config.pos_embed_has_prefix;
    floats(i) = -2;
    floats(tokens) = new_value(tokens, false);
    Step& s = gemm(i, in, floats(tokens), linear, node(i).rows, 0, cols);
    s.epilogue = Epilogue::kAdd;
    s.out_first = prefix;
    s.result = tokens;
    const int residual =
        new_constant(pos.data() + (has_prefix ? prefix * cols : 0), node(i).rows, cols);
    plan_.steps.back().in2 = residual;
    if (prefix == 0) return;
    std::vector<float> rows;
    for (const char* name : {"cls_token", "dist_token"})
      if (auto p = model_.params().find(name); p != model_.params().end())
        rows.insert(rows.end(), p->second.data.begin(), p->second.data.end());
    if (has_prefix)
      std::transform(rows.begin(), rows.end(), pos.begin(), rows.begin(), std::plus<>());
    constant_rows(tokens, floats(tokens), 0, new_constant(rows.data(), prefix, cols));
  }

  Step& constant_rows(int of_node, int out, int first, int constant) {
    Step& s =
        emit(Op::kPrefix, of_node, constant, out, plan_.values[static_cast<size_t>(constant)].rows);
    s.out_first = first;
    return s;
  }

  void linear_add(int i, int add, int in, int linear) {
    const Node& a = node(add);
    const int other = a.in[0] == i ? a.in[1] : a.in[0];
    const bool in_place = consumers_[static_cast<size_t>(other)].back() == add &&
                          plan_.values[static_cast<size_t>(floats(other))].rows == need(add);
    floats(i) = -2;
    floats(add) = in_place ? floats(other) : new_value(add, false);
    Step& s = gemm(i, in, floats(add), linear, need(i), 0, a.cols);
    s.epilogue = Epilogue::kAdd;
    s.in2 = floats(other);
    s.result = add;
  }

  int plan_linear(int i) {
    const QuantLinear& w = model_.linear(i);
    const SiteParams& a = model_.site(i);
    PlannedLinear p;
    p.weight = &w;
    p.a_bits = a.code_bits();
    p.scale.resize(w.scale.size());
    p.offset.resize(w.scale.size());
    for (size_t c = 0; c < w.scale.size(); c++) {
      p.scale[c] = a.scale * w.scale[c];
      p.offset[c] = a.zero * (w.k * w.zero[c] - w.sum[c]);
    }
    plan_.linears.push_back(std::move(p));
    return static_cast<int>(plan_.linears.size()) - 1;
  }

  void lower_attention(int i) {
    const Node& n = node(i);
    const int scores = node(n.in[0]).in[0];
    const AttentionGeometry& g = graph_.attention[static_cast<size_t>(n.attention)];
    PlannedAttention p;
    p.geometry = &g;
    p.q = model_.site(scores, 0);
    p.k = model_.site(scores, 1);
    p.probability = model_.site(i, 0);
    p.v = model_.site(i, 1);
    p.queries = need(scores);
    p.in_place = g.windows == 1 && g.head_dim % kDepthAlign == 0 && p.queries <= n.rows;
    for (int t = 0; t < g.tokens; t++) p.in_place &= g.index[static_cast<size_t>(t)] == t;
    for (int k = 0; k < 1 << p.probability.bits; k++)
      p.table.push_back(static_cast<uint16_t>(log_code_value(k, p.probability.rate)));
    p.table.push_back(0);
    if (p.probability.twin != SiteParams::kLogCodes) p.steps = step_codes(p.probability);
    if (const std::string& table = node(n.in[0]).weight; !table.empty())
      p.bias = expand_bias(g, model_.params().at(table).data);
    p.block = query_block(p.queries, g.tokens);
    plan_.attentions.push_back(std::move(p));

    const int proj = sole_consumer(i, NodeKind::kLinear);
    if (proj < 0) fail("node '", n.name, "' has no integer form in this place");
    Step& s = emit_codes(Op::kAttention, i, codes(n.in[1]), i, proj);
    s.attention = static_cast<int>(plan_.attentions.size()) - 1;
    finish_codes(i, proj, false);
  }

  // So many queries that their scores take about 32 KB: a multiple of 16, or all of them.
  static int query_block(int queries, int tokens) {
    return std::min(queries, std::max(8192 / round_up(tokens, kColumns) / 16, 1) * 16);
  }

  static std::vector<float> expand_bias(const AttentionGeometry& g,
                                        const std::vector<float>& table) {
    const size_t t = static_cast<size_t>(g.tokens), heads = static_cast<size_t>(g.heads);
    std::vector<float> bias(heads * t * t);
    for (size_t h = 0; h < heads; h++)
      for (size_t i = 0; i < t * t; i++)
        bias[h * t * t + i] = table[static_cast<size_t>(g.bias_index[i]) * heads + h];
    return bias;
  }

  // --- synchronisation and memory ---

  // Steps with equal keys give each thread the same rows.
  static int partition(const Step& s) {
    const bool by_rows = s.op != Op::kAttention && s.op != Op::kPrefix && s.op != Op::kMerge &&
                         s.op != Op::kSelect && s.op != Op::kMean && !s.by_columns;
    return by_rows ? s.rows : -1 - static_cast<int>(s.op);
  }

  // A step waits for the others if a value it touches was touched since the last wait by a step
  // that gave the rows to other threads. Constant rows are nobody else's; they only have to be
  // there before they are read.
  void place_syncs() {
    std::vector<std::vector<int>> touched(plan_.values.size());
    for (Step& s : plan_.steps) {
      const int key = partition(s);
      for (int v : {s.in, s.in2, s.out})
        if (v >= 0 && s.op != Op::kPrefix)
          for (int other : touched[static_cast<size_t>(v)]) s.sync |= other != key || key < 0;
      if (s.sync)
        for (auto& t : touched) t.clear();
      for (int v : {s.in, s.in2, s.out})
        if (v >= 0 && !plan_.values[static_cast<size_t>(v)].constant)
          touched[static_cast<size_t>(v)].push_back(key);
    }
  }

  struct Life {
    int first = -1,
        release = 0;  // steps; the bytes are free from the first wait after the last use
  };

  std::vector<Life> lifetimes() const {
    const int steps = static_cast<int>(plan_.steps.size());
    std::vector<int> next_sync(static_cast<size_t>(steps) + 1, steps);
    for (int s = steps; s-- > 0;)
      next_sync[static_cast<size_t>(s)] =
          plan_.steps[static_cast<size_t>(s)].sync ? s : next_sync[static_cast<size_t>(s) + 1];
    std::vector<Life> lives(plan_.values.size());
    for (int s = 0; s < steps; s++) {
      const Step& step = plan_.steps[static_cast<size_t>(s)];
      for (int v : {step.in, step.in2, step.out}) {
        if (v < 0) continue;
        Life& life = lives[static_cast<size_t>(v)];
        if (life.first < 0) life.first = s;
        life.release = next_sync[static_cast<size_t>(s) + 1];
      }
    }
    if (plan_.logits >= 0) lives[static_cast<size_t>(plan_.logits)].release = steps + 1;
    return lives;
  }

  // First fit: each value takes the lowest bytes that no living value holds.
  void place_values() {
    place_syncs();
    const std::vector<Life> lives = lifetimes();
    struct Block {
      int64_t begin, end;
      int release;
    };
    std::vector<Block> blocks;
    for (int s = 0; s < static_cast<int>(plan_.steps.size()); s++)
      for (size_t v = 0; v < lives.size(); v++) {
        Value& value = plan_.values[v];
        if (lives[v].first != s || value.constant) continue;
        std::erase_if(blocks, [&](const Block& b) { return b.release <= s; });
        std::sort(blocks.begin(), blocks.end(),
                  [](const Block& a, const Block& b) { return a.begin < b.begin; });
        const int64_t rows = int64_t{value.rows} * batch_;
        const int64_t data = align(rows * value.stride * (value.codes ? 1 : 4));
        const int64_t bytes = data + (value.codes ? align(rows * 4) : 0);
        int64_t at = 0;
        for (const Block& b : blocks)
          if (b.begin < at + bytes) at = std::max(at, b.end);
        value.offset = at;
        value.sums = at + data;
        blocks.push_back({at, at + bytes, lives[v].release});
        plan_.arena_bytes = std::max(plan_.arena_bytes, at + bytes);
      }
  }

  static int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  const QuantModel& model_;
  const Graph& graph_;
  const int batch_;
  std::vector<int> need_;
  std::vector<std::vector<int>> consumers_;
  std::vector<int> floats_,
      codes_;  // per node: its value as floats or codes; -1 none yet, -2 never needed
  Plan plan_;
};

}  // namespace

Plan make_plan(const QuantModel& model, int batch, bool all_rows) {
  return Planner(model, batch, all_rows).make();
}

}  // namespace vitrun
