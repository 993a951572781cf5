#include "quant/weights/rounding.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

// The Cholesky factor, column-major, from LAPACK, which OpenBLAS contains.
extern "C" void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);

namespace vitrun {
namespace {

constexpr int kDescents = 2;  // rounds of coordinate descent, before a last fit of the scales
constexpr int kPasses = 2;    // passes over the codes of a row in each round
// So many rows, and columns of them, are worked on together: what the others do to them is one
// matrix product, which reads a large factor or moment once for all of them.
constexpr size_t kRowsAtOnce = 16, kColumnsAtOnce = 32;

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

// A matrix [rows, cols] that stands in rows `stride` apart.
struct View {
  const float* data;
  size_t stride;
};

// out [m, k] += a [m, n] b [n, k], with out in rows `stride` apart.
void add_product(View a, View b, size_t m, size_t n, size_t k, float* out, size_t stride) {
  if (n > 0 && k > 0)
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(m), static_cast<int>(k),
                static_cast<int>(n), 1, a.data, static_cast<int>(a.stride), b.data,
                static_cast<int>(b.stride), 1, out, static_cast<int>(stride));
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

// Rounds rows of a weight with feedback (method.md section 16, step 2), kRowsAtOnce of them side by
// side: each column of a row is rounded after the same column of the rows before it.
class Feedback {
 public:
  Feedback(const Tensor& weight, const Factor& columns, const Factor& rows, const WeightGrid& grid)
      : n_(rows.size()),
        k_(columns.size()),
        weight_(weight.data),
        columns_(columns),
        rows_(rows),
        grid_(grid),
        importance_(diagonal_of(columns)),
        errors_(n_ * k_) {
    codes_ = {static_cast<int>(n_),          static_cast<int>(k_),          grid.bits,
              std::vector<uint8_t>(n_ * k_), std::vector<UniformRange>(n_), grid.coded()};
  }

  WeightCodes run() {
    for (size_t end = n_; end > 0;) {
      const size_t begin = end > kRowsAtOnce ? end - kRowsAtOnce : 0;
      set_targets(begin, end - begin);
      set_ranges(begin, end - begin);
      round_columns(begin, end - begin);
      end = begin;
    }
    return std::move(codes_);
  }

 private:
  // Returns what the error of row q adds to the target of row p, both in the order of rows_.
  float part(size_t p, size_t q) const {
    return -rows_.lower[q * n_ + p] / rows_.lower[p * n_ + p];
  }

  // A block is rows begin .. begin + count in the order of rows_, rounded from the last to the
  // first. Sets their targets without what they do to each other, and between_, which says what
  // that is.
  void set_targets(size_t begin, size_t count) {
    const size_t end = begin + count, behind = n_ - end;
    targets_.resize(count * k_);
    std::vector<float> parts(count * behind);
    between_.assign(count * count, 0);
    for (size_t r = 0; r < count; r++) {
      const float* w = row_of(begin + r);
      std::copy(w, w + k_, &targets_[r * k_]);
      for (size_t q = 0; q < behind; q++) parts[r * behind + q] = part(begin + r, end + q);
      for (size_t q = r + 1; q < count; q++) between_[r * count + q] = part(begin + r, begin + q);
    }
    add_product({parts.data(), behind}, {errors_.data() + end * k_, k_}, count, behind, k_,
                targets_.data(), k_);
  }

  // Rounds the columns of a block from the last to the first, kColumnsAtOnce of them before what
  // they do to the others is added.
  void round_columns(size_t begin, size_t count) {
    done_.assign(count * k_, 0);
    for (size_t last = k_; last > 0;) {
      const size_t first = last > kColumnsAtOnce ? last - kColumnsAtOnce : 0, cols = last - first;
      std::vector<float> e(count * cols);
      for (size_t j = last; j-- > first;)
        for (size_t r = count; r-- > 0;)
          e[r * cols + j - first] = round_one(begin, count, r, j, first);
      add_product({e.data(), cols}, {columns_.lower.data() + first * k_, k_}, count, cols, first,
                  done_.data(), k_);
      last = first;
    }
  }

  // Searches the ranges of the rows of a block, for what their targets will be if the rows before
  // them in the block meet theirs.
  void set_ranges(size_t begin, size_t count) {
    std::vector<float> expected = targets_;
    for (size_t r = count; r-- > 0;) {
      float* target = &expected[r * k_];
      for (size_t q = r + 1; q < count && !grid_.coded(); q++) {
        const float p = between_[r * count + q];
        const float *other = &expected[q * k_], *w = row_of(begin + q);
        for (size_t i = 0; i < k_; i++) target[i] += p * (other[i] - w[i]);
      }
      range(begin + r) =
          grid_.coded() ? grid_.range() : search_weighted({target, k_}, importance_, grid_.bits);
    }
  }

  // Rounds column j, in the order of columns_, of row begin + r, and returns t - w^. `done_` of the
  // row, sum over i > j of (t_i - w^_i) L_ij, is kept for columns from `first` on.
  float round_one(size_t begin, size_t count, size_t r, size_t j, size_t first) {
    const auto column = static_cast<size_t>(columns_.order[j]);
    const float* l = columns_.lower.data() + j * k_;
    float target = targets_[r * k_ + column];
    for (size_t q = r + 1; q < count; q++)
      target += between_[r * count + q] * errors_[(begin + q) * k_ + column];
    const UniformRange& of = range(begin + r);
    const int code = quantize(target + done_[r * k_ + j] / l[j], of, grid_.bits);
    const float rounded = dequantize(code, of), e = target - rounded;
    codes_.codes[static_cast<size_t>(rows_.order[begin + r]) * k_ + column] =
        static_cast<uint8_t>(code);
    errors_[(begin + r) * k_ + column] = rounded - row_of(begin + r)[column];
    for (size_t i = first; i < j; i++) done_[r * k_ + i] += e * l[i];
    return e;
  }

  const float* row_of(size_t p) const {
    return weight_.data() + static_cast<size_t>(rows_.order[p]) * k_;
  }
  UniformRange& range(size_t p) { return at(codes_.ranges, rows_.order[p]); }

  size_t n_, k_;
  std::span<const float> weight_;
  const Factor &columns_, &rows_;
  const WeightGrid& grid_;
  std::vector<float> importance_;
  std::vector<float> errors_;          // [n, k], w^ - w of the rows in the order of rows_
  std::vector<float> targets_, done_;  // [rows at once, k]
  std::vector<float> between_;         // [rows at once, rows at once], part() of a block's rows
  WeightCodes codes_;
};

// Coordinate descent over the rows (method.md section 16, step 4). With all other rows as they are,
// the error sum_rs C_rs e_r H e_s^T is least in row r where C_rr d H d^T is, with d = w^_r - t and
// t = w_r - sum over s != r of (C_rs / C_rr) e_s. What the rows of a block take from others and
// their products with H are computed for all of them at once; then each row of the block tells the
// next ones what its visit changed.
class Descent {
 public:
  Descent(const Damped& h, const Damped& c, const Tensor& weight, WeightCodes& codes,
          ThreadPool& pool)
      : n_(static_cast<size_t>(codes.n)),
        k_(static_cast<size_t>(codes.k)),
        h_(h.m.begin(), h.m.end()),
        damping_(static_cast<float>(damping_of(h.m, h.part))),
        c_(with_damping(c)),
        weight_(weight),
        codes_(codes),
        error_(rounding_error(weight, codes)),
        pool_(pool) {}

  void visit(std::span<const size_t> rows, bool move_codes) {
    Block b = block_of(rows, move_codes);
    for (size_t r = 0; r < rows.size(); r++) {
      for (size_t before = 0; before < r; before++) take_over(b, rows, r, before);
      const std::vector<float> old(&error_[rows[r] * k_], &error_[rows[r] * k_] + k_);
      if (!codes_.coded) fit_scale(b, rows[r], r);
      if (move_codes) move(b, rows[r], r);
      for (size_t i = 0; i < k_; i++) {
        const size_t at = rows[r] * k_ + i;
        error_[at] = value(at) - weight_.data[at];
        b.change[r * k_ + i] = error_[at] - old[i];
      }
    }
  }

 private:
  // A block holds for each row, [rows, k]: t; the codes less the zero point, v, and v H; d (H +
  // damping) and what it was at the start of the row's visit; and what the visit changed in e.
  struct Block {
    std::vector<float> target, v, vh, slope, slope_before, change;
  };

  float value(size_t i) const { return dequantize(codes_.codes[i], codes_.ranges[i / k_]); }
  float part(size_t row, size_t other) const {
    return row == other ? 0 : -c_[row * n_ + other] / c_[row * n_ + row];
  }

  // Calls body(first, count) for bands of columns, which threads share.
  template <class Body>
  void for_bands(const Body& body) const {
    constexpr size_t kBand = 192;
    std::atomic<size_t> next{0};
    pool_.run([&](int) {
      for (size_t first; (first = kBand * next.fetch_add(1)) < k_;)
        body(first, std::min(kBand, k_ - first));
    });
  }

  Block block_of(std::span<const size_t> rows, bool move_codes) const {
    const size_t count = rows.size();
    Block b;
    std::vector<float> parts(count * n_), d(count * k_);
    for (size_t r = 0; r < count; r++) {
      const float* w = &weight_.data[rows[r] * k_];
      b.target.insert(b.target.end(), w, w + k_);
      for (size_t s = 0; s < n_; s++) parts[r * n_ + s] = part(rows[r], s);
      for (size_t i = rows[r] * k_; i < (rows[r] + 1) * k_; i++)
        b.v.push_back(static_cast<float>(codes_.codes[i] - codes_.ranges[rows[r]].zero));
    }
    b.vh.resize(count * k_);
    for_bands([&](size_t first, size_t cols) {
      add_product({parts.data(), n_}, {&error_[first], k_}, count, n_, cols, &b.target[first], k_);
      add_product({b.v.data(), k_}, {&h_[first], k_}, count, k_, cols, &b.vh[first], k_);
    });
    b.change.resize(count * k_);
    if (!move_codes) return b;
    for (size_t i = 0; i < d.size(); i++) d[i] = value(rows[i / k_] * k_ + i % k_) - b.target[i];
    for (float x : d) b.slope.push_back(damping_ * x);
    for_bands([&](size_t first, size_t cols) {
      add_product({d.data(), k_}, {&h_[first], k_}, count, k_, cols, &b.slope[first], k_);
    });
    b.slope_before = b.slope;
    return b;
  }

  // Adds to row r of a block what the visit of an earlier one, `before`, has changed.
  void take_over(Block& b, std::span<const size_t> rows, size_t r, size_t before) const {
    const float p = part(rows[r], rows[before]);
    const float* change = &b.change[before * k_];
    for (size_t i = 0; i < k_; i++) b.target[r * k_ + i] += p * change[i];
    if (b.slope.empty()) return;
    const float *now = &b.slope[before * k_], *then = &b.slope_before[before * k_];
    for (size_t i = 0; i < k_; i++) b.slope[r * k_ + i] -= p * (now[i] - then[i]);
    if (before + 1 == r) std::copy_n(&b.slope[r * k_], k_, &b.slope_before[r * k_]);
  }

  // Sets the scale s that minimises (s v - t) H (s v - t)^T: s = v H t^T / v H v^T.
  void fit_scale(Block& b, size_t row, size_t r) {
    UniformRange& range = codes_.ranges[row];
    const float *target = &b.target[r * k_], *v = &b.v[r * k_], *vh = &b.vh[r * k_];
    double wanted = 0, squares = 0;
    for (size_t i = 0; i < k_; i++) {
      wanted += double{target[i]} * double{vh[i]};
      squares += double{v[i]} * double{vh[i]};
    }
    if (!(wanted > 0 && squares > 0)) return;
    const float scale = static_cast<float>(wanted / squares), more = scale - range.scale;
    range.scale = scale;
    for (size_t i = 0; i < k_ && !b.slope.empty(); i++)
      b.slope[r * k_ + i] += more * (vh[i] + damping_ * v[i]);
  }

  // Moves each code in turn to the best value with the others fixed.
  void move(Block& b, size_t row, size_t r) {
    const float* target = &b.target[r * k_];
    float* slope = &b.slope[r * k_];
    std::vector<float> d(k_);
    for (size_t i = 0; i < k_; i++) d[i] = value(row * k_ + i) - target[i];
    for (size_t step = 0; step < kPasses * k_; step++) {
      const size_t i = step % k_;
      const float* h_row = &h_[i * k_];
      const float wanted = target[i] + d[i] - slope[i] / (h_row[i] + damping_);
      const int code = quantize(wanted, codes_.ranges[row], codes_.bits);
      if (code == codes_.codes[row * k_ + i]) continue;
      codes_.codes[row * k_ + i] = static_cast<uint8_t>(code);
      const float moved = value(row * k_ + i) - target[i] - d[i];
      d[i] += moved;
      for (size_t j = 0; j < k_; j++) slope[j] += moved * h_row[j];
      slope[i] += moved * damping_;
    }
  }

  size_t n_, k_;
  std::vector<float> h_;  // without damping
  float damping_;
  std::vector<float> c_;
  const Tensor& weight_;
  WeightCodes& codes_;
  std::vector<float> error_;
  ThreadPool& pool_;
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
  return Feedback(weight, columns, rows, grid).run();
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
             const Tensor& weight, WeightCodes& codes, ThreadPool& pool) {
  Descent descent(h, c, weight, codes, pool);
  const std::vector<size_t> rows(row_order.rbegin(), row_order.rend());
  for (int fit = 0; fit <= kDescents; fit++)
    for (size_t first = 0; first < rows.size(); first += kRowsAtOnce)
      descent.visit(std::span(rows).subspan(first, std::min(kRowsAtOnce, rows.size() - first)),
                    fit < kDescents);
}

}  // namespace vitrun
