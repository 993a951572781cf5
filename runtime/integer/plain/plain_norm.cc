// Norms. Sums over a row use 16 lanes as kernels.h says.
#include <algorithm>
#include <cmath>

#include "runtime/integer/plain/plain.h"

namespace vitrun {
namespace {

// The sum of x^2 in 16 lanes, then l and l+8, l+4, l+2, l+1.
float squares16(const float* x, int n) {
  float lanes[16] = {};
  for (int i = 0; i < n; i++) lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
  for (int step = 8; step > 0; step /= 2)
    for (int l = 0; l < step; l++) lanes[l] += lanes[l + step];
  return lanes[0];
}

}  // namespace

void run_norm(const PlainCall& c) {
  const float eps = static_cast<float>(c.node.real(Attribute::kEpsilon));
  const PlainInput& x = c.in[0];
  const int column = c.node.whole(Attribute::kBegin);
  const int group = c.node.whole(Attribute::kGroup, c.cols());
  if (c.node.norm() == NormType::kLayer) {
    for (int first = 0; first < c.cols(); first += group) {
      const NormArgs args{.m = c.end - c.begin,
                          .c = group,
                          .x = x.row(c.begin) + column + first,
                          .x_stride = x.stride,
                          .gamma = c.weight + first,
                          .beta = c.bias + first,
                          .eps = eps};
      c.kernels.layernorm(args, c.row(c.begin) + first, c.stride);
    }
    return;
  }
  const bool rms = c.node.norm() == NormType::kRms;
  for (int r = c.begin; r < c.end; r++)
    for (int first = 0; first < c.cols(); first += group) {
      const float* from = x.row(r) + column + first;
      const float squares = squares16(from, group);
      const float scale = rms ? 1 / std::sqrt(squares / static_cast<float>(group) + eps)
                              : 1 / std::max(std::sqrt(squares), eps);
      float* y = c.row(r) + first;
      for (int i = 0; i < group; i++) {
        const float scaled = from[i] * scale * (c.weight ? c.weight[first + i] : 1);
        y[i] = scaled + (c.bias ? c.bias[first + i] : 0);
      }
    }
}

}  // namespace vitrun
