// Accuracy of a model on labelled images, and its agreement with a reference model.
#pragma once

#include <functional>
#include <vector>

#include "runtime/program/predictor.h"
#include "runtime/vision/dataset.h"

namespace vitrun {

struct Evaluation {
  int64_t images = 0, labelled = 0, top1 = 0, top5 = 0;
  int64_t agree = 0;                     // same first class as the reference
  double squared_error = 0, energy = 0;  // of the logits against the reference's
  double seconds = 0;                    // in the model alone

  double top1_share() const { return static_cast<double>(top1) / static_cast<double>(labelled); }
  double top5_share() const { return static_cast<double>(top5) / static_cast<double>(labelled); }
  double agreement() const { return static_cast<double>(agree) / static_cast<double>(images); }
  double logits_error() const;  // relative, root mean square
};

// The reference's logits [n, classes] for `images`, which are the samples from `first` on.
using ReferenceLogits = std::function<Tensor(size_t first, const Tensor& images)>;

// Runs the samples in batches; labels of -1 do not count. Fails on a label that is no class of the
// model. `reference` may be empty.
Evaluation evaluate(Predictor& model, const ReferenceLogits& reference,
                    const std::vector<Sample>& samples, size_t batch,
                    const std::function<void(double)>& progress);

}  // namespace vitrun
