#include "quant/quantized_graph.h"

#include "models/graph/rewrite.h"

namespace vitrun {
namespace {

class Inserter {
 public:
  Inserter(const Graph& graph, const std::vector<Site>& sites,
           const std::vector<CodeParams>& params)
      : from_(graph), sites_(sites), params_(params) {
    out_.graph.params = graph.params;
  }

  QuantizedGraph run() {
    for (int i = 0; i < from_.size(); i++) {
      Node n = from_[i];
      for (int& in : n.in) in = at(moved_, in);
      for (size_t s = 0; s < sites_.size(); s++)
        if (sites_[s].consumer == i) quantize_operand(s, n);
      moved_.push_back(append(std::move(n), i));
    }
    for (Output o : from_.outputs) {
      o.node = at(moved_, o.node);
      out_.graph.outputs.push_back(o);
    }
    drop_unneeded();
    return std::move(out_);
  }

 private:
  int append(Node n, int original) {
    out_.graph.nodes.push_back(std::move(n));
    out_.original.push_back(original);
    return out_.graph.size() - 1;
  }

  void quantize_operand(size_t s, Node& consumer) {
    const Site& site = sites_[s];
    const int quantize = quantizer(s);
    int& in = at(consumer.in, site.operand);
    if (at(moved_, site.node) == in) {
      in = quantize;
    } else {  // the consumer is a convolution, whose Window now reads codes
      Node window = out_.graph[in];
      window.in = {quantize};
      in = append(std::move(window), -1);
    }
    // The Quantize holds the operand's columns alone, so that they begin at 0.
    if (consumer.kind == NodeKind::kScores)
      consumer.attributes[site.operand ? Attribute::kKeyBegin : Attribute::kQueryBegin] = 0;
    if (consumer.kind == NodeKind::kMix && site.operand == 1)
      consumer.attributes[Attribute::kValueBegin] = 0;
  }

  // Returns the Quantize of a site, an equal one of an earlier site if there is one.
  int quantizer(size_t s) {
    const Site& site = sites_[s];
    const auto equal = [&](size_t other) {
      return sites_[other].node == site.node && sites_[other].begin == site.begin &&
             sites_[other].end == site.end && params_[other].same_as(params_[s]);
    };
    for (const auto& [other, node] : made_)
      if (equal(other)) return node;
    Node n;
    n.kind = NodeKind::kQuantize;
    n.name = quantize_name(site);
    n.in = {at(moved_, site.node)};
    n.unit = site.unit;
    n.block = from_[site.consumer].block;
    if (!site.softmax) {  // a softmax output is quantized whole, at any size of the input
      n.attributes[Attribute::kBegin] = site.begin;
      n.attributes[Attribute::kEnd] = site.end;
    }
    const int node = append(std::move(n), -1);
    set_code_params(out_.graph, node, params_[s], out_.quantizers);
    made_.emplace_back(s, node);
    return node;
  }

  void drop_unneeded() {
    const std::vector<int> to = prune(out_.graph);
    std::vector<int> original(out_.graph.nodes.size());
    for (int i = 0; i < count_of(to); i++)
      if (at(to, i) >= 0) at(original, at(to, i)) = at(out_.original, i);
    out_.original = std::move(original);
  }

  const Graph& from_;
  const std::vector<Site>& sites_;
  const std::vector<CodeParams>& params_;
  std::vector<int> moved_;                    // node of the float graph -> node of out_
  std::vector<std::pair<size_t, int>> made_;  // each site with a Quantize of its own, and that
  QuantizedGraph out_;
};

}  // namespace

QuantizedGraph insert_quantizers(const Graph& graph, const std::vector<Site>& sites,
                                 const std::vector<CodeParams>& params) {
  return Inserter(graph, sites, params).run();
}

}  // namespace vitrun
