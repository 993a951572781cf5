// Activations, all from the kernels' exp and GELU, which give the same bits on every ISA.
#include <algorithm>
#include <cmath>

#include "runtime/integer/plain/plain.h"

namespace vitrun {
namespace {

constexpr int kChunk = 64;  // floats on the stack
constexpr float kQuick = 1.702f;
constexpr float kTanhInner = 0.7978845608f;  // sqrt(2 / pi)
constexpr float kTanhCube = 0.044715f;

// The argument of the sigmoid in y = x sigmoid(a x), or of the sigmoid itself. GELU by tanh is
// x (1 + tanh u) / 2 = x sigmoid(2 u), tanh u = 2 sigmoid(2 u) - 1.
float inner(ActType type, float x) {
  switch (type) {
    case ActType::kGeluTanh:
      return 2 * kTanhInner * (x + kTanhCube * x * x * x);
    case ActType::kQuickGelu:
      return kQuick * x;
    case ActType::kTanh:
      return 2 * x;
    default:
      return x;
  }
}

void activate(const PlainCall& c, ActType type, const float* x, int n, float* y) {
  if (type == ActType::kGelu) return c.kernels.gelu(x, n, y);
  if (type == ActType::kRelu) {
    for (int i = 0; i < n; i++) y[i] = std::max(x[i], 0.f);
    return;
  }
  float exponential[kChunk] = {};
  for (int i = 0; i < n; i++) exponential[i] = -inner(type, x[i]);
  c.kernels.exp(exponential, n, exponential);
  for (int i = 0; i < n; i++) {
    const float sigmoid = 1 / (1 + exponential[i]);
    y[i] = type == ActType::kSigmoid ? sigmoid
           : type == ActType::kTanh  ? 2 * sigmoid - 1
                                     : x[i] * sigmoid;
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
