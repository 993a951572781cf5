// Pictures of relevance.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lrp/walk/relevance.h"
#include "models/graph/model_info.h"

namespace vitrun {

// A PNG: the image as the model sees it, beside it the same under its relevance map (scaled to its
// own range, upsampled bilinearly) with a colour bar. `image` is [1, 3, H, W], preprocessed.
// `patches` is the grid of the map's elements.
std::vector<uint8_t> draw_heatmap(const ModelInfo& info, MapSize patches, const Tensor& image,
                                  const std::vector<float>& heatmap);

}  // namespace vitrun
