#include "runtime/program/detect/detect_images.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "models/base/error.h"
#include "runtime/files/atomic_file.h"
#include "runtime/program/cli.h"
#include "runtime/program/detect/draw_detections.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/image_loader.h"
#include "runtime/vision/dataset.h"
#include "runtime/vision/encode_image.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kDetectBatch = 1;  // images have sizes of their own

void check_usage(const cxxopts::ParseResult& args) {
  if (!args.count("image")) throw UsageError("name the images, or folders of them");
  for (const char* other : {"raw", "demo", "classes", "logits", "embedding", "features", "similar",
                            "search", "report", "labels"})
    if (args.count(other)) throw UsageError(cat("a detector takes no --", other));
  if (int_option(args, "batch", 1, 1024) != kDetectBatch)
    throw UsageError("a detector takes one image a run: --batch 1");
}

// Rounds to a hundredth of a pixel or a millionth of a score, so that lines stay readable.
double rounded(float x, double steps) {
  return std::round(double{x} * steps) / steps;
}

Json json_of(const std::string& path, const Image& image, const Detections& found,
             const ModelInfo& info) {
  Json j = {{"image", path},
            {"width", image.width},
            {"height", image.height},
            {"detections", Json::array()}};
  for (size_t i = 0; i < found.found.size(); i++) {
    const Detection& d = found.found[i];
    Json& entry = j["detections"].emplace_back(Json::object());
    entry["box"] = {rounded(d.box.x1, 1e4), rounded(d.box.y1, 1e4), rounded(d.box.x2, 1e4),
                    rounded(d.box.y2, 1e4)};
    entry["score"] = rounded(d.score, 1e6);
    entry["class"] = d.label;
    entry["label"] = class_name(info.labels, d.label);
    const Rle& mask = found.masks[i];
    entry["mask"] = {{"size", {mask.height, mask.width}}, {"counts", rle_text(mask)}};
  }
  return j;
}

void print_table(const std::string& path, const Image& image, const Detections& found,
                 const ModelInfo& info, double milliseconds) {
  std::printf("%s  %d x %d, %zu found  (%.0f ms)\n", path.c_str(), image.width, image.height,
              found.found.size(), milliseconds);
  for (size_t i = 0; i < found.found.size(); i++) {
    const Detection& d = found.found[i];
    std::printf("  %5.1f %%  %-20s  x %6.1f to %6.1f  y %6.1f to %6.1f  %jd pixels\n",
                100 * double{d.score}, class_name(info.labels, d.label).c_str(), double{d.box.x1},
                double{d.box.x2}, double{d.box.y1}, double{d.box.y2},
                static_cast<intmax_t>(found.masks[i].area()));
  }
}

void print_unread(const std::string& path, const std::string& why, bool json) {
  std::fprintf(stderr, "vitrun: %s\n", why.c_str());
  if (json)
    std::cout << Json{{"image", path}, {"error", why}}.dump(-1, ' ', false,
                                                            Json::error_handler_t::replace)
              << "\n";
}

// Writes the picture with what was found on it.
void draw(Image image, const Detections& found, const ModelInfo& info, const std::string& path) {
  std::vector<DrawnDetection> drawn;
  for (size_t i = 0; i < found.found.size(); i++) {
    const Detection& d = found.found[i];
    drawn.push_back({double{d.box.x1}, double{d.box.y1}, double{d.box.x2}, double{d.box.y2},
                     double{d.score}, class_name(info.labels, d.label), found.masks[i]});
  }
  draw_detections(drawn, image);
  write_file(path, encode_png(image));
}

// The picture's file for --draw: that file, or for several images NAME.png in that folder.
std::string drawing_path(const std::string& draw, const std::string& image, bool several) {
  if (!several) return draw;
  return (fs::path(draw) / fs::path(image).filename().replace_extension(".png")).string();
}

}  // namespace

void add_detect_options(cxxopts::Options& options) {
  options.add_options()(
      "draw", "a detector: write the image with boxes and masks, of several images into a folder",
      cxxopts::value<std::string>(), "FILE.png|DIR");
}

int detect_images(const cxxopts::ParseResult& args, const std::string& model) {
  check_usage(args);
  PredictorOptions options = predictor_options(args);
  options.verify = args.count("verify") > 0;
  const auto detector = open_detector(model, options);
  const Exif exif = exif_option(args);
  const bool json = args.count("json") > 0;
  const std::vector<Sample> images = named_images(args["image"].as<std::vector<std::string>>());
  const std::string drawing = args.count("draw") ? args["draw"].as<std::string>() : "";
  if (images.size() > 1 && !drawing.empty())
    fs::create_directories(drawing);
  else
    check_outputs(args, {"draw"});
  int unread = 0;
  std::optional<ProgressBar> bar;  // a line for each image says enough where it is seen
  if (images.size() > 1 && !isatty(STDOUT_FILENO)) bar.emplace("detecting");
  for (size_t i = 0; i < images.size(); i++) {
    const std::string& path = images[i].path;
    if (bar) bar->update(ratio(i, images.size()));
    Image image;
    try {
      image = load_image(path, exif);
    } catch (const Error& e) {
      print_unread(path, e.what(), json);
      unread++;
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    const Detections found = detector->run(view_of(image));
    const double milliseconds = 1000 * seconds_since(start);
    if (json)
      std::cout << json_of(path, image, found, detector->info())
                       .dump(-1, ' ', false, Json::error_handler_t::replace)
                << std::endl;
    else
      print_table(path, image, found, detector->info(), milliseconds);
    if (!drawing.empty())
      draw(std::move(image), found, detector->info(),
           drawing_path(drawing, path, images.size() > 1));
  }
  if (bar) bar->update(1);
  return unread > 0 ? 1 : 0;
}

}  // namespace vitrun
