#include "runtime/program/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "models/base/error.h"

namespace vitrun {
namespace {

// Returns how many classes score above `c`; of equal scores the lower index is above.
int64_t rank_of(const float* logits, int classes, int c) {
  int64_t above = 0;
  for (int i = 0; i < classes; i++)
    above += logits[i] > logits[c] || (i < c && logits[i] == logits[c]);
  return above;
}

void count(const Tensor& logits, const Tensor* reference, const Sample* samples, Evaluation& n) {
  const int classes = static_cast<int>(logits.dims[1]);
  for (int64_t i = 0; i < logits.dims[0]; i++) {
    const float* x = logits.data.data() + i * classes;
    n.images++;
    if (samples[i].label >= 0) {
      const int64_t rank = rank_of(x, classes, samples[i].label);
      n.labelled++;
      n.top1 += rank == 0;
      n.top5 += rank < 5;
    }
    if (!reference) continue;
    const float* r = reference->data.data() + i * classes;
    n.agree += std::max_element(x, x + classes) - x == std::max_element(r, r + classes) - r;
    for (int c = 0; c < classes; c++) {
      n.squared_error += std::pow(double{x[c] - r[c]}, 2);
      n.energy += std::pow(double{r[c]}, 2);
    }
  }
}

void check_labels(const std::vector<Sample>& samples, const ModelInfo& config) {
  for (const Sample& s : samples)
    if (s.label >= config.num_classes)
      fail(s.path, ": label ", s.label, ", the model has ", config.num_classes, " classes");
}

}  // namespace

double Evaluation::logits_error() const {
  return std::sqrt(squared_error / energy);
}

Evaluation evaluate(Predictor& model, const ReferenceLogits& reference,
                    const std::vector<Sample>& samples, size_t batch,
                    const std::function<void(double)>& progress) {
  check_labels(samples, model.info());
  Evaluation result;
  ImageLoader loader(model.info());
  for (size_t first = 0; first < samples.size(); first += batch) {
    const size_t n = std::min(batch, samples.size() - first);
    const Tensor images = loader.load(samples, first, n);
    const auto start = std::chrono::steady_clock::now();
    const Tensor logits = model.run(images);
    result.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    Tensor expected;
    if (reference) expected = reference(first, images);
    count(logits, reference ? &expected : nullptr, samples.data() + first, result);
    if (progress) progress(ratio(first + n, samples.size()));
  }
  return result;
}

}  // namespace vitrun
