// The region proposals of a detector: the RPN's best boxes.
#pragma once

#include <vector>

#include "runtime/detect/boxes.h"
#include "runtime/detect/networks.h"

namespace vitrun {

// Returns the best boxes of all levels, best first; a candidate's group is its level. Of each level
// the rpn_pre_nms best are decoded and clipped to width x height, the image without its padding;
// those with a side of at most rpn_min_size are dropped, and NMS runs within the level. Fails if
// the outputs' shapes do not fit together.
std::vector<Candidate> propose(const BackboneOutputs& outputs, const DetectorInfo& info, int width,
                               int height);

}  // namespace vitrun
