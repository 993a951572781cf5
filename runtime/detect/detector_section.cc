#include "runtime/detect/detector_section.h"

#include <climits>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr int kMaxClasses = 100000;

template <class T>
std::vector<double> doubles(const T& values) {
  return {values.begin(), values.end()};
}

std::vector<float> floats(const std::vector<double>& values) {
  std::vector<float> out;
  for (double v : values) out.push_back(static_cast<float>(v));
  return out;
}

int whole(const QbinFile& file, const std::string& key) {
  const int64_t value = file.get_i64("detector." + key);
  if (value < 0 || value > INT_MAX / 4)
    fail(file.where(), ": 'detector.", key, "' is ", value, ", which is out of range");
  return static_cast<int>(value);
}

float real(const QbinFile& file, const std::string& key) {
  return static_cast<float>(file.get_f64("detector." + key));
}

}  // namespace

bool is_detector(const QbinFile& file) {
  return file.has("detector.stages");
}

std::map<std::string, QbinValue> detector_metadata(const DetectorInfo& info, int classes) {
  std::map<std::string, QbinValue> out;
  const auto put = [&](const char* key, QbinValue value) {
    out[cat("detector.", key)] = std::move(value);
  };
  const auto count = [&](const char* key, int value) { put(key, int64_t{value}); };
  count("classes", classes);
  count("stages", info.stages);
  count("shortest_edge", info.shortest_edge);
  count("longest_edge", info.longest_edge);
  count("size_divisor", info.size_divisor);
  count("rpn_pre_nms", info.rpn_pre_nms);
  count("rpn_post_nms", info.rpn_post_nms);
  count("max_detections", info.max_detections);
  count("box_bins", info.box_bins);
  count("mask_bins", info.mask_bins);
  put("rpn_nms_threshold", double{info.rpn_nms_threshold});
  put("rpn_min_size", double{info.rpn_min_size});
  put("score_threshold", double{info.score_threshold});
  put("nms_threshold", double{info.nms_threshold});
  put("scales", doubles(info.scales));
  put("ratios", doubles(info.ratios));
  put("strides", std::vector<int64_t>(info.strides.begin(), info.strides.end()));
  std::vector<double> stds;
  for (const auto& stage : info.stds) stds.insert(stds.end(), stage.begin(), stage.end());
  put("stds", stds);
  return out;
}

DetectorInfo read_detector(const QbinFile& file, ModelInfo& model) {
  DetectorInfo info;
  info.stages = whole(file, "stages");
  info.shortest_edge = whole(file, "shortest_edge");
  info.longest_edge = whole(file, "longest_edge");
  info.size_divisor = whole(file, "size_divisor");
  info.rpn_pre_nms = whole(file, "rpn_pre_nms");
  info.rpn_post_nms = whole(file, "rpn_post_nms");
  info.max_detections = whole(file, "max_detections");
  info.box_bins = whole(file, "box_bins");
  info.mask_bins = whole(file, "mask_bins");
  info.rpn_nms_threshold = real(file, "rpn_nms_threshold");
  info.rpn_min_size = real(file, "rpn_min_size");
  info.score_threshold = real(file, "score_threshold");
  info.nms_threshold = real(file, "nms_threshold");
  info.scales = floats(file.get_f64s("detector.scales"));
  info.ratios = floats(file.get_f64s("detector.ratios"));
  info.strides.clear();
  for (int64_t s : file.get_i64s("detector.strides"))
    info.strides.push_back(s > 0 && s < INT_MAX ? static_cast<int>(s) : 0);
  const std::vector<double>& stds = file.get_f64s("detector.stds");
  info.stds.clear();
  for (size_t i = 0; i + 4 <= stds.size(); i += 4)
    info.stds.push_back({static_cast<float>(stds[i]), static_cast<float>(stds[i + 1]),
                         static_cast<float>(stds[i + 2]), static_cast<float>(stds[i + 3])});
  model.num_classes = whole(file, "classes");
  try {
    check_detector_info(info);
    if (model.num_classes < 1 || model.num_classes > kMaxClasses)
      fail(model.num_classes, " classes");
  } catch (const Error& e) {
    fail(file.where(), ": ", e.what());
  }
  return info;
}

}  // namespace vitrun
