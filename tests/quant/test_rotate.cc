// Rotations against the golden logits of timm and against what an orthogonal matrix must keep;
// ranges by head against heads that are multiples of each other.
#include <doctest/doctest.h>

#include <cmath>

#include "quant/pipeline.h"
#include "quant/rewrite/rotate.h"
#include "runtime/files/npy.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";

FloatModel load(const std::string& name) {
  FloatModel model = load_float_model(kModels + name + ".safetensors", "");
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
  for (size_t i = 0; i < model.graph.nodes.size(); i++) {
    const Node& n = model.graph.nodes[i];
    CAPTURE(n.name);
    const auto width = static_cast<size_t>(n.cols);
    if (n.kind == NodeKind::kTokens || (n.kind == NodeKind::kAdd && n.alpha == 1)) {
      CHECK(difference(is[i], was[i]) > 0.1);
      CHECK(difference(moments(is[i], width), moments(was[i], width)) < 1e-5);
    } else if (n.kind == NodeKind::kScores || n.kind == NodeKind::kAct) {
      CHECK(difference(is[i], was[i]) < 1e-4);
    } else if (n.kind == NodeKind::kNorm) {
      for (float gamma : model.weights.at(n.weight).data) CHECK(gamma == 1);
      for (float beta : model.weights.at(n.bias).data) CHECK(beta == 0);
    }
  }
}

TEST_CASE("q and k are turned within each head, their products and v kept") {
  for (const char* name : {"vit", "swin_padded"}) {
    const FloatModel before = load(name);
    FloatModel model = before;
    rotate_scores(model);
    const Tensor images = read_npy(kModels + std::string(name) + ".input.npy");
    const auto was = values_of(before, images), is = values_of(model, images);
    for (size_t i = 0; i < model.graph.nodes.size(); i++) {
      const Node& n = model.graph.nodes[i];
      if (n.kind != NodeKind::kScores) continue;
      CAPTURE(n.name);
      const auto qkv = static_cast<size_t>(n.in[0]);
      const AttentionGeometry& g = model.graph.attention[static_cast<size_t>(n.attention)];
      const int64_t dim = int64_t{g.heads} * g.head_dim;
      CHECK(difference(is[i], was[i]) < 1e-4);
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
  const AttentionGeometry& g = model.graph.attention[0];
  REQUIRE(g.heads == 2);
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
  for (size_t i = 0; i < quantized.sites().size(); i++) {
    const auto& heads = quantized.site_params()[i].heads;
    if (quantized.sites()[i].name.starts_with("blocks.0.attn.matmul")) {
      REQUIRE(heads.size() == 2);
      CHECK(heads[1].scale == doctest::Approx(8 * heads[0].scale));
      CHECK(heads[1].zero == heads[0].zero);
      seen++;
    }
    if (quantized.graph()[quantized.sites()[i].consumer].kind == NodeKind::kLinear)
      CHECK(heads.empty());
  }
  CHECK(seen == 3);
}

}  // namespace
}  // namespace vitrun
