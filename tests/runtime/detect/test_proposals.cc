// The RPN's boxes against mmdetection (golden/make_detect.py).
#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/proposals.h"
#include "tests/runtime/detect/detect_inputs.h"

using namespace vitrun;

TEST_CASE("proposals are mmdetection's, with equal scores, few boxes and small ones") {
  const std::vector<std::string> lines = detect_golden("proposals.txt");
  for (size_t i = 0; i < lines.size();) {
    CAPTURE(lines[i]);
    GoldenLine head(lines[i++]);
    const int seed = head.next<int>(), width = head.next<int>(), height = head.next<int>();
    DetectorInfo info;
    info.rpn_pre_nms = head.next<int>();
    info.rpn_post_nms = head.next<int>();
    info.rpn_nms_threshold = head.next<float>();
    info.rpn_min_size = head.next<float>();
    const int count = head.next<int>();
    const BackboneOutputs outputs =
        backbone_outputs(seed, padded_to_32(width), padded_to_32(height));
    const std::vector<Candidate> found = propose(outputs, info, width, height);
    REQUIRE(count_of(found) == count);
    for (int k = 0; k < std::min(count, 60); k++) {
      GoldenLine line(lines[i++]);
      check_near(at(found, k).box, line.box(), 1e-3f);
      CHECK(at(found, k).score == doctest::Approx(line.next<float>()).epsilon(1e-5));
    }
  }
}

TEST_CASE("scores and deltas that are NaN are no proposals") {
  BackboneOutputs outputs = backbone_outputs(1, 64, 64);
  const size_t all = propose(outputs, {}, 64, 64).size();
  CHECK(all > 10);
  for (Tensor& scores : outputs.scores)
    for (size_t i = 1; i < scores.data.size(); i += 2) scores.data[i] = NAN;
  for (Tensor& deltas : outputs.deltas)
    for (size_t i = 0; i < deltas.data.size(); i += 16) deltas.data[i] = NAN;
  const std::vector<Candidate> found = propose(outputs, {}, 64, 64);
  CHECK((!found.empty() && found.size() < all));
  for (const Candidate& c : found) CHECK((c.box.is_finite() && c.score > 0));
  for (Tensor& scores : outputs.scores) std::fill(scores.data.begin(), scores.data.end(), NAN);
  CHECK(propose(outputs, {}, 64, 64).empty());
}

TEST_CASE("outputs whose shapes do not fit are refused") {
  const auto refused = [](const char* what, auto change) {
    BackboneOutputs outputs = backbone_outputs(1, 64, 64);
    change(outputs);
    CHECK_THROWS_WITH_AS(propose(outputs, {}, 64, 64), doctest::Contains(what), Error);
  };
  refused("proposals of 4 levels, expected 5", [](BackboneOutputs& o) { o.scores.pop_back(); });
  refused("maps of 0 levels", [](BackboneOutputs& o) { o.maps.clear(); });
  refused("scores of proposals of shape [256, 2], expected [256, 3]", [](BackboneOutputs& o) {
    o.scores[0] = Tensor({256, 2});
  });
  refused("deltas of proposals of shape [2, 12], expected [1, 12]", [](BackboneOutputs& o) {
    o.deltas[4] = Tensor({2, 12});
  });
}
