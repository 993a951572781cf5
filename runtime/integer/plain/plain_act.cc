// Activations, all from the kernels' functions, which give the same bits on every ISA.
#include <algorithm>

#include "models/graph/quantizers.h"
#include "runtime/integer/plain/plain.h"

namespace vitrun {
namespace {

constexpr int kChunk = 64;  // floats on the stack

// 1 / (1 + exp(-a x)), of which tanh x is 2 sigmoid(2 x) - 1.
void sigmoid(const Kernels& kernels, const float* x, int n, float a, float* y) {
  float exponential[kChunk] = {};
  for (int i = 0; i < n; i++) exponential[i] = -a * x[i];
  kernels.exp(exponential, n, exponential);
  for (int i = 0; i < n; i++) y[i] = 1 / (1 + exponential[i]);
}

void activate(const PlainCall& c, ActType type, const float* x, int n, float* y) {
  if (const auto activation = activation_of(type)) return c.kernels.activate(*activation, x, n, y);
  switch (type) {
    case ActType::kTanh:
      sigmoid(c.kernels, x, n, 2, y);
      for (int i = 0; i < n; i++) y[i] = 2 * y[i] - 1;
      return;
    default:
      return sigmoid(c.kernels, x, n, 1, y);
  }
}

}  // namespace

void run_act(const PlainCall& c) {
  const ActType type = c.node.act();
  const float limit = c.node.limit();
  for (int r = c.begin; r < c.end; r++)
    for (int first = 0; first < c.cols(); first += kChunk) {
      const int n = std::min(kChunk, c.cols() - first);
      float* y = c.row(r) + first;
      activate(c, type, c.in[0].row(r) + first, n, y);
      for (int i = 0; i < n; i++) y[i] = std::min(y[i], limit);
    }
}

}  // namespace vitrun
