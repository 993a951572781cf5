#include "runtime/program/coco/coco_detector.h"

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "models/base/error.h"
#include "runtime/program/detect/object_detector.h"

namespace vitrun {
namespace {

// The category, an index into the set's, of each class of a model; -1: none.
std::vector<int> categories_of(const ModelInfo& info, const CocoSet& set) {
  std::vector<int> out;
  for (int c = 0; c < info.num_classes; c++) {
    if (info.labels.empty()) {
      out.push_back(c < count_of(set.categories) ? c : -1);
      continue;
    }
    const auto found = std::ranges::find(set.categories, at(info.labels, c), &CocoCategory::name);
    out.push_back(found == set.categories.end() ? -1
                                                : static_cast<int>(found - set.categories.begin()));
  }
  if (std::ranges::all_of(out, [](int c) { return c < 0; }))
    fail("none of the model's classes is a category of the annotations");
  return out;
}

void note_classes(const ModelInfo& info, const std::vector<int>& categories,
                  std::vector<std::string>& notes) {
  if (info.labels.empty())
    notes.push_back("the model has no labels: its classes are the categories in the order of ids");
  if (const auto left = std::ranges::count(categories, -1); left > 0)
    notes.push_back(cat(left, " of the model's ", categories.size(),
                        " classes are no category of the annotations and do not count"));
}

class Finder {
 public:
  Finder(ObjectDetector& detector, const CocoSet& set)
      : detector_(detector), set_(set), categories_(categories_of(detector.info(), set)) {
    found_.boxes = found_.masks = true;
    note_classes(detector.info(), categories_, found_.notes);
  }

  void add(size_t index, const std::string& path, Exif exif) {
    try {
      const Image image = load_image(path, exif);
      const CocoImage& expected = set_.images[index];
      if (image.width != expected.width || image.height != expected.height)
        fail(path, ": is ", image.width, "x", image.height, ", the annotations say ",
             expected.width, "x", expected.height);
      keep(index, detector_.run(view_of(image)));
    } catch (const Error& e) {
      found_.notes.push_back(e.what());
      unread_++;
    }
  }

  CocoDetections finish() {
    if (unread_ == set_.images.size()) fail("none of ", unread_, " images could be read");
    if (unread_ > 0)
      found_.notes.push_back(cat(unread_, " of ", set_.images.size(),
                                 " images could not be read: nothing is found on them"));
    return std::move(found_);
  }

 private:
  void keep(size_t index, Detections detections) {
    for (size_t i = 0; i < detections.found.size(); i++) {
      const Detection& d = detections.found[i];
      const int category = at(categories_, d.label);
      if (category < 0) continue;
      CocoDetection out;
      out.image = static_cast<int>(index);
      out.category = category;
      out.box = {double{d.box.x1}, double{d.box.y1}, double{d.box.x2} - double{d.box.x1},
                 double{d.box.y2} - double{d.box.y1}};
      out.area = out.box.width * out.box.height;
      out.score = double{d.score};
      out.mask = std::move(detections.masks[i]);
      found_.found.push_back(std::move(out));
    }
  }

  ObjectDetector& detector_;
  const CocoSet& set_;
  std::vector<int> categories_;
  CocoDetections found_;
  size_t unread_ = 0;
};

CocoDetections find_all(ObjectDetector& detector, const CocoSet& set, const std::string& folder,
                        Exif exif) {
  Finder finder(detector, set);
  ProgressBar bar("detecting");
  for (size_t i = 0; i < set.images.size(); i++) {
    finder.add(i, (std::filesystem::path(folder) / set.images[i].file).string(), exif);
    bar.update(ratio(i + 1, set.images.size()));
  }
  return finder.finish();
}

}  // namespace

CocoSource detector_source(const cxxopts::ParseResult& args, const std::string& path) {
  if (!args.count("images")) throw UsageError("--coco with --model needs --images DIR");
  for (const char* other : {"embedding", "classes"})
    if (args.count(other)) throw UsageError(cat("--coco takes no --", other));
  if (!holds_detector(path)) fail(path, ": is no detector, which --coco needs");
  PredictorOptions options = predictor_options(args);
  options.verify = true;
  const std::shared_ptr<ObjectDetector> detector = open_detector(path, options);
  const std::string folder = args["images"].as<std::string>();
  const Exif exif = exif_option(args);
  return {path, [=](const CocoSet& set) { return find_all(*detector, set, folder, exif); }};
}

}  // namespace vitrun
