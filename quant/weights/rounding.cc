#include "quant/weights/rounding.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

// The Cholesky factor, column-major, from LAPACK, which OpenBLAS contains.
extern "C" void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);

namespace vitrun {
namespace {

constexpr int kDescents = 2;  // rounds of coordinate descent, before a last fit of the scales
constexpr int kPasses = 2;    // passes over the codes of a row in each round

size_t side_of(const Doubles& m) {
  return static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(m.size()))));
}

// part * mean of M's diagonal, which damping adds to the diagonal.
double damping_of(const Doubles& m, double part) {
  const size_t n = side_of(m);
  double trace = 0;
  for (size_t i = 0; i < n; i++) trace += m[i * (n + 1)];
  return std::max(part * trace / static_cast<double>(n), 1e-12);
}

std::vector<float> with_damping(const Damped& damped) {
  std::vector<float> out(damped.m.begin(), damped.m.end());
  const auto damping = static_cast<float>(damping_of(damped.m, damped.part));
  for (size_t i = 0, n = side_of(damped.m); i < n; i++) out[i * (n + 1)] += damping;
  return out;
}

// W^ - W.
std::vector<float> rounding_error(const Tensor& weight, const WeightCodes& codes) {
  std::vector<float> e = dequantize_weight(codes).data;
  for (size_t i = 0; i < e.size(); i++) e[i] -= weight.data[i];
  return e;
}

// a b, with a [m, n] and b [n, k].
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, size_t m,
                           size_t k) {
  std::vector<float> out(m * k);
  const int n = static_cast<int>(a.size() / m), cols = static_cast<int>(k);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(m), cols, n, 1, a.data(),
              n, b.data(), cols, 0, out.data(), cols);
  return out;
}

// out += sum over i of parts[i] rows[i], with rows [parts.size(), out.size()].
void add_rows(std::span<const float> parts, const float* rows, std::span<float> out) {
  const int k = static_cast<int>(out.size());
  if (!parts.empty())
    cblas_sgemv(CblasRowMajor, CblasTrans, static_cast<int>(parts.size()), k, 1, rows, k,
                parts.data(), 1, 1, out.data(), 1);
}

// x M, with M [k, k] symmetric.
std::vector<float> times(const std::vector<float>& x, const std::vector<float>& m) {
  const int k = static_cast<int>(x.size());
  std::vector<float> out(x.size());
  cblas_ssymv(CblasRowMajor, CblasUpper, k, 1, m.data(), k, x.data(), 1, 0, out.data(), 1);
  return out;
}

// sum_j importance[j] (w^_j - w_j)^2. It rounds as quantize() does, but by adding and subtracting
// 1.5 * 2^23, after which a float has no fraction bits left, so that the loop is vectorised.
double weighted_error(std::span<const float> row, std::span<const float> importance,
                      UniformRange range, int bits) {
  constexpr float kWhole = 12582912;
  const float inverse = 1 / range.scale, low = static_cast<float>(-range.zero),
              high = static_cast<float>((1 << bits) - 1 - range.zero);
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  size_t i = 0;
  const auto add = [&](float& sum) {
    const float rounded = std::min(std::max(row[i] * inverse, low), high) + kWhole - kWhole;
    const float e = row[i] - range.scale * rounded;
    sum += importance[i] * e * e;
    i++;
  };
  while (i + kLanes <= row.size())
    for (float& lane : lanes) add(lane);
  while (i < row.size()) add(lanes[0]);
  return std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
}

// Returns the range of a row of least weighted_error() among 21, from its extremes down to half of
// them (method.md section 16, step 3).
UniformRange search_weighted(std::span<const float> row, std::span<const float> importance,
                             int bits) {
  const auto [low, high] = std::minmax_element(row.begin(), row.end());
  UniformRange best;
  double least = INFINITY;
  for (int step = 0; step <= 20; step++) {
    const double part = 1 - 0.025 * step;
    const UniformRange range = uniform_range(part * *low, part * *high, bits);
    const double error = weighted_error(row, importance, range, bits);
    if (error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

// The diagonal of M = L L^T, in M's own order of columns.
std::vector<float> diagonal_of(const Factor& f) {
  const size_t n = f.size();
  std::vector<float> diagonal(n);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j <= i; j++)
      at(diagonal, f.order[i]) += f.lower[i * n + j] * f.lower[i * n + j];
  return diagonal;
}

// Rounds one row t = `target` from the last column to the first (method.md section 16, step 2):
// w^_j = quantize(t_j - sum over i > j of (w^_i - t_i) L_ij / L_jj).
void round_row(std::span<const float> target, const Factor& columns, UniformRange range, int bits,
               uint8_t* codes) {
  const size_t k = columns.size();
  std::vector<float> done(k);  // done[j] = sum over i > j of (t_i - w^_i) L_ij
  for (size_t j = k; j-- > 0;) {
    const auto column = static_cast<size_t>(columns.order[j]);
    const float* l = columns.lower.data() + j * k;
    const int code = quantize(target[column] + done[j] / l[j], range, bits);
    codes[column] = static_cast<uint8_t>(code);
    const float e = target[column] - dequantize(code, range);
    for (size_t i = 0; i < j; i++) done[i] += e * l[i];
  }
}

// Coordinate descent over the rows (method.md section 16, step 4). With all other rows as they are,
// the error sum_rs C_rs e_r H e_s^T is least in row r where C_rr d H d^T is, with d = w^_r - t and
// t = w_r - sum over s != r of (C_rs / C_rr) e_s.
class Descent {
 public:
  Descent(const Damped& h, const Damped& c, const Tensor& weight, WeightCodes& codes)
      : n_(static_cast<size_t>(codes.n)),
        k_(static_cast<size_t>(codes.k)),
        h_(h.m.begin(), h.m.end()),
        damped_(with_damping(h)),
        c_(with_damping(c)),
        weight_(weight),
        codes_(codes),
        error_(rounding_error(weight, codes)) {}

  void visit(size_t row, bool move_codes) {
    const std::vector<float> target = target_of(row);
    if (!codes_.coded) fit_scale(row, target);
    if (move_codes) move(row, target);
    for (size_t i = row * k_; i < (row + 1) * k_; i++) error_[i] = value(i) - weight_.data[i];
  }

 private:
  float value(size_t i) const { return dequantize(codes_.codes[i], codes_.ranges[i / k_]); }

  std::vector<float> target_of(size_t row) const {
    std::vector<float> parts(&c_[row * n_], &c_[row * n_] + n_);
    const float own = parts[row];
    for (float& p : parts) p /= -own;
    parts[row] = 0;
    const float* w = &weight_.data[row * k_];
    std::vector<float> target(w, w + k_);
    add_rows(parts, error_.data(), target);
    return target;
  }

  // Sets the scale s that minimises (s v - t) H (s v - t)^T, where v is the codes less the zero
  // point: s = v H t^T / v H v^T.
  void fit_scale(size_t row, const std::vector<float>& target) {
    UniformRange& range = codes_.ranges[row];
    std::vector<float> v(k_);
    for (size_t i = 0; i < k_; i++)
      v[i] = static_cast<float>(codes_.codes[row * k_ + i] - range.zero);
    const std::vector<float> vh = times(v, h_);
    double wanted = 0, squares = 0;
    for (size_t i = 0; i < k_; i++) {
      wanted += double{target[i]} * double{vh[i]};
      squares += double{v[i]} * double{vh[i]};
    }
    if (wanted > 0 && squares > 0) range.scale = static_cast<float>(wanted / squares);
  }

  // Moves each code in turn to the best value with the others fixed. slope = d H.
  void move(size_t row, const std::vector<float>& target) {
    std::vector<float> d(k_);
    for (size_t i = 0; i < k_; i++) d[i] = value(row * k_ + i) - target[i];
    std::vector<float> slope = times(d, damped_);
    for (size_t step = 0; step < kPasses * k_; step++) {
      const size_t i = step % k_;
      const float* h_row = &damped_[i * k_];
      const float wanted = target[i] + d[i] - slope[i] / h_row[i];
      const int code = quantize(wanted, codes_.ranges[row], codes_.bits);
      if (code == codes_.codes[row * k_ + i]) continue;
      codes_.codes[row * k_ + i] = static_cast<uint8_t>(code);
      const float moved = value(row * k_ + i) - target[i] - d[i];
      d[i] += moved;
      for (size_t j = 0; j < k_; j++) slope[j] += moved * h_row[j];
    }
  }

  size_t n_, k_;
  std::vector<float> h_, damped_, c_;
  const Tensor& weight_;
  WeightCodes& codes_;
  std::vector<float> error_;
};

}  // namespace

Factor factor(const Doubles& m, double part) {
  const size_t n = side_of(m);
  const double damping = damping_of(m, part);
  Factor f{std::vector<int>(n), {}};
  std::iota(f.order.begin(), f.order.end(), 0);
  const auto element = [&](int i, int j) {
    return m[static_cast<size_t>(i) * n + static_cast<size_t>(j)];
  };
  std::stable_sort(f.order.begin(), f.order.end(),
                   [&](int a, int b) { return element(a, a) < element(b, b); });
  Doubles h(n * n);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < n; j++)
      h[i * n + j] = element(f.order[i], f.order[j]) + (i == j ? damping : 0);
  const int size = static_cast<int>(n);
  int info = 0;
  dpotrf_("U", &size, h.data(), &size, &info);  // a column-major upper is a row-major lower
  if (info != 0) return f;
  for (size_t i = 0; i < n; i++) std::fill(&h[i * n] + i + 1, &h[i * n] + n, 0.0);
  f.lower.assign(h.begin(), h.end());
  return f;
}

WeightCodes round_with_feedback(const Tensor& weight, const Factor& columns, const Factor& rows,
                                const WeightGrid& grid) {
  const size_t n = rows.size(), k = columns.size();
  WeightCodes out{static_cast<int>(n),         static_cast<int>(k),          grid.bits,
                  std::vector<uint8_t>(n * k), std::vector<UniformRange>(n), grid.coded()};
  const std::vector<float> importance = diagonal_of(columns);
  std::vector<float> errors(n * k), parts(n);  // rows in the order of `rows`
  for (size_t p = n; p-- > 0;) {
    const auto row = static_cast<size_t>(rows.order[p]);
    const float* w = &weight.data[row * k];
    std::vector<float> target(w, w + k);
    for (size_t q = p + 1; q < n; q++) parts[q] = -rows.lower[q * n + p] / rows.lower[p * n + p];
    add_rows(std::span(parts).subspan(p + 1), errors.data() + (p + 1) * k, target);
    out.ranges[row] = grid.coded() ? grid.range() : search_weighted(target, importance, grid.bits);
    round_row(target, columns, out.ranges[row], grid.bits, &out.codes[row * k]);
    for (size_t i = 0; i < k; i++)
      errors[p * k + i] = dequantize(out.codes[row * k + i], out.ranges[row]) - w[i];
  }
  return out;
}

double output_error(const Doubles& h, const Doubles& c, const Tensor& weight,
                    const WeightCodes& codes) {
  const auto n = static_cast<size_t>(codes.n), k = static_cast<size_t>(codes.k);
  const std::vector<float> e = rounding_error(weight, codes);
  const auto eh = product(e, {h.begin(), h.end()}, n, k),
             ce = product({c.begin(), c.end()}, e, n, k);
  double error = 0;
  for (size_t i = 0; i < e.size(); i++) error += double{eh[i]} * double{ce[i]};
  return error;
}

void descend(const Damped& h, const Damped& c, const std::vector<int>& row_order,
             const Tensor& weight, WeightCodes& codes) {
  Descent descent(h, c, weight, codes);
  for (int fit = 0; fit <= kDescents; fit++)
    for (size_t p = row_order.size(); p-- > 0;)
      descent.visit(static_cast<size_t>(row_order[p]), fit < kDescents);
}

}  // namespace vitrun
