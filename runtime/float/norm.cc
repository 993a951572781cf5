// Norms over the columns of a row. Relevance passes through all of them unchanged.
#include <algorithm>
#include <cmath>

#include "runtime/float/operators.h"

namespace vitrun {
namespace {

void layer_norm_row(const float* x, const float* gamma, const float* beta, int64_t n, float eps,
                    float* y) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  const float rstd = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + eps));
  const float centre = static_cast<float>(mean);
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - centre) * rstd * gamma[i] + beta[i];
}

// 1 / sqrt(mean x^2 + eps), or 1 / max(|x|, eps).
double inverse_length(const float* x, int64_t n, double eps, NormType type) {
  double squares = 0;
  for (int64_t i = 0; i < n; i++) squares += double{x[i]} * double{x[i]};
  if (type == NormType::kRms) return 1 / std::sqrt(squares / static_cast<double>(n) + eps);
  return 1 / std::max(std::sqrt(squares), eps);
}

// dx = scale (g gamma - mean(g gamma) - x^ mean(g gamma x^)), x^ = (x - mean) scale.
void layer_norm_gradient(const float* x, const float* g, const float* gamma, size_t n, double eps,
                         float* to) {
  double mean = 0, squares = 0, along = 0, across = 0;
  for (size_t i = 0; i < n; i++) mean += x[i];
  mean /= static_cast<double>(n);
  for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (size_t i = 0; i < n; i++) {
    const double d = static_cast<double>(g[i]) * static_cast<double>(gamma[i]);
    across += d;
    along += d * (x[i] - mean) * scale;
  }
  across /= static_cast<double>(n);
  along /= static_cast<double>(n);
  for (size_t i = 0; i < n; i++)
    to[i] = static_cast<float>(
        scale * (static_cast<double>(g[i] * gamma[i]) - across - (x[i] - mean) * scale * along));
}

// y = x scale gamma: dx = scale (g gamma - x scale^2 sum(g gamma x) / m), where m is n for the RMS
// norm and 1 for the L2 norm. Where |x| is below eps, as padding's, that would be up to g / eps; it
// is taken to be 0.
void scaled_gradient(const float* x, const float* g, const float* gamma, size_t n, double eps,
                     NormType type, float* to) {
  const double scale = inverse_length(x, static_cast<int64_t>(n), eps, type);
  if (type == NormType::kL2 && scale >= 1 / eps) {
    std::fill_n(to, n, 0.f);
    return;
  }
  double along = 0;
  for (size_t i = 0; i < n; i++)
    along += double{g[i]} * (gamma ? double{gamma[i]} : 1) * double{x[i]};
  along *= scale * scale / (type == NormType::kRms ? static_cast<double>(n) : 1);
  for (size_t i = 0; i < n; i++)
    to[i] = static_cast<float>(
        scale * (double{g[i]} * (gamma ? double{gamma[i]} : 1) - double{x[i]} * along));
}

// Puts rows of `from` [.., n] into columns `first` on of rows [.., cols], the others of which are
// 0.
Values widened(Values from, size_t n, size_t cols, size_t first) {
  if (n == cols) return from;
  Values to(from.size() / n * cols, 0);
  for (size_t row = 0; row < from.size() / n; row++)
    std::copy_n(from.data() + row * n, n, to.data() + row * cols + first);
  return to;
}

}  // namespace

void forward_norm(const ForwardCall& c) {
  const int64_t n = c.shape().cols, x_cols = c.shape_of(0).cols,
                first = c.node().whole(Attribute::kBegin);
  const float *gamma = c.param(c.node().weight), *beta = c.param(c.node().bias);
  const double eps = c.node().real(Attribute::kEpsilon);
  const NormType type = c.node().norm();
  const int64_t group = c.node().whole(Attribute::kGroup, c.shape().cols);
  parallel(c.pool, rows_of(c.y), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const float* x = c.in[0]->data.data() + i * x_cols + first;
      float* y = c.y.data.data() + i * n;
      for (int64_t j = 0; j < n; j += group) {
        if (type == NormType::kLayer) {
          layer_norm_row(x + j, gamma + j, beta + j, group, static_cast<float>(eps), y + j);
          continue;
        }
        const float scale = static_cast<float>(inverse_length(x + j, group, eps, type));
        for (int64_t k = j; k < j + group; k++)
          y[k] = x[k] * scale * (gamma ? gamma[k] : 1) + (beta ? beta[k] : 0);
      }
    }
  });
}

double backward_norm(const BackwardCall& c, Flows& to) {
  const size_t n = static_cast<size_t>(c.shape().cols),
               x_cols = static_cast<size_t>(c.shape_of(0).cols),
               first = static_cast<size_t>(c.node().whole(Attribute::kBegin));
  const auto group = static_cast<size_t>(c.node().whole(Attribute::kGroup, c.shape().cols));
  const float* gamma =
      c.node().weight.empty() ? nullptr : c.weights.at(c.node().weight).data.data();
  // The forward pass has it in float.
  const double eps = static_cast<double>(static_cast<float>(c.node().real(Attribute::kEpsilon)));
  to[0].relevance = widened(std::move(c.flow.relevance), n, x_cols, first);
  Values gradient(c.flow.gradient.size());
  for (size_t row = 0; row < gradient.size(); row += n) {
    const float *x = c.in[0]->data.data() + row / n * x_cols + first,
                *g = c.flow.gradient.data() + row;
    for (size_t j = 0; j < n; j += group) {
      const float* weight = gamma ? gamma + j : nullptr;
      float* to_group = gradient.data() + row + j;
      c.node().norm() == NormType::kLayer
          ? layer_norm_gradient(x + j, g + j, weight, group, eps, to_group)
          : scaled_gradient(x + j, g + j, weight, group, eps, c.node().norm(), to_group);
    }
  }
  to[0].gradient = widened(std::move(gradient), n, x_cols, first);
  return 0;
}

}  // namespace vitrun
