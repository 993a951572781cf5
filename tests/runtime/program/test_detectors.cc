// Whole detectors in float against mmdetection: the models of tests/golden/detectors, which
// golden/make_detectors.py makes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/base/error.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/files/detector_file.h"
#include "runtime/files/npy.h"
#include "runtime/float/reference.h"
#include "runtime/program/object_detector.h"
#include "runtime/vision/image.h"

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
  const Detections found =
      model->run({image.rgb.data(), image.width, image.height, int64_t{3} * image.width});
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
    std::vector<Tensor> out = engine.run_outputs(input, names);
    for (Tensor& t : out)
      if (t.dims.size() == 2) t.dims = {t.dims[0], 1, t.dims[1]};
    return out;
  });
  const BackboneOutputs out = networks.backbone(part("mask", "input"));
  for (size_t i = 0; i < 4; i++)
    CHECK(error(out.maps.at(i).rows, part("mask", cat("map_", i + 2))) < 1e-5);
  for (size_t i = 0; i < 5; i++) {
    CHECK(error(out.scores.at(i), part("mask", cat("scores_", i + 2))) < 1e-5);
    CHECK(error(out.deltas.at(i), part("mask", cat("deltas_", i + 2))) < 1e-5);
  }
}
