#include "runtime/program/coco/coco_eval.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <span>

namespace vitrun {
namespace {

constexpr size_t kAllAreas = 0, kLimits = std::size(kCocoLimits);

// A mean of values that come one by one; -1 of none.
class Mean {
 public:
  void add(double x) {
    sum_ += x;
    count_++;
  }
  double value() const { return count_ > 0 ? sum_ / count_ : -1; }

 private:
  double sum_ = 0, count_ = 0;
};

// The detections of a category over all images, best first.
std::vector<const MatchedDetection*> ranked(const CategoryMatches& matches) {
  std::vector<const MatchedDetection*> order;
  for (const MatchedDetection& d : matches.detections) order.push_back(&d);
  std::ranges::stable_sort(order, std::greater<>(),
                           [](const MatchedDetection* d) { return d->score; });
  return order;
}

// Precision and recall after each detection; ignored ones change neither.
struct Trace {
  std::vector<double> precision, recall;
};

Trace trace_of(const std::vector<const MatchedDetection*>& order, int64_t objects, size_t area,
               size_t threshold, int limit) {
  constexpr double kTiny = std::numeric_limits<double>::epsilon();  // so that 0 / 0 is 0
  Trace trace;
  double right = 0, wrong = 0;
  for (const MatchedDetection* d : order) {
    if (d->rank >= limit) continue;
    right += d->outcomes[area][threshold] == CocoOutcome::kTrue;
    wrong += d->outcomes[area][threshold] == CocoOutcome::kFalse;
    trace.recall.push_back(right / static_cast<double>(objects));
    trace.precision.push_back(right / (wrong + right + kTiny));
  }
  return trace;
}

// The best precision at a recall of at least each of 0, .01, ... 1; 0 where it is not reached.
CocoCurve curve_of(Trace trace) {
  std::vector<double>& precision = trace.precision;
  for (size_t i = precision.size(); i-- > 1;)
    precision[i - 1] = std::max(precision[i - 1], precision[i]);
  CocoCurve curve{};
  constexpr double kStep = 1.0 / (kCocoRecalls - 1);
  for (size_t r = 0; r < kCocoRecalls; r++) {
    const double wanted = r + 1 == kCocoRecalls ? 1 : static_cast<double>(r) * kStep;
    const auto reached = std::ranges::lower_bound(trace.recall, wanted) - trace.recall.begin();
    if (reached == std::ssize(precision)) break;
    curve[r] = precision[static_cast<size_t>(reached)];
  }
  return curve;
}

CocoCurves curves_of(const CategoryMatches& matches) {
  const auto order = ranked(matches);
  CocoCurves curves;
  for (size_t area = 0; area < kCocoAreas; area++) {
    if (matches.objects[area] == 0) continue;
    curves.precision[area].emplace();
    curves.recall[area].emplace();
    auto& precision = *curves.precision[area];
    auto& recall = *curves.recall[area];
    for (size_t t = 0; t < kCocoThresholds; t++)
      for (size_t limit = 0; limit < kLimits; limit++) {
        Trace trace = trace_of(order, matches.objects[area], area, t, kCocoLimits[limit]);
        recall[limit][t] = trace.recall.empty() ? 0 : trace.recall.back();
        if (limit + 1 == kLimits) precision[t] = curve_of(std::move(trace));
      }
  }
  return curves;
}

void add(const CocoCurve& curve, Mean& mean) {
  for (double p : curve) mean.add(p);
}

// The mean over all thresholds, or at one.
double mean_precision(std::span<const CocoCurves> categories, size_t area,
                      std::optional<size_t> threshold = {}) {
  Mean mean;
  for (const CocoCurves& c : categories) {
    if (!c.precision[area]) continue;
    for (size_t t = 0; t < kCocoThresholds; t++)
      if (!threshold || t == *threshold) add((*c.precision[area])[t], mean);
  }
  return mean.value();
}

double mean_recall(std::span<const CocoCurves> categories, size_t area, size_t limit) {
  Mean mean;
  for (const CocoCurves& c : categories)
    if (c.recall[area])
      for (double recall : (*c.recall[area])[limit]) mean.add(recall);
  return mean.value();
}

}  // namespace

double CocoScores::category_ap(size_t category) const {
  return mean_precision({&categories[category], 1}, kAllAreas);
}

double CocoScores::category_ap(size_t category, size_t threshold) const {
  return mean_precision({&categories[category], 1}, kAllAreas, threshold);
}

CocoCurve CocoScores::mean_curve(size_t threshold) const {
  std::array<Mean, kCocoRecalls> means;
  for (const CocoCurves& c : categories)
    if (c.precision[kAllAreas])
      for (size_t r = 0; r < kCocoRecalls; r++)
        means[r].add((*c.precision[kAllAreas])[threshold][r]);
  CocoCurve curve{};
  std::ranges::transform(means, curve.begin(),
                         [](const Mean& m) { return std::max(m.value(), 0.0); });
  return curve;
}

CocoScores coco_scores(const CocoSet& set, const CocoDetections& detections, CocoKind kind) {
  CocoScores scores;
  for (const CategoryMatches& matches : match_categories(set, detections, kind))
    scores.categories.push_back(curves_of(matches));
  const auto& c = scores.categories;
  size_t next = 0;
  scores.figures[next++] = mean_precision(c, kAllAreas);
  for (size_t threshold : {kCoco50, kCoco75})
    scores.figures[next++] = mean_precision(c, kAllAreas, threshold);
  for (size_t area = 1; area < kCocoAreas; area++) scores.figures[next++] = mean_precision(c, area);
  for (size_t limit = 0; limit < kLimits; limit++)
    scores.figures[next++] = mean_recall(c, kAllAreas, limit);
  for (size_t area = 1; area < kCocoAreas; area++)
    scores.figures[next++] = mean_recall(c, area, kLimits - 1);
  return scores;
}

}  // namespace vitrun
