// The detectors of the C ABI.
#include "runtime/api/handles.h"
#include "runtime/integer/integer_detector.h"

using namespace vitrun::api;

struct vit_detector {
  std::shared_ptr<const Opened> opened;
  vitrun::IntegerDetector detector;
  vitrun::Detections last;
  std::vector<std::string> counts;  // of the last run's masks, those that were asked for
};

vit_status vit_detector_create(const vit_model* model, const vit_session_options* given,
                               vit_detector** out) {
  return create(out, [&] {
    require(model != nullptr, "model is NULL");
    require(is_detector(model), "the model is no detector: vit_session_create() is for it");
    const vit_session_options options = read_options(given);
    require(options.max_batch == 0 || options.max_batch == 1,
            "a detector takes one image a run: max_batch must be 0 or 1, got ", options.max_batch);
    const vitrun::Kernels& kernels = kernels_called(options.isa);
    return new vit_detector{.opened = model->opened,
                            .detector = vitrun::IntegerDetector(model->opened->model, kernels,
                                                                thread_count(options.threads)),
                            .last = {},
                            .counts = {}};
  });
}

void vit_detector_free(vit_detector* detector) {
  delete detector;
}

vit_status vit_detector_run_rgb(vit_detector* detector, const uint8_t* rgb, int width, int height,
                                ptrdiff_t row_bytes, int* found) {
  if (found) *found = 0;
  return guard([&] {
    require(detector && rgb && found, "detector, rgb or found is NULL");
    check_image(width, height, row_bytes);
    detector->last = {};
    detector->counts.clear();
    detector->detector.revive();
    detector->last = detector->detector.run({rgb, width, height, row_bytes});
    *found = vitrun::count_of(detector->last.found);
  });
}

namespace {

void check_detection(const vit_detector* detector, int i) {
  require(detector != nullptr, "detector is NULL");
  const int found = vitrun::count_of(detector->last.found);
  require(i >= 0 && i < found, "there is no detection ", i, ": the last run found ", found);
}

}  // namespace

vit_status vit_detector_get(const vit_detector* detector, int i, vit_detection* out) {
  return guard([&] {
    check_detection(detector, i);
    require(out != nullptr, "out is NULL");
    const vitrun::Detection& d = vitrun::at(detector->last.found, i);
    *out = {d.box.x1, d.box.y1, d.box.x2, d.box.y2, d.score, d.label};
  });
}

vit_status vit_detector_mask(const vit_detector* detector, int i, uint8_t* mask, size_t size) {
  return guard([&] {
    check_detection(detector, i);
    const vitrun::Rle& rle = vitrun::at(detector->last.masks, i);
    const size_t pixels = vitrun::array_size(rle.height, rle.width);
    require(mask != nullptr && size >= pixels, "a mask takes ", pixels, " bytes, mask has ",
            mask ? size : 0);
    vitrun::decode_rle(rle, {mask, pixels});
  });
}

const char* vit_detector_mask_counts(vit_detector* detector, int i) {
  const char* text = nullptr;
  guard([&] {
    check_detection(detector, i);
    detector->counts.resize(detector->last.masks.size());
    std::string& counts = vitrun::at(detector->counts, i);
    if (counts.empty()) counts = vitrun::rle_text(vitrun::at(detector->last.masks, i));
    text = counts.c_str();
  });
  return text;
}

size_t vit_detector_memory(const vit_detector* detector) {
  return detector ? static_cast<size_t>(detector->detector.buffer_bytes()) : 0;
}

size_t vit_detector_memory_for(const vit_detector* detector, int width, int height) {
  size_t bytes = 0;
  guard([&] {
    require(detector != nullptr, "detector is NULL");
    require(is_image_size(width, height), "no image has the size ", width, " x ", height);
    bytes = static_cast<size_t>(detector->detector.bytes_for(width, height));
  });
  return bytes;
}

const char* vit_detector_isa(const vit_detector* detector) {
  return detector ? detector->detector.kernels().name : nullptr;
}
