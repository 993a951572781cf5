// How the integer engine puts neighbourhoods of an image or of a map of codes into rows.
#pragma once

#include <algorithm>

#include "models/graph/neighbourhoods.h"

namespace vitrun {

// The place of channel 0 of (ky, kx) in a row that holds a neighbourhood, and how far apart
// channels are.
struct Element {
  int64_t first, step;
};
inline Element element_of(const Neighbourhoods& n, ElementOrder order, int channels, int ky,
                          int kx) {
  const int64_t k =
      order == ElementOrder::kColumnsFirst ? kx * n.kernel_height + ky : ky * n.kernel_width + kx;
  return order == ElementOrder::kChannelsFirst ? Element{k, n.kernel()} : Element{k * channels, 1};
}

// Neighbourhood `position` of an image [channels, H, W], whose channels become x scale + shift
// where there are such.
inline void gather_patch(const Neighbourhoods& n, ElementOrder order, const float* image,
                         int channels, const float* scale, const float* shift, int position,
                         float* to) {
  const auto pixel = [&](float x, int c) { return scale ? x * scale[c] + shift[c] : x; };
  const int64_t area = int64_t{n.height} * n.width;
  const int top = n.row(position, 0, 0),
            bottom = n.row(position, n.kernel_height - 1, n.kernel_width - 1);
  if (order == ElementOrder::kChannelsFirst && top >= 0 && bottom >= 0) {  // none is outside
    for (int c = 0; c < channels; c++)
      for (int ky = 0; ky < n.kernel_height; ky++) {
        const float* row = image + c * area + top + ky * n.width;
        for (int kx = 0; kx < n.kernel_width; kx++) *to++ = pixel(row[kx], c);
      }
    return;
  }
  for (int ky = 0; ky < n.kernel_height; ky++)
    for (int kx = 0; kx < n.kernel_width; kx++) {
      const int row = n.row(position, ky, kx);
      const Element e = element_of(n, order, channels, ky, kx);
      for (int c = 0; c < channels; c++)
        to[e.first + c * e.step] = row < 0 ? 0 : pixel(image[c * area + row], c);
    }
}

// Neighbourhood `position` of codes [H W, channels], rows `map_stride` bytes apart.
inline void gather_codes(const Neighbourhoods& n, ElementOrder order, const uint8_t* map,
                         int64_t map_stride, int channels, int position, uint8_t outside,
                         uint8_t* to, int64_t stride) {
  for (int ky = 0; ky < n.kernel_height; ky++)
    for (int kx = 0; kx < n.kernel_width; kx++) {
      const int row = n.row(position, ky, kx);
      const Element e = element_of(n, order, channels, ky, kx);
      const uint8_t* from = map + row * map_stride;
      if (e.step != 1)
        for (int c = 0; c < channels; c++) to[e.first + c * e.step] = row < 0 ? outside : from[c];
      else if (row < 0)
        std::fill_n(to + e.first, channels, outside);
      else
        std::copy_n(from, channels, to + e.first);
    }
  const int64_t used = int64_t{n.kernel()} * channels;
  std::fill(to + used, to + stride, uint8_t{0});
}

}  // namespace vitrun
