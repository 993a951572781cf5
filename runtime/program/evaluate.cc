#include "runtime/program/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "models/base/error.h"
#include "runtime/program/cli.h"

namespace vitrun {
namespace {

// Returns how many classes score above `c`; of equal scores the lower index is above. One output is
// a score for class 1 against 0.
int64_t rank_of(const float* logits, int outputs, int c) {
  if (outputs == 1) return (logits[0] > 0) != (c == 1);
  int64_t above = 0;
  for (int i = 0; i < outputs; i++)
    above += logits[i] > logits[c] || (i < c && logits[i] == logits[c]);
  return above;
}

int64_t predicted(const float* logits, int outputs) {
  return outputs == 1 ? logits[0] > 0 : std::max_element(logits, logits + outputs) - logits;
}

// Counts the images whose labels are labels[i].
void count(const Tensor& logits, const Tensor* reference, const std::vector<int>& labels,
           Evaluation& n) {
  const int outputs = static_cast<int>(logits.dims[1]);
  for (int64_t i = 0; i < logits.dims[0]; i++) {
    const float* x = logits.data.data() + i * outputs;
    n.images++;
    if (at(labels, i) >= 0) {
      const int64_t rank = rank_of(x, outputs, at(labels, i));
      n.labelled++;
      n.top1 += rank == 0;
      n.top5 += rank < 5;
    }
    if (!reference) continue;
    const float* r = reference->data.data() + i * outputs;
    n.agree += predicted(x, outputs) == predicted(r, outputs);
    for (int c = 0; c < outputs; c++) {
      n.squared_error += std::pow(double{x[c] - r[c]}, 2);
      n.energy += std::pow(double{r[c]}, 2);
    }
  }
}

void check_labels(const std::vector<Sample>& samples, const ModelInfo& config) {
  const int classes = std::max(config.num_classes, 2);
  for (const Sample& s : samples)
    if (s.label >= classes)
      fail(s.path, ": label ", s.label, ", the model has ", classes, " classes");
}

}  // namespace

double Evaluation::logits_error() const {
  return std::sqrt(squared_error / energy);
}

Evaluation evaluate(Predictor& model, const ReferenceLogits& reference, ImageLoader& loader,
                    const std::vector<Sample>& samples, size_t batch,
                    const std::function<void(double)>& progress) {
  check_labels(samples, model.info());
  Evaluation result;
  result.unread = for_each_batch(loader, samples, batch, progress, [&](const LoadedImages& loaded) {
    const auto start = std::chrono::steady_clock::now();
    const Tensor logits = model.run(loaded.images);
    result.seconds += seconds_since(start);
    Tensor expected;
    if (reference) expected = reference(result.images, loaded.images);
    std::vector<int> labels;
    for (size_t i : loaded.read) labels.push_back(samples[i].label);
    count(logits, reference ? &expected : nullptr, labels, result);
  });
  return result;
}

}  // namespace vitrun
