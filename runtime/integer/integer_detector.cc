#include "runtime/integer/integer_detector.h"

#include <algorithm>

#include "models/base/error.h"
#include "runtime/detect/detector_input.h"

namespace vitrun {
namespace {

const Shape& input_shape(const QuantGraph& graph) {
  return (*graph.shapes)[graph.graph.find(NodeKind::kInput)];
}

const DetectorInfo& info_of(const QuantModel& model) {
  if (!model.detector()) fail(model.file().where(), ": is no detector");
  return *model.detector();
}

}  // namespace

IntegerDetector::IntegerDetector(const QuantModel& model, const Kernels& kernels, int threads)
    : model_(model),
      kernels_(kernels),
      pool_(threads),
      networks_(info_of(model), [this](const auto& graph, const auto& input, const auto& outputs) {
        return engines_.at(graph).run_outputs(input, outputs);
      }) {
  add_engine("backbone", 1, threads);
  add_engine("rpn", 1, threads);
  for (int s = 0; s < info_of(model).stages; s++) {
    add_engine(cat("box.", s), kBoxBatch, threads);
    add_engine(cat("mask.", s), kMaskBatch, threads);
  }
}

Detections IntegerDetector::run(const PixelView& image) {
  return detect(image, info_of(model_), model_.info().preprocess, networks_, &pool_);
}

void IntegerDetector::revive() {
  pool_.revive();
  for (auto& [name, engine] : engines_) engine.revive();
}

void IntegerDetector::add_engine(const std::string& graph, int batch, int threads) {
  engines_.try_emplace(
      graph, model_.graph(graph),
      EngineOptions{
          .threads = threads, .max_batch = batch, .kernels = &kernels_, .memory = memory_});
}

// A batch of RoIs, twice while it becomes maps, and a head's answers.
int64_t IntegerDetector::head_floats(const std::string& graph, int batch, int bins) const {
  const QuantGraph& head = model_.graph(graph);
  int64_t floats = int64_t{2} * bins * bins * input_shape(head).cols;
  for (const Output& o : head.graph.outputs) floats += 2 * (*head.shapes)[o.node].size();
  return floats * batch;
}

int64_t IntegerDetector::bytes_for(int width, int height) const {
  const DetectorInfo& info = info_of(model_);
  const MapSize input = input_size(width, height, info);
  const int64_t image = int64_t{3} * input.height * input.width;
  int64_t engines = engines_.at("backbone").bytes_for({input}, map_names(info));
  const int channels = input_shape(model_.graph("rpn")).cols;
  int64_t positions = 0, tallest = 0;
  for (const MapSize& map : map_sizes(input, info)) {
    engines = std::max(engines, engines_.at("rpn").bytes_for({map}, {"scores", "deltas"}));
    const int64_t size = int64_t{map.height} * map.width;
    positions += size;
    tallest = std::max(tallest, size);
  }
  const int64_t maps = positions * channels;
  int64_t heads = 0;
  for (int s = 0; s < info.stages; s++) {
    const std::string box = cat("box.", s), mask = cat("mask.", s);
    engines = std::max({engines, engines_.at(box).bytes_for({}, {"logits", "deltas"}),
                        engines_.at(mask).bytes_for({}, {"masks"})});
    heads = std::max({heads, head_floats(box, kBoxBatch, info.box_bins),
                      head_floats(mask, kMaskBatch, info.mask_bins)});
  }
  // The RPN's answers, the order of a level's scores and its candidates.
  const int64_t proposals = positions * 5 * info.anchors() + 4 * tallest * info.anchors();
  return engines + static_cast<int64_t>(sizeof(float)) * (image + maps + proposals + heads);
}

}  // namespace vitrun
