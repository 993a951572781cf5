#include "runtime/detect/box_stages.h"

#include <algorithm>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/detect/logit_scores.h"
#include "runtime/detect/roi_align.h"

namespace vitrun {
namespace {

// The answers of a stage's head for all boxes.
struct Answers {
  int classes = 0;            // without the background
  int delta_columns = 0;      // 4, or 4 a class
  std::vector<float> logits;  // [boxes, classes + 1]
  std::vector<float> deltas;  // [boxes, delta_columns]

  const float* deltas_of(int box, int label) const {
    const int64_t row = int64_t{box} * delta_columns;
    return deltas.data() + row + (delta_columns == 4 ? 0 : 4 * label);
  }
};

void append(const DetectorNetworks::Boxes& boxes, int64_t count, Answers& to) {
  const Dims &logits = boxes.logits.dims, &deltas = boxes.deltas.dims;
  const bool fits = logits.size() == 2 && deltas.size() == 2 && logits[0] == count &&
                    deltas[0] == count && logits[1] >= 2 &&
                    (deltas[1] == 4 || deltas[1] == 4 * (logits[1] - 1)) &&
                    (to.classes == 0 || to.classes + 1 == logits[1]) &&
                    (to.delta_columns == 0 || to.delta_columns == deltas[1]);
  if (!fits)
    fail("detector: a box head gave logits of shape ", to_string(logits), " and deltas of shape ",
         to_string(deltas), " for ", count, " boxes");
  to.classes = static_cast<int>(logits[1] - 1);
  to.delta_columns = static_cast<int>(deltas[1]);
  to.logits.insert(to.logits.end(), boxes.logits.data.begin(), boxes.logits.data.end());
  to.deltas.insert(to.deltas.end(), boxes.deltas.data.begin(), boxes.deltas.data.end());
}

Answers ask(const RoiSource& source, std::span<const Box> boxes, const DetectorInfo& info,
            int stage, DetectorNetworks& networks) {
  Answers answers;
  for (size_t begin = 0; begin < boxes.size(); begin += kBoxBatch) {
    const auto batch = boxes.subspan(begin, std::min<size_t>(kBoxBatch, boxes.size() - begin));
    const Tensor rois = roi_align(source.maps, info.strides, batch, info.box_bins, source.pool);
    append(networks.boxes(stage, rois), static_cast<int64_t>(batch.size()), answers);
  }
  return answers;
}

// The first class, without the background, of the largest logit.
int best_class(const Answers& answers, int box) {
  const float* logits = answers.logits.data() + int64_t{box} * (answers.classes + 1);
  return static_cast<int>(std::max_element(logits, logits + answers.classes) - logits);
}

void add_logits(const Answers& answers, std::vector<float>& sums) {
  if (sums.empty()) sums.resize(answers.logits.size());
  if (sums.size() != answers.logits.size())
    fail("detector: the box heads have different numbers of classes");
  for (size_t i = 0; i < sums.size(); i++) sums[i] += answers.logits[i];
}

struct Candidates {
  std::vector<Candidate> all;
  std::vector<int> rows;  // of each: the box that it comes from
};

// The candidates of all classes, from the sums of the stages' logits.
Candidates candidates_of(std::span<const Box> boxes, const Answers& answers,
                         std::vector<float>& logits, const DetectorInfo& info,
                         const DeltaDecoder& decode) {
  Candidates candidates;
  const auto columns = static_cast<size_t>(answers.classes) + 1;
  for (float& logit : logits) logit /= static_cast<float>(info.stages);
  for (int i = 0; i < count_of(boxes); i++) {
    const std::span<float> scores(logits.data() + static_cast<size_t>(i) * columns, columns);
    softmax(scores);
    for (int label = 0; label < answers.classes; label++) {
      const float score = scores[static_cast<size_t>(label)];
      if (!(score > info.score_threshold)) continue;
      const Box box = decode(boxes[static_cast<size_t>(i)], answers.deltas_of(i, label));
      candidates.all.push_back({box, score, label});
      candidates.rows.push_back(i);
    }
  }
  return candidates;
}

}  // namespace

FoundBoxes find_boxes(const RoiSource& source, std::vector<Box> boxes, const DetectorInfo& info,
                      DetectorNetworks& networks) {
  FoundBoxes out;
  if (boxes.empty()) return out;
  std::vector<float> logits;
  Candidates candidates;
  for (int stage = 0; stage < info.stages; stage++) {
    const DeltaDecoder decode(at(info.stds, stage), static_cast<float>(source.width),
                              static_cast<float>(source.height));
    const Answers answers = ask(source, boxes, info, stage, networks);
    out.stages.push_back(boxes);
    add_logits(answers, logits);
    if (stage + 1 < info.stages) {
      for (int i = 0; i < count_of(boxes); i++)
        at(boxes, i) = decode(at(boxes, i), answers.deltas_of(i, best_class(answers, i)));
    } else {
      candidates = candidates_of(boxes, answers, logits, info, decode);
    }
  }
  for (int i : nms(candidates.all, info.nms_threshold, info.max_detections)) {
    out.found.push_back(at(candidates.all, i));
    out.rows.push_back(at(candidates.rows, i));
  }
  return out;
}

}  // namespace vitrun
