// Measures the accuracy of a model on labelled images, and its agreement with a reference model.
#pragma once

#include <functional>
#include <vector>

#include "runtime/program/image_loader.h"
#include "runtime/program/predictor.h"

namespace vitrun {

struct Evaluation {
  int64_t images = 0, labelled = 0, top1 = 0, top5 = 0;
  std::vector<UnreadImage> unread;  // which count nowhere else
  int64_t agree = 0;                // images whose first class is the reference's
  double squared_error = 0;         // sum of (logit - the reference's)^2
  double energy = 0;                // sum of the reference's logits^2
  double seconds = 0;               // time in the model alone

  double top1_share() const { return ratio(top1, labelled); }
  double top5_share() const { return ratio(top5, labelled); }
  double agreement() const { return ratio(agree, images); }
  double logits_error() const;  // sqrt(squared_error / energy)
};

// Returns the reference's logits [n, classes] for `images`, before which `first` images were read.
using ReferenceLogits = std::function<Tensor(int64_t first, const Tensor& images)>;

// Runs the samples in batches and counts. A model of one output has two classes, of which it
// predicts the second where its logit is above 0. A label of -1 does not count; one that is no
// class of the model fails, and so does a run in which no image could be read. `reference` may be
// empty.
Evaluation evaluate(Predictor& model, const ReferenceLogits& reference, ImageLoader& loader,
                    const std::vector<Sample>& samples, size_t batch,
                    const std::function<void(double)>& progress);

}  // namespace vitrun
