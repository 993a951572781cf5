#include "runtime/detect/logit_scores.h"

#include <algorithm>
#include <cmath>

#include "runtime/choose_kernels.h"

namespace vitrun {

void sigmoid(std::span<float> x) {
  const Kernels& kernels = choose_kernels();
  constexpr size_t kBlock = 256;
  float e[kBlock];
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    const std::span<float> block = x.subspan(begin, std::min(kBlock, x.size() - begin));
    for (size_t i = 0; i < block.size(); i++) e[i] = -block[i];
    kernels.exp(e, static_cast<int64_t>(block.size()), e);
    for (size_t i = 0; i < block.size(); i++)
      if (!std::isnan(block[i])) block[i] = 1 / (1 + e[i]);
  }
}

void softmax(std::span<float> x) {
  float top = -INFINITY;
  for (float v : x) {
    if (std::isnan(v)) top = NAN;
    if (!std::isnan(top)) top = std::max(top, v);
  }
  if (std::isnan(top) || top == INFINITY) {
    std::ranges::fill(x, NAN);
    return;
  }
  for (float& v : x) v -= top;
  choose_kernels().exp(x.data(), static_cast<int64_t>(x.size()), x.data());
  float sum = 0;
  for (float v : x) sum += v;
  for (float& v : x) v /= sum;
}

}  // namespace vitrun
