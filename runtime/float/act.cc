// Activations. Relevance passes through them unchanged.
#include <algorithm>
#include <cmath>

#include "models/graph/quantizers.h"
#include "runtime/choose_kernels.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

constexpr double kQuick = 1.702;                   // x sigmoid(1.702 x)
constexpr double kTanhInner = 0.7978845608028654;  // sqrt(2 / pi)
constexpr double kTanhCube = 0.044715;

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// The value and its derivative; GELU by erf is the kernels'.
std::pair<double, double> activate(ActType type, double x) {
  switch (type) {
    case ActType::kGelu: {
      const double cdf = 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
      return {x * cdf, cdf + x * std::exp(-0.5 * x * x) * 0.3989422804014327};
    }
    case ActType::kGeluTanh: {
      const double t = std::tanh(kTanhInner * (x + kTanhCube * x * x * x));
      const double inner = kTanhInner * (1 + 3 * kTanhCube * x * x);
      return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner};
    }
    case ActType::kQuickGelu:
    case ActType::kSilu: {
      const double a = type == ActType::kSilu ? 1 : kQuick, s = sigmoid(a * x);
      return {x * s, s + a * x * s * (1 - s)};
    }
    case ActType::kRelu:
      return {std::max(x, 0.0), x > 0 ? 1 : 0};
    case ActType::kSigmoid: {
      const double s = sigmoid(x);
      return {s, s * (1 - s)};
    }
    case ActType::kTanh: {
      const double t = std::tanh(x);
      return {t, 1 - t * t};
    }
  }
  return {0, 0};
}

// y = x Phi(x): y' = Phi(x) + x phi(x), with Phi = y / x from the forward pass; 0 at the limit.
void gelu_gradient(const BackwardCall& c, Values& gradient) {
  const std::vector<float>&x = c.in[0]->data, &y = c.out.data;
  const float limit = c.node().limit();
  Values density(x.size());
  for (size_t i = 0; i < x.size(); i++) density[i] = -0.5f * x[i] * x[i];
  choose_kernels().exp(density.data(), static_cast<int64_t>(x.size()), density.data());
  for (size_t i = 0; i < x.size(); i++) {
    constexpr float kPeak = 0.3989422804f;  // phi(0)
    const float cdf = std::fabs(x[i]) > 1e-3f ? y[i] / x[i] : 0.5f + kPeak * x[i];
    gradient[i] *= y[i] < limit ? cdf + x[i] * kPeak * density[i] : 0;
  }
}

}  // namespace

void forward_act(const ForwardCall& c) {
  const float limit = c.node().limit();
  const ActType type = c.node().act();
  parallel(c.pool, static_cast<int64_t>(c.y.data.size()), [&](int64_t begin, int64_t end) {
    const float* x = c.in[0]->data.data();
    float* y = c.y.data.data();
    if (const auto activation = activation_of(type))
      c.kernels.activate(*activation, x + begin, end - begin, y + begin);
    else
      for (int64_t i = begin; i < end; i++)
        y[i] = static_cast<float>(activate(type, double{x[i]}).first);
    if (limit < INFINITY)
      for (int64_t i = begin; i < end; i++) y[i] = std::min(y[i], limit);
  });
}

double backward_act(const BackwardCall& c, Flows& to) {
  to[0] = std::move(c.flow);
  if (c.node().act() == ActType::kGelu) {
    gelu_gradient(c, to[0].gradient);
    return 0;
  }
  const float limit = c.node().limit();
  for (size_t i = 0; i < to[0].gradient.size(); i++)
    to[0].gradient[i] *=
        c.out.data[i] < limit
            ? static_cast<float>(activate(c.node().act(), double{c.in[0]->data[i]}).second)
            : 0;
  return 0;
}

}  // namespace vitrun
