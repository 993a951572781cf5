// detect() around made-up networks against mmdetection's heads (golden/make_detect.py).
#include <functional>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/detector.h"
#include "tests/runtime/detect/detect_inputs.h"
#include "tests/runtime/vision/pattern.h"

using namespace vitrun;

namespace {

// The heads of the script, sums of a few values of a RoI.
class MadeUpNetworks : public DetectorNetworks {
 public:
  MadeUpNetworks(int seed, bool agnostic, bool mask_agnostic)
      : seed_(seed),
        delta_columns_(agnostic ? 4 : 4 * kClasses),
        mask_classes_(mask_agnostic ? 1 : kClasses) {}

  BackboneOutputs backbone(const Tensor& image) override {
    const int height = static_cast<int>(image.dims[2]), width = static_cast<int>(image.dims[3]);
    BackboneOutputs outputs = backbone_outputs(seed_, width, height);
    if (change_backbone) change_backbone(outputs);
    return outputs;
  }

  Boxes boxes(int stage, const Tensor& rois) override {
    CHECK((rois.dims[0] <= kBoxBatch && rois.dims[1] == 49 && rois.dims[2] == kChannels));
    box_rois += rois.dims[0];
    const int seed = 700 + 20 * stage;
    Boxes boxes = {head(rois, seed, kClasses + 1, 6), head(rois, seed + 10, delta_columns_, 3)};
    if (change_boxes) change_boxes(boxes);
    return boxes;
  }

  Tensor masks(int stage, const Tensor& rois) override {
    CHECK((rois.dims[0] <= kMaskBatch && rois.dims[1] == 196 && rois.dims[2] == kChannels));
    mask_rois += rois.dims[0];
    const Tensor weights = numbers(900 + stage, {mask_classes_, kChannels});
    Tensor logits({rois.dims[0], 784, mask_classes_});
    for (int64_t i = 0; i < element_count(logits.dims); i++) {
      const int64_t k = i % mask_classes_, place = i / mask_classes_ % 784;
      const int64_t bin = place / 28 / 2 * 14 + place % 28 / 2, roi = i / mask_classes_ / 784;
      float sum = number(920 + stage, place);
      for (int64_t c = 0; c < kChannels; c++)
        sum += at(weights.data, k * kChannels + c) * 4 *
               at(rois.data, (roi * 196 + bin) * kChannels + c);
      at(logits.data, i) = sum;
    }
    if (change_masks) change_masks(logits);
    return logits;
  }

  std::function<void(BackboneOutputs&)> change_backbone;
  std::function<void(Boxes&)> change_boxes;
  std::function<void(Tensor&)> change_masks;
  int64_t box_rois = 0, mask_rois = 0;

 private:
  // The means of the three upper rows of bins and of the three lower ones, times numbers.
  static Tensor head(const Tensor& rois, int seed, int columns, float scale) {
    Tensor out({rois.dims[0], columns});
    for (int64_t roi = 0; roi < rois.dims[0]; roi++) {
      for (int half = 0; half < 2 * kChannels; half++) {
        const int first = half < kChannels ? 0 : 28, c = half % kChannels;
        float sum = 0;
        for (int bin = first; bin < first + 21; bin++)
          sum += at(rois.data, (roi * 49 + bin) * kChannels + c);
        for (int j = 0; j < columns; j++)
          at(out.data, roi * columns + j) += sum / 21 * number(seed, half * columns + j) * scale;
      }
    }
    return out;
  }

  int seed_, delta_columns_, mask_classes_;
};

DetectorInfo with_stages(int stages) {
  DetectorInfo info;
  info.stages = stages;
  info.stds = {
      {0.1f, 0.1f, 0.2f, 0.2f}, {0.05f, 0.05f, 0.1f, 0.1f}, {0.033f, 0.033f, 0.067f, 0.067f}};
  info.stds.resize(static_cast<size_t>(stages));
  info.rpn_pre_nms = 200;
  info.rpn_post_nms = 300;
  info.shortest_edge = 100;
  info.longest_edge = 160;
  return info;
}

void check_mask(const Rle& found, const std::string& expected_text) {
  const Rle expected = rle_of_text(expected_text, found.height, found.width);
  std::vector<uint8_t> a(array_size(found.height, found.width)), b = a;
  decode_rle(found, a);
  decode_rle(expected, b);
  int different = 0;
  for (size_t i = 0; i < a.size(); i++) different += a[i] != b[i];
  CHECK(different <= 2 + expected.area() / 1000);  // pixels within rounding errors of 1/2
}

bool equal(const Detections& a, const Detections& b) {
  if (a.found.size() != b.found.size()) return false;
  for (size_t i = 0; i < a.found.size(); i++) {
    const Box &x = a.found[i].box, &y = b.found[i].box;
    if (x.x1 != y.x1 || x.y1 != y.y1 || x.x2 != y.x2 || x.y2 != y.y2) return false;
    if (a.found[i].score != b.found[i].score || a.found[i].label != b.found[i].label) return false;
    if (a.masks[i].counts != b.masks[i].counts) return false;
  }
  return true;
}

const Pixels& picture() {
  static const Pixels pixels(200, 120, "smooth");
  return pixels;
}

}  // namespace

TEST_CASE("detections are mmdetection's: Mask R-CNN and cascade, deltas and masks of any class") {
  const std::vector<std::string> lines = detect_golden("detect.txt");
  for (size_t i = 0; i < lines.size();) {
    CAPTURE(lines[i]);
    GoldenLine head(lines[i++]);
    const int seed = head.next<int>(), width = head.next<int>(), height = head.next<int>();
    const int shortest = head.next<int>(), longest = head.next<int>();
    DetectorInfo info = with_stages(head.next<int>());
    info.shortest_edge = shortest;
    info.longest_edge = longest;
    const bool agnostic = head.next<int>() != 0, mask_agnostic = head.next<int>() != 0;
    info.score_threshold = head.next<float>();
    info.max_detections = head.next<int>();
    const int count = head.next<int>();
    MadeUpNetworks networks(seed, agnostic, mask_agnostic);
    const Pixels image(width, height, "noise");
    const Detections found = detect(image.view(), info, {}, networks);
    REQUIRE(count_of(found.found) == count);
    REQUIRE(count_of(found.masks) == count);
    for (int k = 0; k < count; k++) {
      GoldenLine line(lines[i++]);
      check_near(at(found.found, k).box, line.box(), 2e-3f);
      CHECK(at(found.found, k).score == doctest::Approx(line.next<float>()).epsilon(1e-4));
      CHECK(at(found.found, k).label == line.next<int>());
      check_mask(at(found.masks, k), line.next<std::string>());
    }
  }
}

TEST_CASE("threads change nothing, and batches ask for each RoI once a stage") {
  DetectorInfo info = with_stages(3);
  info.score_threshold = 0.01f;
  info.nms_threshold = 0.95f;
  MadeUpNetworks networks(600, false, false);
  const Detections alone = detect(picture().view(), info, {}, networks);
  CHECK(networks.box_rois == 3 * 300);
  CHECK(networks.mask_rois == 3 * 100);
  ThreadPool pool(3);
  CHECK(equal(detect(picture().view(), info, {}, networks, &pool), alone));
}

TEST_CASE("boxes lie within the image, best first, with masks of its size") {
  MadeUpNetworks networks(600, false, false);
  const Detections d = detect(picture().view(), with_stages(1), {}, networks);
  CHECK(d.found.size() > 5);
  float before = 1;
  for (size_t i = 0; i < d.found.size(); i++) {
    const Box& box = d.found[i].box;
    CHECK((box.x1 >= 0 && box.y1 >= 0 && box.x1 <= box.x2 && box.y1 <= box.y2));
    CHECK((box.x2 <= 200 && box.y2 <= 120));
    CHECK((d.found[i].score <= before && d.found[i].score > 0.05f));
    before = d.found[i].score;
    CHECK((d.masks[i].height == 120 && d.masks[i].width == 200));
  }
}

TEST_CASE("nothing found is an empty answer") {
  DetectorInfo info = with_stages(3);
  info.score_threshold = 1;
  MadeUpNetworks networks(600, false, false);
  CHECK(detect(picture().view(), info, {}, networks).found.empty());
  CHECK(networks.mask_rois == 0);
  networks.change_backbone = [](BackboneOutputs& o) {
    for (Tensor& scores : o.scores) std::fill(scores.data.begin(), scores.data.end(), NAN);
  };
  networks.box_rois = 0;
  CHECK(detect(picture().view(), info, {}, networks).masks.empty());
  CHECK(networks.box_rois == 0);
}

TEST_CASE("networks that give NaN, infinity or huge numbers find nothing that is not finite") {
  for (float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
    MadeUpNetworks networks(600, false, false);
    networks.change_backbone = [&](BackboneOutputs& o) {
      for (FeatureMap& map : o.maps) map.rows.data[5] = bad;
      for (size_t i = 0; i < o.deltas[0].data.size(); i += 7) o.deltas[0].data[i] = bad;
    };
    networks.change_boxes = [&](DetectorNetworks::Boxes& boxes) {
      for (size_t i = 0; i < boxes.logits.data.size(); i += 9) boxes.logits.data[i] = bad;
      for (size_t i = 0; i < boxes.deltas.data.size(); i += 11) boxes.deltas.data[i] = bad;
    };
    networks.change_masks = [&](Tensor& masks) { masks.data[3] = bad; };
    const Detections d = detect(picture().view(), with_stages(3), {}, networks);
    CHECK(d.found.size() == d.masks.size());
    for (const Detection& found : d.found)
      CHECK((found.box.is_finite() && found.score > 0.05f && found.score <= 1));
  }
}

TEST_CASE("images of 1 pixel and of one column") {
  MadeUpNetworks networks(600, false, false);
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 5000}, {5000, 1}}) {
    const Pixels image(width, height, "noise");
    const Detections d = detect(image.view(), with_stages(1), {}, networks);
    for (const Rle& mask : d.masks) CHECK((mask.width == width && mask.height == height));
  }
}

TEST_CASE("heads whose shapes do not fit are refused") {
  const auto refused = [](const char* what, auto change) {
    MadeUpNetworks networks(600, false, false);
    change(networks);
    CHECK_THROWS_WITH_AS(detect(picture().view(), with_stages(3), {}, networks),
                         doctest::Contains(what), Error);
  };
  using Boxes = DetectorNetworks::Boxes;
  refused("deltas of shape [256, 8] for 256 boxes", [](MadeUpNetworks& n) {
    n.change_boxes = [](Boxes& b) { b.deltas = Tensor({b.deltas.dims[0], 8}); };
  });
  refused("logits of shape [2, 4]", [](MadeUpNetworks& n) {
    n.change_boxes = [](Boxes& b) { b.logits = Tensor({2, 4}); };
  });
  refused("different numbers of classes", [](MadeUpNetworks& n) {
    n.change_boxes = [&n](Boxes& b) {
      if (n.box_rois <= 300) return;
      b.logits = Tensor({b.logits.dims[0], 6}), b.deltas = Tensor({b.deltas.dims[0], 4});
    };
  });
  refused("a mask head gave the shape [784]",
          [](MadeUpNetworks& n) { n.change_masks = [](Tensor& m) { m = Tensor({784}); }; });
  refused("a mask head has 2 classes", [](MadeUpNetworks& n) {
    n.change_masks = [](Tensor& m) { m = Tensor({m.dims[0], 784, 2}); };
  });
  refused("785 elements", [](MadeUpNetworks& n) {
    n.change_masks = [](Tensor& m) { m = Tensor({m.dims[0], 785, 1}); };
  });
  DetectorInfo info;
  info.stages = 0;
  MadeUpNetworks networks(600, false, false);
  CHECK_THROWS_WITH_AS(detect(picture().view(), info, {}, networks),
                       doctest::Contains("stages is 0"), Error);
}
