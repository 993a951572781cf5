#include "runtime/program/coco/coco_match.h"

#include <algorithm>
#include <functional>
#include <map>

#include "models/base/index.h"
#include "runtime/program/coco/coco_masks.h"

namespace vitrun {
namespace {

struct AreaRange {
  double low, high;
  bool contains(double area) const { return area >= low && area <= high; }
};

constexpr double kNoEnd = 1e5 * 1e5, kSmall = 32 * 32, kLarge = 96 * 96;
constexpr AreaRange kAreas[kCocoAreas] = {
    {0, kNoEnd}, {0, kSmall}, {kSmall, kLarge}, {kLarge, kNoEnd}};

// The objects and detections of one category on one image.
struct ImageEntries {
  std::vector<const CocoObject*> objects;
  std::vector<const CocoDetection*> detections;
};

using CategoryEntries = std::map<int, ImageEntries>;  // by image

std::vector<CategoryEntries> entries_by_category(const CocoSet& set,
                                                 const CocoDetections& detections) {
  std::vector<CategoryEntries> categories(set.categories.size());
  for (const CocoObject& o : set.objects) at(categories, o.category)[o.image].objects.push_back(&o);
  for (const CocoDetection& d : detections.found)
    at(categories, d.category)[d.image].detections.push_back(&d);
  return categories;
}

void keep_best(std::vector<const CocoDetection*>& found) {
  std::ranges::stable_sort(found, std::greater<>(),
                           [](const CocoDetection* d) { return d->score; });
  found.resize(std::min(found.size(), size_t{kCocoLimits[2]}));
}

class ImageMatcher {
 public:
  ImageMatcher(const ImageEntries& entries, CocoKind kind) : entries_(entries) {
    for (const CocoDetection* d : entries.detections)
      for (const CocoObject* o : entries.objects)
        overlaps_.push_back(kind == CocoKind::kMasks ? mask_overlap(d->mask, o->mask, o->crowd)
                                                     : box_overlap(d->box, o->box, o->crowd));
  }

  void add_to(CategoryMatches& out) const {
    const size_t first = out.detections.size();
    for (size_t i = 0; i < entries_.detections.size(); i++)
      out.detections.push_back({entries_.detections[i]->score, static_cast<int>(i), {}});
    for (size_t area = 0; area < kCocoAreas; area++) match_area(area, first, out);
  }

 private:
  void match_area(size_t area, size_t first, CategoryMatches& out) const {
    std::vector<int> order;  // of the objects; ignored ones last
    for (int i = 0; i < count_of(entries_.objects); i++) order.push_back(i);
    const auto ignored = [&](int i) {
      const CocoObject& o = *at(entries_.objects, i);
      return o.crowd || !kAreas[area].contains(o.area);
    };
    const auto end = std::stable_partition(order.begin(), order.end(), std::not_fn(ignored));
    const auto counted = static_cast<size_t>(end - order.begin());
    out.objects[area] += static_cast<int64_t>(counted);
    const auto thresholds = coco_thresholds();
    for (size_t t = 0; t < kCocoThresholds; t++) {
      std::vector<bool> taken(order.size());
      for (size_t d = 0; d < entries_.detections.size(); d++)
        out.detections[first + d].outcomes[area][t] =
            outcome(d, area, take(d, thresholds[t], order, counted, taken), counted);
    }
  }

  // Returns the place in `order` of the object that detection d takes, or order.size(). The first
  // `counted` are not ignored.
  size_t take(size_t d, double threshold, const std::vector<int>& order, size_t counted,
              std::vector<bool>& taken) const {
    double best = std::min(threshold, 1 - 1e-10);
    size_t found = order.size();
    for (size_t i = 0; i < order.size(); i++) {
      if (taken[i] && !at(entries_.objects, order[i])->crowd) continue;
      if (found < counted && i >= counted) break;
      const double overlap = overlaps_[d * order.size() + static_cast<size_t>(order[i])];
      if (overlap < best) continue;
      best = overlap;
      found = i;
    }
    if (found < order.size()) taken[found] = true;
    return found;
  }

  CocoOutcome outcome(size_t d, size_t area, size_t found, size_t counted) const {
    if (found < counted) return CocoOutcome::kTrue;
    const bool fits = kAreas[area].contains(entries_.detections[d]->area);
    return found < entries_.objects.size() || !fits ? CocoOutcome::kIgnored : CocoOutcome::kFalse;
  }

  const ImageEntries& entries_;
  std::vector<double> overlaps_;  // [detections, objects]
};

}  // namespace

std::array<double, kCocoThresholds> coco_thresholds() {
  constexpr double kFirst = .5, kLast = .95, kStep = (kLast - kFirst) / (kCocoThresholds - 1);
  std::array<double, kCocoThresholds> thresholds{};
  for (size_t i = 0; i < kCocoThresholds; i++)
    thresholds[i] = static_cast<double>(i) * kStep + kFirst;
  thresholds.back() = kLast;
  return thresholds;
}

std::vector<CategoryMatches> match_categories(const CocoSet& set, const CocoDetections& detections,
                                              CocoKind kind) {
  std::vector<CategoryMatches> out;
  for (CategoryEntries& images : entries_by_category(set, detections)) {
    CategoryMatches& matches = out.emplace_back();
    for (auto& [image, entries] : images) {
      keep_best(entries.detections);
      ImageMatcher(entries, kind).add_to(matches);
    }
  }
  return out;
}

}  // namespace vitrun
