// Tests where insert_quantizers() puts Quantize nodes and who shares one; the parameters of a
// Quantize as attributes and tensors, and back.
#include <doctest/doctest.h>

#include <random>
#include <set>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "models/graph/builder.h"
#include "quant/quantized_graph.h"
#include "quant/ranges/calibrate.h"
#include "runtime/files/model_file.h"
#include "runtime/float/fake_quant.h"

namespace vitrun {
namespace {

// One value, `shared`, that four Linears read, one of them through a Window.
Graph four_readers() {
  GraphBuilder b;
  const int map = b.map("map", 2, 4, 4);
  const int x = b.linear(map, "shared", 4);
  const int window = b.window(x, "conv.window", 3, 1, ElementOrder::kRowsFirst, 1);
  const int conv = b.linear(window, "conv", 5);
  const int left = b.linear(x, "left", 3), right = b.linear(x, "right", 3),
            third = b.linear(x, "third", 3);
  b.output("all", b.concat({conv, left, right, third}, "all", 1));
  return b.finish();
}

Weights random_weights(const Graph& graph) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  Weights weights;
  for (const Param& p : graph.params) {
    Tensor t(p.dims);
    for (float& x : t.data) x = normal(random);
    weights[p.name] = std::move(t);
  }
  return weights;
}

// The parameters of every site, all alike but for the scale.
std::vector<CodeParams> with_scales(const std::vector<Site>& sites,
                                    const std::map<std::string, float>& scales) {
  std::vector<CodeParams> params;
  for (const Site& s : sites) params.push_back({.scale = scales.at(s.name), .zero = 100});
  return params;
}

int quantizers_of(const Graph& graph) {
  return static_cast<int>(std::ranges::count_if(
      graph.nodes, [](const Node& n) { return n.kind == NodeKind::kQuantize; }));
}

TEST_CASE("readers of a value at different scales get a Quantize each, equal ones share one") {
  const Graph graph = four_readers();
  const std::vector<Site> sites = activation_sites(graph);
  REQUIRE(sites.size() == 5);
  const auto params = with_scales(
      sites, {{"shared", 1}, {"left", 0.5f}, {"right", 0.25f}, {"third", 0.5f}, {"conv", 2}});
  const QuantizedGraph q = insert_quantizers(graph, sites, params);
  const auto read_by = [&](const std::string& name) {
    return q.graph[q.graph.find(name)].in.at(0);
  };
  CHECK(quantizers_of(q.graph) == 4);
  CHECK(read_by("left") == read_by("third"));
  CHECK(read_by("left") != read_by("right"));
  for (size_t i = 0; i < sites.size(); i++) {
    const Site& s = sites[i];
    CAPTURE(s.name);
    int quantize = read_by(s.name);
    if (s.name == "conv") {  // its Window reads codes
      REQUIRE(q.graph.is(quantize, NodeKind::kWindow));
      CHECK(q.original.at(static_cast<size_t>(quantize)) == -1);
      quantize = q.graph[quantize].in[0];
    }
    REQUIRE(q.graph.is(quantize, NodeKind::kQuantize));
    CHECK(q.original.at(static_cast<size_t>(quantize)) == -1);
    CHECK(code_params(q.graph[quantize], q.quantizers).same_as(params[i]));
    CHECK(q.graph[q.graph[quantize].in[0]].name == graph[s.node].name);
    if (s.name != "third") CHECK(operand_name(q.graph[quantize]) == s.name);
  }
  for (int i = 0; i < q.graph.size(); i++)
    if (const int was = q.original.at(static_cast<size_t>(i)); was >= 0)
      CHECK(q.graph[i].name == graph[was].name);
  int windows = 0;  // that of the float value is gone
  for (const Node& n : q.graph.nodes) windows += n.kind == NodeKind::kWindow;
  CHECK(windows == 1);
}

TEST_CASE("a convolution shares the Quantize of its map with others that read it") {
  const Graph graph = four_readers();
  const std::vector<Site> sites = activation_sites(graph);
  const auto params = with_scales(
      sites, {{"shared", 1}, {"left", 0.5f}, {"right", 0.25f}, {"third", 0.5f}, {"conv", 0.25f}});
  const QuantizedGraph q = insert_quantizers(graph, sites, params);
  CHECK(quantizers_of(q.graph) == 3);
  const int window = q.graph[q.graph.find("conv")].in[0];
  CHECK(q.graph[window].in[0] == q.graph[q.graph.find("right")].in[0]);
}

TEST_CASE("the float engine's values of Quantize nodes are the rounded values") {
  const Graph graph = four_readers();
  const std::vector<Site> sites = activation_sites(graph);
  const auto params = with_scales(
      sites, {{"shared", 0.1f}, {"left", 0.5f}, {"right", 0.25f}, {"third", 0.5f}, {"conv", 1}});
  const QuantizedGraph q = insert_quantizers(graph, sites, params);
  Weights weights = random_weights(graph);
  weights.insert(q.quantizers.begin(), q.quantizers.end());
  check_weights(q.graph, weights, "quantized", "none");
  Tensor map({2, 4, 4, 2});
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (float& x : map.data) x = normal(random);
  std::vector<Tensor> values(q.graph.nodes.size());
  Reference(q.graph, weights, 1).run(map, [&](int node, Tensor& value) {
    values[static_cast<size_t>(node)] = value;
  });
  int compared = 0;
  for (size_t i = 0; i < sites.size(); i++) {
    const int quantize = q.graph.find(sites[i].name + ".codes");
    if (quantize < 0) continue;  // third's, which is left's
    CAPTURE(sites[i].name);
    Tensor want = at(values, q.graph[quantize].in[0]);
    const Tensor exact = want;
    fake_quantize(sites[i], params[i], want);
    CHECK(at(values, quantize).data == want.data);
    CHECK(want.data != exact.data);
    compared++;
  }
  CHECK(compared == 4);
}

TEST_CASE("q, k and v get their columns; an image is rounded behind its Window") {
  const FloatModel vit = load_float_model(VITRUN_TEST_DIR "/golden/models/vit.safetensors");
  const std::vector<Site> sites = activation_sites(vit.graph);
  const QuantizedGraph q =
      insert_quantizers(vit.graph, sites, std::vector<CodeParams>(sites.size()));
  const Shapes shapes = infer_shapes(q.graph), before = infer_shapes(vit.graph);
  const Node& embed = q.graph[q.graph.find(Role::kPatchEmbed)];
  REQUIRE(q.graph.is(embed.in[0], NodeKind::kQuantize));
  CHECK(q.graph.is(q.graph[embed.in[0]].in[0], NodeKind::kWindow));
  int attentions = 0;
  for (int i = 0; i < q.graph.size(); i++) {
    const Node& n = q.graph[i];
    if (n.kind != NodeKind::kMix) continue;
    attentions++;
    CAPTURE(n.name);
    REQUIRE(q.graph.is(n.in[0], NodeKind::kQuantize));
    CHECK(is_softmax(q.graph, q.graph[n.in[0]].in[0]));
    const int scores = q.graph[q.graph[n.in[0]].in[0]].in[0];
    REQUIRE(q.graph.is(scores, NodeKind::kScores));
    const int qkv = vit.graph.find(cat("blocks.", n.block, ".attn.qkv"));
    const int dim = before[qkv].cols / 3;
    const int parts[] = {q.graph[scores].in[0], q.graph[scores].in[1], n.in[1]};
    CHECK(std::set<int>(parts, parts + 3).size() == 3);
    for (int part = 0; part < 3; part++) {
      const Node& quantize = q.graph[parts[part]];
      REQUIRE(quantize.kind == NodeKind::kQuantize);
      CHECK(q.original.at(static_cast<size_t>(quantize.in[0])) == qkv);
      CHECK(quantize.whole(Attribute::kBegin) == part * dim);
      CHECK(quantize.whole(Attribute::kEnd) == (part + 1) * dim);
      CHECK(shapes[parts[part]].cols == dim);
    }
    CHECK(shapes.geometry(scores).query_begin == 0);
    CHECK(shapes.geometry(scores).key_begin == 0);
    CHECK(n.whole(Attribute::kValueBegin) == 0);
  }
  CHECK(attentions == 2);
}

TEST_CASE("ranges, levels and ranges by head survive as a Quantize's attributes and tensors") {
  const SiteRange ranges[] = {
      {},
      {.bits = 3, .range = {1.f / 3, 7}},
      {.bits = 8, .range = {1e-30f, kMinZero}},
      {.bits = 6, .range = {3e20f, kMaxZero}},
      {.bits = 4, .range = {0.9f, 0}, .rate = 3.25f},
      {.bits = 5, .range = {0.01f, 0}, .twin = 0},
      {.bits = 5, .range = {0.01f, 0}, .twin = most_twin(5)},
      {.bits = 8, .twin = CodeParams::kCarriedCodes},
      {.bits = 3, .range = {0.3f, 12}, .levels = {{0, 2}, {5, 9}, {200, 255}}},
      {.bits = 4, .range = {1, 0}, .heads = {{0.1f, 3}, {1.f / 7, 0}, {2.5f, 15}}}};
  for (const SiteRange& range : ranges) {
    GraphBuilder b;
    const int map = b.map("map", 6, 2, 2);
    const int linear = b.linear(map, "linear", 2);
    b.output("all", linear);
    const Graph graph = b.finish();
    const QuantizedGraph q = insert_quantizers(graph, activation_sites(graph), {range.params()});
    const int quantize = q.graph[q.graph.find("linear")].in[0];
    const CodeParams back = code_params(q.graph[quantize], q.quantizers);
    CAPTURE(range.bits);
    CHECK(back.bits == range.bits);
    CHECK(UniformRange{back.scale, back.zero} == range.range);
    CHECK(back.rate == range.rate);
    CHECK(back.twin == range.twin);
    REQUIRE(back.levels.size() == range.levels.size());
    for (size_t i = 0; i < range.levels.size(); i++) {
      CHECK(back.levels[i].first == range.levels[i].first);
      CHECK(back.levels[i].level == range.levels[i].level);
    }
    CHECK(back.heads == range.heads);
    CHECK(back.same_as(range.params()));
    // The tensors are the graph's parameters too.
    Weights all = random_weights(graph);
    all.insert(q.quantizers.begin(), q.quantizers.end());
    check_weights(q.graph, all, "quantized", "none");
    CHECK(q.quantizers.size() == size_t{!range.levels.empty()} + size_t{!range.heads.empty()});
    infer_shapes(q.graph);
  }
}

TEST_CASE("parameters are the same only where all of them are") {
  const CodeParams base{.bits = 4, .scale = 0.5f, .zero = 3, .levels = {{0, 1}, {4, 9}}};
  const auto changed = [&](auto change) {
    CodeParams other = base;
    change(other);
    return !other.same_as(base);
  };
  CHECK(base.same_as(base));
  CHECK(changed([](CodeParams& p) { p.bits = 5; }));
  CHECK(changed([](CodeParams& p) { p.scale = 0.25f; }));
  CHECK(changed([](CodeParams& p) { p.zero = 4; }));
  CHECK(changed([](CodeParams& p) { p.rate = 3; }));
  CHECK(changed([](CodeParams& p) { p.twin = 0; }));
  CHECK(changed([](CodeParams& p) { p.levels[1].first = 5; }));
  CHECK(changed([](CodeParams& p) { p.levels[1].level = 8; }));
  CHECK(changed([](CodeParams& p) { p.levels.pop_back(); }));
  CHECK(changed([](CodeParams& p) { p.heads = {{0.5f, 3}}; }));
}

}  // namespace
}  // namespace vitrun
