// Pictures of relevance.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lrp/walk/relevance.h"

namespace vitrun {

// A PNG: the image as the model sees it, beside it the same under its relevance map (scaled to its
// own range, upsampled bilinearly) with a colour bar. `image` is [1, 3, H, W], preprocessed.
std::vector<uint8_t> draw_heatmap(const Graph& graph, const Tensor& image,
                                  const std::vector<float>& heatmap);

}  // namespace vitrun
