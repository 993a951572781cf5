// Finds which nodes one step computes together, and which rows are needed at all.
#include <algorithm>

#include "runtime/integer/plan.h"

namespace vitrun {
namespace {

// Rows of input k that `need` rows of node i take.
int rows_of_input(const Graph& graph, const Shapes& shapes, int i, int k, int need) {
  const Node& n = graph[i];
  const Shape& x = shapes[at(n.in, k)];
  const int same = std::min(x.rows, need);
  switch (n.kind) {
    case NodeKind::kResize:  // of its second input only the size
      return k == 0 ? x.rows : 0;
    case NodeKind::kLinear:
    case NodeKind::kNorm:
    case NodeKind::kAct:
    case NodeKind::kMul:
    case NodeKind::kAdd:
    case NodeKind::kQuantize:
      return same;
    case NodeKind::kSoftmax:
    case NodeKind::kRope:
      return k == 0 ? same : x.rows;
    case NodeKind::kScores:
      return k == 0 && shapes.geometry(i).whole() ? same : x.rows;
    case NodeKind::kMix:
      return k == 0 && shapes.geometry(i).whole() ? same : x.rows;
    case NodeKind::kSlice:
      if (n.whole(Attribute::kAxis)) return same;
      return std::min(x.rows, slice_begin(n, x) + need);
    case NodeKind::kConcat: {
      if (n.whole(Attribute::kAxis)) return same;
      int before = 0;
      for (int j = 0; j < k; j++) before += shapes[at(n.in, j)].rows;
      return std::clamp(need - before, 1, x.rows);
    }
    default:
      return x.rows;
  }
}

}  // namespace

std::vector<int> rows_needed(const Graph& graph, const Shapes& shapes,
                             const std::vector<int>& outputs) {
  std::vector<int> need(graph.nodes.size(), 0);
  for (int o : outputs) at(need, o) = shapes[o].rows;
  for (int i = graph.size() - 1; i >= 0; i--) {
    if (at(need, i) == 0) continue;
    for (int k = 0; k < count_of(graph[i].in); k++) {
      int& of_input = at(need, at(graph[i].in, k));
      of_input = std::max(of_input, rows_of_input(graph, shapes, i, k, at(need, i)));
    }
  }
  return need;
}

namespace {

class Fuser {
 public:
  Fuser(const QuantGraph& model, const Shapes& shapes, const std::vector<int>& need,
        const std::vector<int>& outputs)
      : model_(model),
        graph_(model.graph),
        shapes_(shapes),
        need_(need),
        readers_(graph_.nodes.size()),
        computed_(graph_.nodes.size(), false),
        fusions_(graph_.nodes.size()) {
    for (int i = 0; i < graph_.size(); i++)
      if (at(need, i) > 0)
        for (int in : graph_[i].in) at(readers_, in).push_back(i);
    for (int o : outputs) at(readers_, o).push_back(kOutput);
  }

  // Goes in node order, so that what a step adds is known to be computed before it.
  std::vector<Fusion> run() {
    for (int i = 0; i < graph_.size(); i++) {
      if (at(computed_, i)) continue;
      Fusion& f = at(fusions_, i);
      if (graph_.is(i, NodeKind::kWindow)) f = fuse_window(i);
      if (graph_.is(i, NodeKind::kNorm)) f = fuse_norm(i);
      if (graph_.is(i, NodeKind::kLinear)) f = fuse_linear(i);
      if (graph_.is(i, NodeKind::kAct)) f = fuse_act(i);
      at(computed_, i) = true;
      if (f.last >= 0) at(computed_, f.last) = true;
    }
    return std::move(fusions_);
  }

 private:
  static constexpr int kOutput = -1;  // a reader that is an output

  // The only reader of a node if it is of this kind, else -1.
  int sole(int i, NodeKind kind) const {
    const auto& r = at(readers_, i);
    return r.size() == 1 && r[0] != kOutput && graph_.is(r[0], kind) ? r[0] : -1;
  }
  // Whether q rounds all columns of node i in one range, that of all rows or each row's own.
  bool becomes_codes(int i, int q, bool by_row) const {
    return graph_.is(q, NodeKind::kQuantize) && shapes_[q].cols == shapes_[i].cols &&
           model_.quantizer(q).heads.empty() && model_.quantizer(q).by_row() == by_row;
  }
  // The only reader, if it does.
  int sole_quantize(int i, bool by_row) const {
    const int q = sole(i, NodeKind::kQuantize);
    return q >= 0 && becomes_codes(i, q, by_row) ? q : -1;
  }
  static Fusion chain(Fusion::Kind kind, int last) {
    Fusion f;
    f.kind = kind;
    f.last = last;
    return f;
  }

  Fusion fuse_window(int i) const {
    const int in = graph_[i].in[0];
    if (shapes_[in].planar)
      return std::ranges::all_of(at(readers_, i),
                                 [&](int r) { return r != kOutput && becomes_codes(i, r, false); })
                 ? chain(Fusion::Kind::kPatches, i)
                 : Fusion{};
    if (graph_.is(in, NodeKind::kQuantize) && !at(readers_, i).empty() &&
        std::ranges::all_of(at(readers_, i),
                            [&](int r) { return r != kOutput && graph_.is(r, NodeKind::kLinear); }))
      return chain(Fusion::Kind::kGather, i);
    return {};
  }

  Fusion fuse_norm(int i) const {
    if (graph_[i].norm() == NormType::kL2)
      return graph_[i].bias.empty() && !graph_[i].weight.empty() && becomes_operands(i)
                 ? chain(Fusion::Kind::kCodes, i)
                 : Fusion{};
    const int cols = shapes_[i].cols;
    if (graph_[i].norm() != NormType::kLayer || shapes_[graph_[i].in[0]].cols != cols ||
        graph_[i].whole(Attribute::kGroup, cols) != cols)
      return {};
    if (const int q = std::max(sole_quantize(i, false), sole_quantize(i, true)); q >= 0)
      return chain(Fusion::Kind::kNormCodes, q);
    return fuse_add(i);
  }

  // Whether the kernels compute the activation on the way to codes.
  bool goes_to_codes(int act) const {
    return act >= 0 && activation_of(graph_[act].act()) && !graph_[act].has(Attribute::kLimit);
  }

  Fusion fuse_act(int i) const {
    const int q = goes_to_codes(i) ? sole_quantize(i, true) : -1;
    return q >= 0 ? chain(Fusion::Kind::kActRows, q) : Fusion{};
  }

  // A thread must have whole rows: of few rows it has columns, of a map with a row for padding not
  // all.
  Fusion fuse_row_codes(int i, int before_quantize) const {
    const int q = sole_quantize(before_quantize, true);
    return q >= 0 && at(need_, i) > kFewRows && !shapes_[i].pad_row &&
                   !graph_.is(graph_[i].in[0], NodeKind::kWindow)
               ? chain(Fusion::Kind::kRowCodes, q)
               : Fusion{};
  }

  Fusion fuse_linear(int i) const {
    if (const int act = sole(i, NodeKind::kAct); goes_to_codes(act)) {
      if (const int q = sole_quantize(act, false); q >= 0) return chain(Fusion::Kind::kActCodes, q);
      if (Fusion f = fuse_row_codes(i, act); f.last >= 0) return f;
    }
    if (Fusion f = fuse_row_codes(i, i); f.last >= 0) return f;
    if (Fusion f = fuse_embed(i); f.last >= 0) return f;
    if (Fusion f = fuse_add(i); f.last >= 0) return f;
    return becomes_operands(i) ? chain(Fusion::Kind::kCodes, i) : Fusion{};
  }

  Fusion fuse_add(int i) const {
    const int add = sole(i, NodeKind::kAdd);
    if (add < 0 || !can_add(i, add)) return {};
    Fusion f = chain(Fusion::Kind::kAdd, add);
    f.other = graph_[add].in[0] == i ? graph_[add].in[1] : graph_[add].in[0];
    return f;
  }

  // y = node i + other, of one shape, the other computed before it.
  bool can_add(int i, int add) const {
    const Node& a = graph_[add];
    const int other = a.in[0] == i ? a.in[1] : a.in[0];
    return a.alpha() == 1 && other != i && at(computed_, other) &&
           !graph_.is(other, NodeKind::kConst) && !shapes_[i].pad_row &&
           shapes_[other].size() == shapes_[i].size();
  }

  // Positions [rows, cols] that are added to a Linear's rows and, where `prefix` rows come before
  // them, to those of the prefix; -1: no such add.
  int positions_of(int add, int x, int rows) const {
    if (add < 0 || graph_[add].alpha() != 1 || graph_[add].in[0] != x) return -1;
    const int pos = graph_[add].in[1];
    return graph_.is(pos, NodeKind::kConst) && shapes_[pos].rows == rows &&
                   shapes_[pos].cols == shapes_[x].cols
               ? pos
               : -1;
  }
  // The constants in front of a Concat's last input x.
  bool concat_prefix(int concat, int x, std::vector<int>& prefix) const {
    if (concat < 0 || graph_[concat].whole(Attribute::kAxis) || graph_[concat].in.back() != x)
      return false;
    prefix.assign(graph_[concat].in.begin(), graph_[concat].in.end() - 1);
    return std::ranges::all_of(prefix, [&](int p) { return graph_.is(p, NodeKind::kConst); });
  }

  Fusion fuse_embed(int i) const {
    if (shapes_[i].pad_row) return {};
    Fusion f;
    const int concat = sole(i, NodeKind::kConcat), add = sole(i, NodeKind::kAdd);
    if (concat_prefix(concat, i, f.prefix)) {
      const int after = sole(concat, NodeKind::kAdd);
      f.other = positions_of(after, concat, shapes_[concat].rows);
      if (f.other < 0) return {};
      f.last = after;
    } else {
      f.other = positions_of(add, i, shapes_[i].rows);
      if (f.other < 0) return {};
      f.last = add;
      if (const int behind = sole(add, NodeKind::kConcat); concat_prefix(behind, add, f.prefix))
        f.last = behind;
      else
        f.prefix.clear();
    }
    f.kind = Fusion::Kind::kEmbed;
    return f;
  }

  // Whether all that read a node round parts of its columns for attention.
  bool becomes_operands(int i) const {
    return !at(readers_, i).empty() && std::ranges::all_of(at(readers_, i), [&](int q) {
      return q != kOutput && graph_.is(q, NodeKind::kQuantize) &&
             model_.quantizer(q).levels.empty() && model_.quantizer(q).group == 0 &&
             !at(readers_, q).empty() && std::ranges::all_of(at(readers_, q), [&](int r) {
               return r != kOutput &&
                      (graph_.is(r, NodeKind::kScores) || graph_.is(r, NodeKind::kMix));
             });
    }) && disjoint(at(readers_, i));
  }

  bool disjoint(std::vector<int> quantizers) const {
    const auto begin = [&](int q) { return graph_[q].whole(Attribute::kBegin); };
    std::ranges::sort(quantizers, {}, begin);
    for (size_t k = 1; k < quantizers.size(); k++)
      if (begin(quantizers[k - 1]) + shapes_[quantizers[k - 1]].cols > begin(quantizers[k]))
        return false;
    return true;
  }

  const QuantGraph& model_;
  const Graph& graph_;
  const Shapes& shapes_;
  const std::vector<int>& need_;
  std::vector<std::vector<int>> readers_;
  std::vector<bool> computed_;  // by the steps of the nodes so far
  std::vector<Fusion> fusions_;
};

}  // namespace

std::vector<Fusion> fuse(const QuantGraph& model, const Shapes& shapes,
                         const std::vector<int>& need, const std::vector<int>& outputs) {
  return Fuser(model, shapes, need, outputs).run();
}

}  // namespace vitrun
