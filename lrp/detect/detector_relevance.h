// The relevance of what a detector finds: from the class logits of its detections back through the
// box heads, RoIAlign, the feature pyramid and the backbone (method.md section 4).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lrp/walk/relevance.h"
#include "runtime/detect/boxes.h"
#include "runtime/files/detector_file.h"
#include "runtime/vision/image.h"

namespace vitrun {

struct ExplainedPhoto {
  // The scores are those of the backbone's units; the target is the class asked for, or -1 for all.
  ImageRelevance relevance;
  std::vector<Candidate> found;  // what was explained, on `image`; nothing: no relevance
  // If a heat map was asked for: what the detector saw, [1, 3, H, W], and the map's patches.
  Tensor image;
  MapSize patches;
};

// Threads share the photos, and each walks one at a time. Memory is the float activations of the
// backbone for each thread: they grow with the photo's scaled size.
class DetectorRelevance {
 public:
  // The model must outlive this. Its copies of |W| take as much memory as the weights of backbone
  // and box heads. `epsilon` is that of ReverseWalk.
  DetectorRelevance(const FloatDetector& model, int threads, float epsilon = 0);
  ~DetectorRelevance();

  // Explains the detections of a class, -1 for all: together their logits have the relevance 1,
  // each the same part, and gradients are those of the logits' mean. In a cascade a logit is the
  // mean of the stages'. Fails on a class that the model does not have.
  std::vector<ExplainedPhoto> run(std::span<const Image> photos, int label, bool heatmap);

  // Shows every flow in the backbone to `observe`.
  ExplainedPhoto explain(const Image& photo, int label, bool heatmap,
                         const FlowObserver& observe = {});

  const Graph& backbone() const;

 private:
  class Walks;
  class Worker;
  void check_label(int label) const;

  std::unique_ptr<Walks> walks_;
  std::vector<std::unique_ptr<Worker>> workers_;  // by thread
  ThreadPool pool_;
};

}  // namespace vitrun
