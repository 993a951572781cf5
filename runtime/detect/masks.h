// Pasting: a square mask of probabilities under a box becomes the pixels of an image.
#pragma once

#include <span>

#include "runtime/detect/boxes.h"
#include "runtime/detect/rle.h"

namespace vitrun {

// Resamples mask [side, side] bilinearly at the centres of the pixels of a height x width image,
// zeros outside the mask; a pixel with at least 1/2 is inside. A box without size, or that is not
// finite, has no pixels. Work is proportional to the columns under the box times `side`, plus the
// pixels near the mask's edge.
Rle paste_mask(std::span<const float> mask, int side, const Box& box, int height, int width);

}  // namespace vitrun
