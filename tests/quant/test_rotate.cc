// Rotations against the golden logits of timm and against what an orthogonal matrix must keep;
// ranges by head against heads that are multiples of each other.
#include <doctest/doctest.h>

#include <cmath>

#include "quant/pipeline.h"
#include "quant/quantized_graph.h"
#include "quant/rewrite/rotate.h"
#include "runtime/files/npy.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

FloatModel load(const std::string& name) {
  FloatModel model = load_float_model(kModels + name + ".safetensors");
  fold_layer_scale(model);
  return model;
}

std::vector<Tensor> values_of(const FloatModel& model, const Tensor& images) {
  std::vector<Tensor> values(model.graph.nodes.size());
  Reference(model.graph, model.weights, 1).run(images, [&](int node, Tensor& value) {
    values[static_cast<size_t>(node)] = value;
  });
  return values;
}

// Largest difference over the largest value.
double difference(const Tensor& a, const Tensor& b) {
  double worst = 0, top = 0;
  for (size_t i = 0; i < a.data.size(); i++) {
    worst = std::max(worst, std::fabs(double{a.data[i]} - double{b.data[i]}));
    top = std::max(top, std::fabs(double{b.data[i]}));
  }
  return worst / top;
}

// Mean and Euclidean norm of each run of `n` values, as a tensor.
Tensor moments(const Tensor& value, size_t n) {
  Tensor out({static_cast<int64_t>(value.data.size() / n), 2});
  for (size_t i = 0; i < value.data.size(); i += n) {
    double sum = 0, squares = 0;
    for (size_t j = i; j < i + n; j++) {
      sum += double{value.data[j]};
      squares += double{value.data[j]} * double{value.data[j]};
    }
    out.data[2 * i / n] = static_cast<float>(sum / static_cast<double>(n));
    out.data[2 * i / n + 1] = static_cast<float>(std::sqrt(squares));
  }
  return out;
}

// Columns [begin, end) of every row.
Tensor columns(const Tensor& value, int64_t begin, int64_t end) {
  Tensor out({value.dims[0] * value.dims[1], end - begin});
  for (int64_t row = 0, at = 0; row < out.dims[0]; row++)
    for (int64_t c = begin; c < end; c++, at++)
      out.data[static_cast<size_t>(at)] = value.data[static_cast<size_t>(row * value.dims[2] + c)];
  return out;
}

TEST_CASE("a rotated model has timm's logits") {
  for (const char* name : {"vit", "vit_oblong", "deit_distilled", "deit3", "swin", "swin_padded"}) {
    const std::string model_name = name;
    CAPTURE(model_name);
    FloatModel model = load(name);
    rotate_residual(model);
    rotate_scores(model);
    const Tensor got =
        Reference(model.graph, model.weights, 1).run(read_npy(kModels + name + ".input.npy"));
    CHECK(difference(got, read_npy(kModels + name + ".logits.npy")) < 1e-4);
  }
}

TEST_CASE("the residual stream is turned, its means, norms and what follows LayerNorms kept") {
  const FloatModel before = load("deit_distilled");
  FloatModel model = before;
  rotate_residual(model);
  const Tensor images = read_npy(kModels + "deit_distilled.input.npy");
  const auto was = values_of(before, images), is = values_of(model, images);
  const Shapes shapes = infer_shapes(before.graph);
  int turned = 0, kept = 0;
  for (int i = 0; i < before.graph.size(); i++) {
    const Node& n = before.graph[i];
    CAPTURE(n.name);
    const int found = model.graph.find(n.name);
    const auto width = static_cast<size_t>(shapes[i].cols);
    if (n.role == Role::kEmbedding || n.role == Role::kResidual) {
      REQUIRE(found >= 0);
      CHECK(difference(at(is, found), at(was, i)) > 0.1);
      CHECK(difference(moments(at(is, found), width), moments(at(was, i), width)) < 1e-5);
      turned++;
    } else if (n.kind == NodeKind::kScores || n.kind == NodeKind::kAct) {
      REQUIRE(found >= 0);
      CHECK(difference(at(is, found), at(was, i)) < 1e-4);
      kept++;
    } else if (n.kind == NodeKind::kNorm) {
      REQUIRE(found >= 0);
      for (float gamma : model.weights.at(n.weight).data) CHECK(gamma == 1);
      for (float beta : model.weights.at(n.bias).data) CHECK(beta == 0);
    }
  }
  CHECK(turned == 5);  // the embedding and two branches of two blocks
  CHECK(kept == 4);
}

TEST_CASE("a rotated model has the embedding and the features that it had") {
  const std::vector<std::string> names = {"embedding", "features"};
  for (const char* name : {"vit", "vit_oblong", "deit_distilled", "deit3", "swin", "swin_padded"}) {
    const std::string model_name = name;
    CAPTURE(model_name);
    const Tensor images = read_npy(kModels + name + ".input.npy");
    const FloatModel before = load(name);
    FloatModel model = before;
    const bool rotated = rotate_residual(model);
    CHECK(rotated == !model_name.starts_with("swin"));  // whose stages differ in width
    check_weights(model.graph, model.weights, name, model.info.arch);
    const auto want = Reference(before.graph, before.weights, 1).run_outputs(images, names);
    const auto got = Reference(model.graph, model.weights, 1).run_outputs(images, names);
    for (size_t i = 0; i < names.size(); i++) {
      CAPTURE(names[i]);
      REQUIRE(got[i].dims == want[i].dims);
      CHECK(difference(got[i], want[i]) < 1e-4);
    }
    if (!rotated) continue;
    // They are turned back, and what feeds the head is not.
    const int restore = model.graph.find(Role::kRestore);
    REQUIRE(restore == model.graph.find("norm.restored"));
    CHECK(model.graph.output("features") == restore);
    CHECK(difference(values_of(model, images)[static_cast<size_t>(model.graph.find("norm"))],
                     want[1]) > 0.1);
  }
}

TEST_CASE("what turns outputs back has 8 bits, whatever others have") {
  const Tensor images = read_npy(kModels + "vit.input.npy");
  QuantizeOptions options;
  options.weight_bits = options.activation_bits = 3;
  options.rotate = Rotate::kAll;
  const Aligned bytes(quantize_model(load("vit"), tensor_source(images), options).file.serialize());
  const QuantModel quantized(QbinFile::from_memory(bytes.bytes(), "rotated"));
  const QuantGraph& graph = quantized.graph();
  int linears = 0;
  for (const QuantizedOperand& o : graph.operands()) {
    const Node& n = graph.graph[o.consumer];
    if (n.kind != NodeKind::kLinear) continue;
    CAPTURE(n.name);
    linears++;
    const bool restores = n.role == Role::kRestore;
    CHECK(graph.linear(o.consumer).bits == (restores ? 8 : 3));
    const bool eight = restores || n.role == Role::kPatchEmbed;
    CHECK(graph.quantizer(o.quantize).bits == (eight ? 8 : 3));
  }
  CHECK(linears == 2 * 4 + 3);
}

TEST_CASE("q and k are turned within each head, their products and v kept") {
  for (const char* name : {"vit", "swin_padded"}) {
    const FloatModel before = load(name);
    FloatModel model = before;
    rotate_scores(model);
    const Tensor images = read_npy(kModels + std::string(name) + ".input.npy");
    const auto was = values_of(before, images), is = values_of(model, images);
    const Shapes shapes = infer_shapes(model.graph);
    for (int i = 0; i < model.graph.size(); i++) {
      const Node& n = model.graph[i];
      if (n.kind != NodeKind::kScores) continue;
      CAPTURE(n.name);
      REQUIRE(n.in[0] == n.in[1]);
      const auto qkv = static_cast<size_t>(n.in[0]);
      const AttentionGeometry& g = shapes.geometry(i);
      const int64_t dim = int64_t{g.heads} * g.head_dim;
      CHECK(difference(at(is, i), at(was, i)) < 1e-4);
      CHECK(difference(columns(is[qkv], 2 * dim, 3 * dim), columns(was[qkv], 2 * dim, 3 * dim)) <
            1e-4);
      for (int64_t h = 0; h < 2 * g.heads; h++) {
        const Tensor a = columns(is[qkv], h * g.head_dim, (h + 1) * g.head_dim),
                     b = columns(was[qkv], h * g.head_dim, (h + 1) * g.head_dim);
        CHECK(difference(a, b) > 0.1);
        double norms_differ = 0;
        const Tensor x = moments(a, static_cast<size_t>(g.head_dim)),
                     y = moments(b, static_cast<size_t>(g.head_dim));
        for (size_t row = 1; row < x.data.size(); row += 2)
          norms_differ = std::max(norms_differ, std::fabs(double{x.data[row] / y.data[row]} - 1));
        CHECK(norms_differ < 1e-4);
      }
    }
  }
}

// Head 1 of q, k and v is made 8 times head 0: so are then all of its quantiles and its scale.
TEST_CASE("each head has its own range") {
  FloatModel model = load("vit");
  const Node& qkv = model.graph[model.graph.find("blocks.0.attn.qkv")];
  REQUIRE(infer_shapes(model.graph).attention.at(0).heads == 2);
  for (const std::string& name : {qkv.weight, qkv.bias}) {
    std::vector<float>& w = model.weights.at(name).data;
    const size_t head = w.size() / 6;
    for (size_t part = 0; part < 3; part++)
      for (size_t i = 0; i < head; i++) w[(2 * part + 1) * head + i] = 8 * w[2 * part * head + i];
  }
  QuantizeOptions options{.method = Method::kLayerwise, .heads = true};
  const Tensor images = read_npy(kModels + "vit.input.npy");
  const Aligned bytes(quantize_model(model, tensor_source(images), options).file.serialize());
  const QuantModel quantized(QbinFile::from_memory(bytes.bytes(), "heads"));
  int seen = 0;
  for (const QuantizedOperand& o : quantized.graph().operands()) {
    const Graph& graph = quantized.graph().graph;
    const auto& heads = quantized.graph().quantizer(o.quantize).heads;
    if (operand_name(graph[o.quantize]).starts_with("blocks.0.attn.matmul")) {
      REQUIRE(heads.size() == 2);
      CHECK(heads[1].scale == doctest::Approx(8 * heads[0].scale));
      CHECK(heads[1].zero == heads[0].zero);
      seen++;
    }
    if (graph.is(o.consumer, NodeKind::kLinear)) CHECK(heads.empty());
  }
  CHECK(seen == 3);
}

}  // namespace
}  // namespace vitrun
