// A detector whose networks the integer engine runs.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/detect/detector.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/integer/engine.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// The engines, buffers and threads of one session. One thread at a time may use it; many may share
// a model, which must outlive them. Finds the same on every ISA and with any number of threads.
class IntegerDetector {
 public:
  // Fails on a model that is no detector.
  IntegerDetector(const QuantModel& model, const Kernels& kernels, int threads);

  // Finds objects as detect() does. The engines keep their buffers from image to image.
  Detections run(const PixelView& image);

  const Kernels& kernels() const { return kernels_; }
  // Returns the size of the engines' buffers, which is that for the largest image run.
  int64_t buffer_bytes() const { return static_cast<int64_t>(memory_->size()); }
  // An upper bound of the memory that run() takes for an image of width x height, buffer_bytes()
  // included, but for the masks it returns. Fails on a size that no image has.
  int64_t bytes_for(int width, int height) const;

  // Makes it usable in a child of fork(), as ThreadPool::revive() does.
  void revive();

 private:
  void add_engine(const std::string& graph, int batch, int threads);
  int64_t head_floats(const std::string& graph, int batch, int bins) const;

  const QuantModel& model_;
  const Kernels& kernels_;
  std::shared_ptr<EngineMemory> memory_ = std::make_shared<EngineMemory>();
  std::map<std::string, Engine> engines_;
  ThreadPool pool_;
  GraphNetworks networks_;
};

}  // namespace vitrun
