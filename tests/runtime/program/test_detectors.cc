// Whole detectors in float against mmdetection: the models of tests/golden/detectors, which
// golden/make_detectors.py makes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/base/error.h"
#include "quant/quantize_detector.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/files/detector_file.h"
#include "runtime/files/npy.h"
#include "runtime/float/reference.h"
#include "runtime/integer/engine.h"
#include "runtime/integer/qmodel.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/vision/image.h"
#include "tests/runtime/files/qbin_testing.h"

using namespace vitrun;

namespace {

const std::string kFolder = std::string(VITRUN_TEST_DIR) + "/golden/detectors/";

std::vector<std::string> cases() {
  std::ifstream in(kFolder + "list.txt");
  std::vector<std::string> names;
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#') names.push_back(line.substr(0, line.find(' ')));
  return names;
}

nlohmann::json expected_of(const std::string& name) {
  std::ifstream in(kFolder + name + "/expected.json");
  return nlohmann::json::parse(in);
}

// Intersection over union of two masks of one size.
double overlap(const Rle& a, const Rle& b) {
  std::vector<uint8_t> x(array_size(a.height, a.width)), y(x.size());
  decode_rle(a, x);
  decode_rle(b, y);
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < x.size(); i++) both += x[i] & y[i], either += x[i] | y[i];
  return either ? static_cast<double>(both) / static_cast<double>(either) : 1;
}

// The largest difference of the corners, in pixels.
double distance(const Box& a, const nlohmann::json& b) {
  const float mine[] = {a.x1, a.y1, a.x2, a.y2};
  double worst = 0;
  for (size_t i = 0; i < 4; i++)
    worst = std::max(worst, std::fabs(double{mine[i]} - b.at(i).get<double>()));
  return worst;
}

// Checks that each expected detection was found. mmdetection's answers are rounded to 4 decimals of
// a pixel; a mask's pixel at exactly one half may fall on either side.
void check_case(const std::string& name) {
  CAPTURE(name);
  const auto model = open_detector(kFolder + name, {});
  const Image image = load_image(kFolder + name + "/image.png");
  const Detections found = model->run(view_of(image));
  const nlohmann::json expected = expected_of(name).at("detections");
  CHECK(found.found.size() == expected.size());
  REQUIRE(found.masks.size() == found.found.size());
  for (const auto& e : expected) {
    const auto closest = std::ranges::min_element(found.found, {}, [&](const Detection& d) {
      return d.label == e.at("class").get<int>() ? distance(d.box, e.at("box")) : 1e9;
    });
    REQUIRE(closest != found.found.end());
    CAPTURE(e.dump().substr(0, 100));
    CHECK(closest->label == e.at("class").get<int>());
    CHECK(distance(closest->box, e.at("box")) < 0.01);
    CHECK(std::fabs(double{closest->score} - e.at("score").get<double>()) < 1e-4);
    const auto& mask = e.at("mask");
    const Rle right = rle_of_text(mask.at("counts").get<std::string>(), mask.at("size").at(0),
                                  mask.at("size").at(1));
    CHECK(overlap(found.masks[static_cast<size_t>(closest - found.found.begin())], right) > 0.99);
  }
}

}  // namespace

TEST_CASE("detectors find what mmdetection finds") {
  const std::vector<std::string> names = cases();
  REQUIRE(names.size() >= 10);
  for (const std::string& name : names) check_case(name);
}

namespace {

Tensor part(const std::string& model, const std::string& name) {
  return read_npy(kFolder + model + "/parts/" + name + ".npy");
}

// |x - y| / |y| over all elements.
double error(const Tensor& x, const Tensor& y) {
  REQUIRE(x.data.size() == y.data.size());
  double difference = 0, energy = 0;
  for (size_t i = 0; i < y.data.size(); i++) {
    difference += std::pow(double{x.data[i]} - double{y.data[i]}, 2);
    energy += std::pow(double{y.data[i]}, 2);
  }
  return std::sqrt(difference / energy);
}

}  // namespace

TEST_CASE("the networks of a detector give mmdetection's maps, scores and deltas") {
  const FloatDetector model = load_float_detector(kFolder + "mask");
  GraphNetworks networks(model.detector, [&](const std::string& graph, const Tensor& input,
                                             const std::vector<std::string>& names) {
    const FloatModel& m = model.parts.at(graph);
    Reference engine(m.graph, m.weights, 1);
    return engine.run_outputs(input, names);
  });
  const BackboneOutputs out = networks.backbone(part("mask", "input"));
  for (size_t i = 0; i < 4; i++)
    CHECK(error(out.maps.at(i).rows, part("mask", cat("map_", i + 2))) < 1e-5);
  for (size_t i = 0; i < 5; i++) {
    CHECK(error(out.scores.at(i), part("mask", cat("scores_", i + 2))) < 1e-5);
    CHECK(error(out.deltas.at(i), part("mask", cat("deltas_", i + 2))) < 1e-5);
  }
}

namespace {

// Runs a graph on several inputs at once, and each input alone.
std::vector<Tensor> run_engine(const QuantGraph& graph, const Tensor& input,
                               const std::vector<std::string>& names, int threads) {
  Engine engine(graph, {.threads = threads, .max_batch = static_cast<int>(input.dims[0])});
  return engine.run_outputs(input, names);
}

Tensor roi_maps(const std::string& model, const std::string& name, int bins) {
  Tensor rois = part(model, name);
  rois.dims = {rois.dims[0], bins, bins, rois.dims.back()};
  return rois;
}

}  // namespace

// The float engine on the dequantized weights computes the same products, but where its sums have
// another order, as on ARM, a value at the border of two codes gets the other one, and in a network
// of 8 channels all that follows moves by some steps of 8 bits. An error of the engine would be of
// the size of the values.
TEST_CASE("a quantized detector's graphs compute what their codes stand for, in batches too") {
  FloatDetector model = load_float_detector(kFolder + "mask");
  const Image photo = load_image(kFolder + "mask/image.png");
  QuantizedDetector quantized =
      quantize_detector(std::move(model), {1, [&](int64_t) { return photo; }}, {});
  const std::vector<uint8_t> bytes = quantized.file.serialize();
  const Aligned copy(bytes);
  const QuantModel file(QbinFile::from_memory(copy.bytes(), "detector"));
  REQUIRE(file.detector());
  CHECK(file.info().num_classes == 3);
  struct Part {
    const char* graph;
    Tensor input;
    std::vector<std::string> outputs;
  };
  const Part parts[] = {
      {"backbone", part("mask", "input"), {"p2", "p3", "p4", "p5", "p6"}},
      {"box.0", roi_maps("mask", "box_features_0", 7), {"logits", "deltas"}},
      {"mask.0", roi_maps("mask", "mask_features", 14), {"masks"}},
  };
  for (const Part& p : parts) {
    CAPTURE(p.graph);
    const QuantGraph& graph = file.graph(p.graph);
    const Weights weights = dequantize_weights(graph);
    Reference reference(graph.graph, weights, 1);
    const std::vector<Tensor> found = run_engine(graph, p.input, p.outputs, 1),
                              expected = reference.run_outputs(p.input, p.outputs);
    for (size_t i = 0; i < found.size(); i++) CHECK(error(found[i], expected[i]) < 0.06);
    const std::vector<Tensor> threads = run_engine(graph, p.input, p.outputs, 3),
                              first = run_engine(graph, slice(p.input, 0, 1), p.outputs, 1);
    for (size_t i = 0; i < found.size(); i++) {
      CHECK(threads[i].data == found[i].data);
      CHECK(std::ranges::equal(first[i].data, slice(found[i], 0, 1).data));
    }
  }
}
