#include "runtime/program/coco/coco_agreement.h"

#include <algorithm>
#include <map>
#include <utility>

#include "models/base/index.h"
#include "runtime/program/coco/coco_masks.h"

namespace vitrun {
namespace {

using Group = std::vector<const CocoDetection*>;

// The sure detections by image and category.
std::map<std::pair<int, int>, Group> sure(const CocoDetections& detections, int64_t& count) {
  std::map<std::pair<int, int>, Group> groups;
  for (const CocoDetection& d : detections.found) {
    if (d.score < kSureScore) continue;
    groups[{d.image, d.category}].push_back(&d);
    count++;
  }
  return groups;
}

struct Pair {
  double overlap;
  size_t ours, theirs;
};

void add_pairs(const Group& ours, const Group& theirs, CocoAgreement& out) {
  std::vector<Pair> pairs;
  for (size_t i = 0; i < ours.size(); i++)
    for (size_t k = 0; k < theirs.size(); k++)
      if (const double overlap = box_overlap(ours[i]->box, theirs[k]->box, false);
          overlap >= kSameOverlap)
        pairs.push_back({overlap, i, k});
  std::ranges::stable_sort(pairs, std::greater<>(), &Pair::overlap);
  std::vector<bool> taken(ours.size()), given(theirs.size());
  for (const Pair& p : pairs) {
    if (taken[p.ours] || given[p.theirs]) continue;
    taken[p.ours] = given[p.theirs] = true;
    out.both++;
    out.box_overlap += p.overlap;
    out.mask_overlap += mask_overlap(ours[p.ours]->mask, theirs[p.theirs]->mask, false);
  }
}

}  // namespace

CocoAgreement coco_agreement(const CocoDetections& detections, const CocoDetections& reference) {
  CocoAgreement out;
  const auto ours = sure(detections, out.found), theirs = sure(reference, out.reference);
  for (const auto& [place, group] : ours)
    if (const auto other = theirs.find(place); other != theirs.end())
      add_pairs(group, other->second, out);
  if (out.both > 0) {
    out.box_overlap /= static_cast<double>(out.both);
    out.mask_overlap /= static_cast<double>(out.both);
  }
  return out;
}

}  // namespace vitrun
