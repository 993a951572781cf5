#include "runtime/program/detect/object_detector.h"

#include "models/base/error.h"
#include "runtime/choose_kernels.h"
#include "runtime/detect/detector_section.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/integer/engine.h"

namespace vitrun {
namespace {

class IntegerDetector : public ObjectDetector {
 public:
  IntegerDetector(QbinFile file, const PredictorOptions& o)
      : model_(std::move(file)),
        kernels_(choose_kernels(o.isa)),
        pool_(o.threads),
        networks_(*model_.detector(),
                  [this](const auto& graph, const auto& input, const auto& names) {
                    return run_graph(graph, input, names);
                  }) {
    const DetectorInfo& info = *model_.detector();
    add_engine("backbone", 1, o.threads);
    add_engine("rpn", 1, o.threads);
    for (int s = 0; s < info.stages; s++) {
      add_engine(cat("box.", s), kBoxBatch, o.threads);
      add_engine(cat("mask.", s), kMaskBatch, o.threads);
    }
  }

  const ModelInfo& info() const override { return model_.info(); }
  Detections run(const PixelView& image) override {
    return detect(image, *model_.detector(), model_.info().preprocess, networks_, &pool_);
  }
  std::string engine() const override { return cat("integers, ", kernels_.name); }

 private:
  void add_engine(const std::string& graph, int batch, int threads) {
    engines_.try_emplace(
        graph, model_.graph(graph),
        EngineOptions{
            .threads = threads, .max_batch = batch, .kernels = &kernels_, .memory = memory_});
  }

  std::vector<Tensor> run_graph(const std::string& name, const Tensor& input,
                                const std::vector<std::string>& names) {
    Engine& engine = engines_.at(name);
    const QuantGraph& graph = model_.graph(name);
    const bool planar = (*graph.shapes)[graph.graph.find(NodeKind::kInput)].planar;
    const size_t at_height = planar ? 2 : 1, at_channels = planar ? 1 : 3;
    if (input.dims.at(at_channels) != (*graph.shapes)[graph.graph.find(NodeKind::kInput)].cols)
      fail(graph.where, ": its input does not have ", input.dims[at_channels], " channels");
    engine.select(
        {{static_cast<int>(input.dims[at_height]), static_cast<int>(input.dims[at_height + 1])}},
        names);
    const int batch = static_cast<int>(input.dims[0]);
    std::vector<Tensor> out;
    std::vector<float*> pointers;
    for (const PlannedOutput& o : engine.outputs()) {
      out.emplace_back(Dims{batch, o.rows, o.cols});
      pointers.push_back(out.back().data.data());
    }
    engine.run(input.data.data(), batch, pointers.data());
    engine.check_finite(batch, pointers.data());
    return out;
  }

  QuantModel model_;
  const Kernels& kernels_;
  std::shared_ptr<EngineMemory> memory_ = std::make_shared<EngineMemory>();
  std::map<std::string, Engine> engines_;
  ThreadPool pool_;
  GraphNetworks networks_;
};

}  // namespace

bool holds_detector(const std::string& path) {
  if (path.empty()) return false;
  return is_qbin(path) ? is_detector(QbinFile::open(path)) : float_weights_detect(path);
}

std::unique_ptr<ObjectDetector> open_detector(const std::string& path,
                                              const PredictorOptions& options) {
  if (!is_qbin(path)) {
    if (!options.isa.empty()) fail("--isa chooses integer kernels, ", path, " is a float model");
    return float_detector(path, options.weights, options.threads);
  }
  QbinFile file = QbinFile::open(path);
  if (options.verify) file.verify();
  return std::make_unique<IntegerDetector>(std::move(file), options);
}

}  // namespace vitrun
