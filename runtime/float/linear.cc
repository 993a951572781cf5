#include <algorithm>
#include <cmath>

#include "runtime/float/blas.h"
#include "runtime/float/operators.h"

namespace vitrun {
namespace {

// z, on entry |x| |W|^T, becomes S = safe(R, Z). Returns the relevance of outputs whose Z is 0.
double divide_by_positive(const BackwardCall& c, const float* bias, int rows, float* z) {
  const size_t n = static_cast<size_t>(c.shape().cols);
  const float *y = c.out.data.data(), *relevance = c.flow.relevance.data();
  double lost = 0;
  for (int row = 0; row < rows; row++, z += n, y += n, relevance += n) {
    float lost_here = 0;
    for (size_t j = 0; j < n; j++) {
      const float positive = 0.5f * (y[j] - (bias ? bias[j] : 0) + z[j]);
      // Below the rounding of its terms Z is 0.
      const bool none = positive <= 1e-6f * z[j];
      const float s = safe_divide(relevance[j], positive);
      lost_here += none ? relevance[j] : 0;
      z[j] = none ? 0 : s;
    }
    lost += static_cast<double>(lost_here);
  }
  return lost;
}

// The rows up to the last in which anything flows: behind the class token it is only the first.
int live_rows(const Flow& flow, int rows, size_t cols) {
  const auto quiet = [&](size_t row) {
    const auto zero = [](float v) { return v == 0; };
    const auto at = static_cast<std::ptrdiff_t>(row * cols),
               end = at + static_cast<std::ptrdiff_t>(cols);
    return std::all_of(flow.gradient.begin() + at, flow.gradient.begin() + end, zero) &&
           (!flow.relevant() ||
            std::all_of(flow.relevance.begin() + at, flow.relevance.begin() + end, zero));
  };
  while (rows > 1 && quiet(static_cast<size_t>(rows) - 1)) rows--;
  return rows;
}

}  // namespace

void affine(const float* x, const float* w, const float* bias, int64_t m, int n, int k, float* y) {
  for (int64_t i = 0; i < m; i++) {
    if (bias)
      std::copy(bias, bias + n, y + i * n);
    else
      std::fill(y + i * n, y + (i + 1) * n, 0.f);
  }
  blas().sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), n, k, 1.f, x, k, w, k,
               1.f, y, n);
}

void forward_linear(const ForwardCall& c) {
  const Tensor& x = *c.in[0];
  const int64_t tokens = x.dims[1];
  const int n = c.shape().cols, k = static_cast<int>(x.dims[2]);
  const float* w = c.param(c.node().weight);
  const float* bias = c.param(c.node().bias);
  const int64_t extra = c.shape().pad_row;
  const auto product = [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one product per image where pad rows lie between the images
      const int64_t image = begin / tokens;
      const int64_t stop = extra ? std::min(end, (image + 1) * tokens) : end;
      affine(x.data.data() + begin * k, w, bias, stop - begin, n, k,
             c.y.data.data() + (begin + image * extra) * n);
      begin = stop;
    }
  };
  parallel(c.pool, rows_of(x), product, extra ? tokens : kRowsTogether);
  for (int64_t image = 0; extra && image < c.batch(); image++)
    if (bias) std::copy(bias, bias + n, c.y.data.data() + ((image + 1) * (tokens + 1) - 1) * n);
}

// y = x W^T + b. With the positive and negative parts of x and W,
//   Z = x+ W+^T + x- W-^T = (y - b + |x| |W|^T) / 2,  S = safe(R, Z),
//   R_in = x+ (S W+) + x- (S W-) = (x (S W) + |x| (S |W|)) / 2:
// three products instead of four, since x W^T is known from the forward pass, and the gradient's
// with W in one with S W. A row for padding is no token: the walk has taken it off.
double backward_linear(const BackwardCall& c, Flows& to) {
  const Tensor& x = *c.in[0];
  const int n = c.shape().cols, k = static_cast<int>(x.dims[2]);
  const int m = live_rows(c.flow, static_cast<int>(x.dims[1]), static_cast<size_t>(n));
  const size_t live = static_cast<size_t>(m) * static_cast<size_t>(k);
  const size_t live_out = static_cast<size_t>(m) * static_cast<size_t>(n);
  const float* w = c.weights.at(c.node().weight).data.data();
  Flow& in = to[0];
  in.gradient.resize(x.data.size());
  std::fill(in.gradient.begin() + static_cast<std::ptrdiff_t>(live), in.gradient.end(), 0.f);
  if (!c.flow.relevant()) {
    multiply(false, false, m, k, n, 1, c.flow.gradient.data(), w, 0, in.gradient.data());
    return 0;
  }
  const float* magnitude = c.magnitudes.at(c.node().weight).data.data();
  const float* bias = c.node().bias.empty() ? nullptr : c.weights.at(c.node().bias).data.data();

  Values absolute(live), both(2 * live_out), back(2 * live);  // S, then the gradient
  for (size_t i = 0; i < live; i++) absolute[i] = std::fabs(x.data[i]);
  multiply(false, true, m, n, k, 1, absolute.data(), magnitude, 0, both.data());
  const double lost = divide_by_positive(c, bias, m, both.data());
  std::copy_n(c.flow.gradient.data(), live_out, both.data() + live_out);
  multiply(false, false, 2 * m, k, n, 1, both.data(), w, 0, back.data());

  in.relevance.resize(x.data.size());
  std::fill(in.relevance.begin() + static_cast<std::ptrdiff_t>(live), in.relevance.end(), 0.f);
  multiply(false, false, m, k, n, 1, both.data(), magnitude, 0, in.relevance.data());
  for (size_t i = 0; i < live; i++)
    in.relevance[i] = 0.5f * (x.data[i] * back[i] + absolute[i] * in.relevance[i]);
  std::copy_n(back.data() + live, live, in.gradient.data());
  return lost;
}

}  // namespace vitrun
