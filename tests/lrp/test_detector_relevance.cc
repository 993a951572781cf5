// Relevance and gradients of what a detector finds, on the models of tests/golden/detectors.
#include <doctest/doctest.h>

#include <cmath>

#include "lrp/detect/detector_relevance.h"
#include "models/base/error.h"
#include "runtime/files/npy.h"

using namespace vitrun;

namespace {

const std::string kFolder = std::string(VITRUN_TEST_DIR) + "/golden/detectors/";

struct Loaded {
  explicit Loaded(const std::string& name)
      : model(load_float_detector(kFolder + name)),
        photo(load_image(kFolder + name + "/image.png")) {}

  FloatDetector model;
  Image photo;
};

}  // namespace

TEST_CASE("gradients through box heads, RoIAlign, pyramid and backbone equal PyTorch's") {
  for (const std::string name : {"mask", "cascade"}) {
    CAPTURE(name);
    const Loaded l(name);
    DetectorRelevance engine(l.model, 1);
    const int end = engine.backbone().find(Role::kEmbedding);
    std::vector<float> gradient;
    const ExplainedPhoto e = engine.explain(l.photo, -1, false, [&](int node, const Flow& flow) {
      if (node == end) gradient.assign(flow.gradient.begin(), flow.gradient.end());
    });
    CHECK(!e.found.empty());
    const Tensor want = read_npy(kFolder + name + "/parts/gradient.npy");
    REQUIRE(gradient.size() == want.data.size());
    double difference = 0, energy = 0;
    for (size_t i = 0; i < gradient.size(); i++) {
      difference += std::pow(double{gradient[i]} - double{want.data[i]}, 2);
      energy += std::pow(double{want.data[i]}, 2);
    }
    // float32 against float64; the largest intermediate sums have 1e4 terms.
    CHECK(std::sqrt(difference / energy) < 1e-4);
  }
}

TEST_CASE("the relevance of detections is conserved, and its map has all of it") {
  for (const std::string name : {"mask", "cascade", "cascade_conv", "cascade_classes",
                                 "mask_enlarged", "mask_shrunk", "mask_oblong"}) {
    CAPTURE(name);
    const Loaded l(name);
    DetectorRelevance engine(l.model, 2);
    const ExplainedPhoto e = engine.run(std::span(&l.photo, 1), -1, true)[0];
    REQUIRE(!e.found.empty());
    CHECK(e.relevance.conservation_error < 1e-3);
    CHECK(e.relevance.score.size() == scored_units(engine.backbone()).size());
    CHECK(count_of(e.relevance.heatmap) == e.patches.height * e.patches.width);
    for (double score : e.relevance.score) CHECK(std::isfinite(score));
    const auto scored = std::ranges::count_if(e.relevance.score, [](double s) { return s > 0; });
    CHECK(2 * static_cast<size_t>(scored) > e.relevance.score.size());
  }
}

TEST_CASE("one class's detections are explained alone; photos and threads do not mix") {
  const Loaded l("mask");
  DetectorRelevance engine(l.model, 1), two(l.model, 2);
  const ExplainedPhoto all = engine.explain(l.photo, -1, false);
  size_t together = 0;
  for (int label = 0; label < l.model.info.num_classes; label++) {
    const ExplainedPhoto one = engine.explain(l.photo, label, false);
    for (const Candidate& c : one.found) CHECK(c.group == label);
    together += one.found.size();
  }
  CHECK(together == all.found.size());
  const Image photos[] = {l.photo, Image{40, 30, std::vector<uint8_t>(3600, 90)}, l.photo};
  const std::vector<ExplainedPhoto> many = two.run(photos, -1, false);
  CHECK(many[0].relevance.score == all.relevance.score);
  CHECK(many[2].relevance.score == all.relevance.score);
  CHECK_THROWS_WITH_AS(engine.explain(l.photo, 3, false), "class 3: the model has 3 classes",
                       Error);
}

TEST_CASE("where nothing is found there is nothing to explain") {
  const Loaded l("mask_no_proposals");
  DetectorRelevance engine(l.model, 1);
  const ExplainedPhoto e = engine.explain(l.photo, -1, true);
  CHECK(e.found.empty());
  CHECK(e.relevance.score.empty());
  CHECK(e.relevance.heatmap.empty());
}
