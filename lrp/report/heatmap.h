// Draws relevance maps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lrp/walk/relevance.h"
#include "models/graph/model_info.h"

namespace vitrun {

// Returns a PNG: the image as the model sees it, beside it the same image under its relevance map
// with a colour bar. The map is scaled to its own range and upsampled bilinearly. image is
// [1, 3, H, W], preprocessed; heatmap is [patches.height, patches.width].
std::vector<uint8_t> draw_heatmap(const ModelInfo& info, MapSize patches, const Tensor& image,
                                  const std::vector<float>& heatmap);

}  // namespace vitrun
