// Detectors through the C ABI: what the detector it wraps finds, on every ISA, and refusals.
#include <doctest/doctest.h>

#include <cstring>

#include "kernels/registry.h"
#include "quant/quantize_detector.h"
#include "runtime/api/vitrun.h"
#include "runtime/integer/integer_detector.h"
#include "tests/runtime/api/last_error.h"
#include "tests/runtime/files/qbin_testing.h"

using namespace vitrun;

namespace {

const std::string kFolder = std::string(VITRUN_TEST_DIR) + "/golden/detectors/mask";

std::vector<uint8_t> detector_bytes(const Image& photo) {
  return quantize_detector(load_float_detector(kFolder), {1, [&](int64_t) { return photo; }}, {})
      .file.serialize();
}

struct Opened {
  Image photo = load_image(kFolder + "/image.png");
  std::vector<uint8_t> bytes = detector_bytes(photo);
  Aligned file{bytes};
  vit_model* model = nullptr;

  Opened() {
    const auto in = file.bytes();
    REQUIRE(vit_model_open_memory(in.data(), in.size(), nullptr, &model) == VIT_OK);
  }
  ~Opened() { vit_model_close(model); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  vit_status run(vit_detector* d, int* found) const {
    return vit_detector_run_rgb(d, photo.rgb.data(), photo.width, photo.height, 3 * photo.width,
                                found);
  }
};

vit_detector* create(const vit_model* model, const char* isa, int threads) {
  const vit_session_options options = {sizeof options, threads, 0, isa};
  vit_detector* detector = nullptr;
  REQUIRE(vit_detector_create(model, &options, &detector) == VIT_OK);
  return detector;
}

}  // namespace

TEST_CASE("a detector finds the same through the C ABI, on every ISA and number of threads") {
  const Opened o;
  CHECK(vit_model_is_detector(o.model));
  CHECK(vit_model_outputs(o.model) == 0);
  CHECK(vit_model_width(o.model) == 0);
  CHECK(vit_model_classes(o.model) == 3);
  CHECK(std::string(vit_model_label(o.model, 2)) == "car");
  const QuantModel model(QbinFile::from_memory(o.file.bytes(), "detector"));
  IntegerDetector engine(model, *find_kernels("scalar"), 1);
  const Detections want = engine.run(view_of(o.photo));
  REQUIRE(want.found.size() > 3);
  std::string isas = vit_isa_names();
  for (size_t begin = 0; begin < isas.size();
       begin = isas.find(' ', begin), begin += begin < isas.size()) {
    const std::string isa = isas.substr(begin, isas.find(' ', begin) - begin);
    CAPTURE(isa);
    vit_detector* const d = create(o.model, isa.c_str(), 1 + static_cast<int>(begin % 2));
    CHECK(std::string(vit_detector_isa(d)) == isa);
    int found = -1;
    REQUIRE(o.run(d, &found) == VIT_OK);
    REQUIRE(found == count_of(want.found));
    for (int i = 0; i < found; i++) {
      vit_detection got;
      REQUIRE(vit_detector_get(d, i, &got) == VIT_OK);
      const Detection& w = at(want.found, i);
      CHECK(got.x1 == w.box.x1);
      CHECK(got.y2 == w.box.y2);
      CHECK(got.score == w.score);
      CHECK(got.class_index == w.label);
      CHECK(vit_detector_mask_counts(d, i) == rle_text(at(want.masks, i)));
      std::vector<uint8_t> mask(array_size(o.photo.width, o.photo.height), 7), right(mask.size());
      REQUIRE(vit_detector_mask(d, i, mask.data(), mask.size()) == VIT_OK);
      decode_rle(at(want.masks, i), right);
      CHECK(mask == right);
    }
    vit_detector_free(d);
  }
}

TEST_CASE("a detector says before what memory an image takes") {
  const Opened o;
  vit_detector* const d = create(o.model, nullptr, 1);
  const size_t before = vit_detector_memory_for(d, o.photo.width, o.photo.height);
  int found = 0;
  REQUIRE(o.run(d, &found) == VIT_OK);
  CHECK(vit_detector_memory(d) > 0);
  CHECK(vit_detector_memory(d) < before);
  CHECK(vit_detector_memory_for(d, o.photo.width, o.photo.height) == before);
  // Images are scaled to one size, so that what a larger one takes is the same.
  CHECK(vit_detector_memory_for(d, 40 * o.photo.width, 40 * o.photo.height) == before);
  CHECK(vit_detector_memory_for(d, 0, 5) == 0);
  CHECK(vit_detector_memory_for(d, 1 << 20, 5) == 0);
  CHECK(vit_detector_memory_for(nullptr, 5, 5) == 0);
  vit_detector_free(d);
}

TEST_CASE("what was found stays until the next run, also where that one fails") {
  const Opened o;
  vit_detector* const d = create(o.model, nullptr, 1);
  vit_detection one;
  CHECK(vit_detector_get(d, 0, &one) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("there is no detection 0: the last run found 0"));
  int found = 0;
  REQUIRE(o.run(d, &found) == VIT_OK);
  CHECK(vit_detector_get(d, found, &one) == VIT_ERROR_ARGUMENT);
  CHECK(vit_detector_get(d, -1, &one) == VIT_ERROR_ARGUMENT);
  CHECK(vit_detector_get(d, 0, nullptr) == VIT_ERROR_ARGUMENT);
  CHECK(vit_detector_mask_counts(d, found) == nullptr);
  uint8_t byte = 0;
  CHECK(vit_detector_mask(d, 0, &byte, 1) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("a mask takes 6144 bytes, mask has 1"));
  CHECK(vit_detector_run_rgb(d, o.photo.rgb.data(), 0, 5, 15, &found) == VIT_ERROR_ARGUMENT);
  CHECK(found == 0);
  CHECK(vit_detector_run_rgb(d, o.photo.rgb.data(), 96, 64, 5, &found) == VIT_ERROR_ARGUMENT);
  CHECK(vit_detector_get(d, 0, &one) == VIT_OK);  // wrong arguments are no run
  const std::vector<uint8_t> grey(3 * 50 * 40, 127);
  REQUIRE(vit_detector_run_rgb(d, grey.data(), 50, 40, 150, &found) == VIT_OK);
  REQUIRE(o.run(d, &found) == VIT_OK);  // another size between changes nothing
  REQUIRE(vit_detector_get(d, 0, &one) == VIT_OK);
  CHECK(one.score > 0.5f);
  vit_detector_free(d);
}

TEST_CASE("sessions are for classifiers, detectors for detectors") {
  const Opened o;
  vit_session* session = nullptr;
  CHECK(vit_session_create(o.model, nullptr, &session) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("the model is a detector"));
  CHECK(session == nullptr);
  vit_model* classifier = nullptr;
  REQUIRE(vit_model_open(VITRUN_TEST_DIR "/../models/cifar10/vit.qbin", nullptr, &classifier) ==
          VIT_OK);
  CHECK(!vit_model_is_detector(classifier));
  vit_detector* d = nullptr;
  CHECK(vit_detector_create(classifier, nullptr, &d) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("the model is no detector"));
  vit_session_options options = {sizeof options, 0, 2, nullptr};
  CHECK(vit_detector_create(o.model, &options, &d) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("max_batch must be 0 or 1"));
  CHECK(vit_detector_create(nullptr, nullptr, &d) == VIT_ERROR_ARGUMENT);
  CHECK(vit_detector_create(o.model, nullptr, nullptr) == VIT_ERROR_ARGUMENT);
  CHECK(!vit_model_is_detector(nullptr));
  CHECK(vit_detector_isa(nullptr) == nullptr);
  CHECK(vit_detector_memory(nullptr) == 0);
  vit_detector_free(nullptr);
  vit_model_close(classifier);
}
