#include "lrp/detect/detector_relevance.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "models/base/error.h"
#include "runtime/detect/box_stages.h"
#include "runtime/detect/detector_input.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/detect/proposals.h"
#include "runtime/detect/roi_align.h"

namespace vitrun {
namespace {

// The gradient or the relevance of a value's flow, zeros at first.
Values& values_of(Flow& flow, RoiFlow part, size_t size) {
  Values& values = part == RoiFlow::kGradient ? flow.gradient : flow.relevance;
  if (values.empty()) values.assign(size, 0);
  return values;
}

}  // namespace

// The walks through the graphs that relevance passes; all threads share them.
class DetectorRelevance::Walks {
 public:
  Walks(const FloatDetector& detector, float epsilon)
      : model(detector),
        backbone(walk_of("backbone", graph_of("backbone").find(Role::kEmbedding), epsilon)) {
    for (int s = 0; s < model.detector.stages; s++) {
      const std::string name = cat("box.", s);
      boxes.push_back(walk_of(name, graph_of(name).find(NodeKind::kInput), epsilon));
    }
  }

  const FloatDetector& model;
  ReverseWalk backbone;
  std::vector<ReverseWalk> boxes;  // by stage; they end with the RoI

 private:
  const Graph& graph_of(const std::string& name) const { return model.parts.at(name).graph; }
  ReverseWalk walk_of(const std::string& name, int end, float epsilon) const {
    const FloatModel& part = model.parts.at(name);
    return {part.graph, part.weights, end, epsilon};
  }
};

// The engines of one thread.
class DetectorRelevance::Worker {
 public:
  explicit Worker(const Walks& walks)
      : walks_(walks),
        info_(walks.model.detector),
        networks_(info_, [this](const auto& graph, const auto& input, const auto& names) {
          return run(graph, input, names);
        }) {
    for (const auto& [name, part] : walks.model.parts)
      if (!name.starts_with("mask")) engines_.try_emplace(name, part.graph, part.weights, 1);
  }

  ExplainedPhoto explain(const Image& photo, int label, bool heatmap, const FlowObserver& observe) {
    DetectorInput input = detector_input(view_of(photo), info_, walks_.model.info.preprocess);
    const BackboneOutputs out = networks_.backbone(input.image);
    const FoundBoxes boxes =
        find_boxes({out.maps, input.width, input.height, nullptr},
                   boxes_of(propose(out, info_, input.width, input.height)), info_, networks_);
    std::vector<int> chosen;
    for (int i = 0; i < count_of(boxes.found); i++)
      if (label < 0 || at(boxes.found, i).group == label) chosen.push_back(i);
    ExplainedPhoto result;
    result.relevance.target = label;
    for (int i : chosen) result.found.push_back(at(boxes.found, i));
    if (chosen.empty()) return result;
    walk_back(out.maps, boxes, chosen, result.relevance, observe);
    if (!heatmap) return result;
    const Shapes& shapes = engines_.at("backbone").shapes();
    const Shape& patches = shapes[walks_.backbone.end()];
    result.patches = {patches.height, patches.width};
    result.relevance.heatmap = row_sums(at(flows_, walks_.backbone.end()).relevance, patches.cols);
    result.image = std::move(input.image);
    return result;
  }

 private:
  std::vector<Tensor> run(const std::string& name, const Tensor& input,
                          const std::vector<std::string>& outputs) {
    Reference& engine = engines_.at(name);
    if (name != "backbone") return engine.run_outputs(input, outputs);
    const Graph& graph = engine.graph();
    values_ = engine.run_keeping(input, walks_.backbone.end(), graph.size() - 1);
    std::vector<Tensor> out;
    for (const std::string& output : outputs) out.push_back(at(values_, graph.output(output)));
    return out;
  }

  // Walks from the chosen detections to the embedding.
  void walk_back(const std::vector<FeatureMap>& maps, const FoundBoxes& boxes,
                 const std::vector<int>& chosen, ImageRelevance& out, const FlowObserver& observe) {
    flows_.assign(values_.size(), {});
    double absorbed = 0;
    const float part = 1 / static_cast<float>(count_of(chosen) * info_.stages);
    for (int i : chosen)
      for (int stage = 0; stage < info_.stages; stage++) {
        const Box& roi = at(at(boxes.stages, stage), at(boxes.rows, i));
        const auto level = static_cast<size_t>(roi_level(roi, count_of(maps)));
        const Flow at_roi =
            through_head(maps, roi, stage, at(boxes.found, i).group, part, absorbed);
        absorbed += onto_map(maps[level], static_cast<int>(level), roi, at_roi);
      }
    WalkResult walked =
        walks_.backbone.run(engines_.at("backbone").shapes(), values_, flows_, observe);
    out.score = std::move(walked.score);
    out.gradient_input = std::move(walked.gradient_input);
    const double left = sum(at(flows_, walks_.backbone.end()).relevance);
    out.conservation_error =
        std::max(walked.conservation_error, std::fabs(left + walked.absorbed + absorbed - 1));
  }

  // The flow at the features of a RoI, from its class's logit.
  Flow through_head(const std::vector<FeatureMap>& maps, const Box& roi, int stage, int label,
                    float part, double& absorbed) {
    Reference& engine = engines_.at(cat("box.", stage));
    const ReverseWalk& walk = at(walks_.boxes, stage);
    const int logits = engine.graph().output("logits");
    Tensor features = roi_align(maps, info_.strides, std::span(&roi, 1), info_.box_bins);
    features.dims = {1, info_.box_bins, info_.box_bins, features.dims[2]};
    std::vector<Tensor> values = engine.run_keeping(features, walk.end(), logits);
    std::vector<Flow> flows(values.size());
    Flow& start = at(flows, logits);
    start.relevance.assign(at(values, logits).data.size(), 0);
    at(start.relevance, label) = part;
    start.gradient = start.relevance;
    absorbed += walk.run(engine.shapes(), values, flows).absorbed;
    Flow at_roi = std::move(at(flows, walk.end()));
    return at_roi;
  }

  // Returns the relevance that lies outside the map.
  double onto_map(const FeatureMap& map, int level, const Box& roi, const Flow& flow) {
    Flow& to = at(flows_, walks_.backbone.graph().output(cat("p", level + 2)));
    const MapSize size = {map.height, map.width};
    double lost = 0;
    for (RoiFlow part : {RoiFlow::kGradient, RoiFlow::kRelevance}) {
      Values& values = values_of(to, part, map.rows.data.size());
      lost = roi_align_back(part, roi, at(info_.strides, level), size, info_.box_bins,
                            part == RoiFlow::kGradient ? flow.gradient : flow.relevance, values);
    }
    return lost;
  }

  const Walks& walks_;
  const DetectorInfo& info_;
  std::map<std::string, Reference> engines_;
  GraphNetworks networks_;
  std::vector<Tensor> values_;  // of the backbone, for the photo that is explained
  std::vector<Flow> flows_;
};

DetectorRelevance::DetectorRelevance(const FloatDetector& model, int threads, float epsilon)
    : walks_(std::make_unique<Walks>(model, epsilon)), pool_(threads) {
  for (int i = 0; i < threads; i++) workers_.push_back(std::make_unique<Worker>(*walks_));
}

DetectorRelevance::~DetectorRelevance() = default;

const Graph& DetectorRelevance::backbone() const {
  return walks_->backbone.graph();
}

void DetectorRelevance::check_label(int label) const {
  const int classes = walks_->model.info.num_classes;
  if (label < -1 || label >= classes)
    fail("class ", label, ": the model has ", classes, " classes");
}

ExplainedPhoto DetectorRelevance::explain(const Image& photo, int label, bool heatmap,
                                          const FlowObserver& observe) {
  check_label(label);
  return workers_[0]->explain(photo, label, heatmap, observe);
}

std::vector<ExplainedPhoto> DetectorRelevance::run(std::span<const Image> photos, int label,
                                                   bool heatmap) {
  check_label(label);
  std::vector<ExplainedPhoto> out(photos.size());
  std::atomic<size_t> next{0};
  pool_.run([&](int thread) {
    for (size_t i; (i = next.fetch_add(1)) < photos.size();)
      out[i] = at(workers_, thread)->explain(photos[i], label, heatmap, {});
  });
  return out;
}

}  // namespace vitrun
