// The perturbation test against its definition, written out again for one model.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "lrp/report/perturb.h"
#include "models/base/error.h"
#include "runtime/files/model_file.h"
#include "runtime/files/npy.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

int argmax(const Tensor& logits) {
  return static_cast<int>(std::max_element(logits.data.begin(), logits.data.end()) -
                          logits.data.begin());
}

// The image without the patches in which `gone` says so, pixel by pixel.
Tensor masked(const Graph& graph, Tensor image, const std::set<int>& gone) {
  const int64_t p = graph[graph.find(NodeKind::kWindow)].whole(Attribute::kKernelHeight),
                height = image.dims[2], width = image.dims[3];
  for (int64_t i = 0; i < element_count(image.dims); i++)
    if (gone.contains(static_cast<int>(i / width % height / p * (width / p) + i % width / p)))
      image.data[static_cast<size_t>(i)] = 0;
  return image;
}

TEST_CASE("accuracy without the most relevant patches") {
  for (const char* name : {"vit", "vit_oblong", "swin"}) {
    CAPTURE(name);
    const FloatModel m = load_float_model(model(name));
    const Tensor images = read_npy(input_of(name));
    Reference forward(m.graph, m.weights, 1);
    RelevanceEngine engine(m.graph, m.weights, 1);
    const auto maps = engine.run(images, {-1, -1}, true);
    const std::vector<int> labels = {maps[0].target,
                                     maps[1].target};  // right while nothing is gone

    PerturbationTest test(m.graph, m.weights, 2), single(m.graph, m.weights, 1);
    test.add(images, labels);
    for (int i = 0; i < 2; i++) single.add(slice(images, i, 1), {labels[static_cast<size_t>(i)]});
    const auto curves = test.curves(), same = single.curves();
    REQUIRE(curves.size() == (std::string(name) == "swin" ? 2 : 3));
    for (size_t c = 0; c < curves.size(); c++) CHECK(curves[c].accuracy == same[c].accuracy);

    double area = 0;
    for (size_t step = 0; step < 10; step++) {
      int right = 0;
      for (size_t i = 0; i < 2; i++) {
        const auto& map = maps[i].heatmap;
        std::vector<int> order(map.size());
        for (size_t k = 0; k < order.size(); k++) order[k] = static_cast<int>(k);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
          return map[static_cast<size_t>(a)] > map[static_cast<size_t>(b)];
        });
        const std::set<int> gone(
            order.begin(), order.begin() + static_cast<std::ptrdiff_t>(order.size() * step / 10));
        const Tensor image = slice(images, static_cast<int64_t>(i), 1);
        right += argmax(forward.run(masked(m.graph, image, gone))) == labels[i];
      }
      CHECK(curves[0].accuracy[step] == doctest::Approx(right / 2.0));
      area += right / 2.0 * (step == 0 || step == 9 ? 0.05 : 0.1);
    }
    CHECK(curves[0].area == doctest::Approx(area));
    for (const PerturbationCurve& c : curves) CHECK(c.accuracy[0] == 1);
  }
}

TEST_CASE("attention rollout is the class token's row of the product of the averaged blocks") {
  const FloatModel m = load_float_model(model("vit"));
  const Tensor image = slice(read_npy(input_of("vit")), 0, 1);
  Reference forward(m.graph, m.weights, 1);
  std::vector<std::vector<double>> product;  // [t, t]
  forward.run(image, [&](int node, Tensor& value) {
    if (!m.graph.is(node, NodeKind::kSoftmax)) return;
    const size_t t = static_cast<size_t>(value.dims[2]), heads = value.data.size() / t / t;
    std::vector<std::vector<double>> block(t, std::vector<double>(t)), next = block;
    for (size_t i = 0; i < t; i++)
      for (size_t j = 0; j < t; j++) {
        for (size_t h = 0; h < heads; h++)
          block[i][j] += static_cast<double>(value.data[(h * t + i) * t + j]);
        block[i][j] = 0.5 * block[i][j] / static_cast<double>(heads) + (i == j ? 0.5 : 0);
      }
    if (product.empty()) {
      product = block;
      return;
    }
    for (size_t i = 0; i < t; i++)
      for (size_t j = 0; j < t; j++)
        for (size_t k = 0; k < t; k++) next[i][j] += block[i][k] * product[k][j];
    product = next;
  });
  const std::vector<float> found = attention_rollout(forward, image);
  REQUIRE(found.size() + 1 == product.size());
  for (size_t i = 0; i < found.size(); i++)
    CHECK(found[i] == doctest::Approx(product[0][i + 1]).epsilon(1e-5));
}

TEST_CASE("cli: perturb prints and writes its curves, and wants labels") {
  const TempFolder folder;
  std::string list, unlabelled;
  for (int i = 0; i < 3; i++) {
    folder.file(cat(i, ".bmp"), bmp(20, 18, i + 1));
    list += cat(i, ".bmp ", i, "\n");
    unlabelled += cat(i, ".bmp\n");
  }
  const std::string path = folder.file("list.txt", list), out = folder / "c.json";
  const std::string text = output_of(
      {"vitlrp", "perturb", "-w", model("vit"), "--images", path, "--limit", "2", "-o", out});
  CHECK(text.find("attention rollout") != std::string::npos);
  const auto document = nlohmann::json::parse(read_bytes(out));
  CHECK(document["images"] == 2);
  CHECK(document["curves"].size() == 3);
  for (const auto& curve : document["curves"]) CHECK(curve["accuracy"].size() == 10);
  const std::string bare = folder.file("bare.txt", unlabelled);
  CHECK(execute({"vitlrp", "perturb", "-w", model("vit"), "--images", bare}).status == 1);
  CHECK(execute({"vitlrp", "perturb", "-w", model("vit"), "--raw", input_of("vit")}).status == 2);
}

}  // namespace
}  // namespace vitrun
