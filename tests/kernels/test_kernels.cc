// Compares the scalar table, which is the specification, with plain loops in double written from
// kernels.h.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

const Kernels& scalar() {
  return *find_kernels("scalar");
}

template <class T>
std::vector<T> random_ints(std::mt19937& random, size_t count, int low, int high) {
  std::uniform_int_distribution<int> draw(low, high);
  std::vector<T> values(count);
  for (T& v : values) v = static_cast<T>(draw(random));
  return values;
}

std::vector<float> random_floats(std::mt19937& random, size_t count, float deviation) {
  std::normal_distribution<float> draw(0, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}

size_t index(int row, int64_t stride, int column) {
  return static_cast<size_t>(row * stride + column);
}

// A quantized Linear with random codes and terms, in buffers of its own.
struct Linear {
  int m, n, k, bits;
  std::vector<uint8_t> a, w, panels;  // w [n, k]
  std::vector<int32_t> row_sum, offset, zero;
  std::vector<float> scale, bias, y, residual;
  GemmArgs args{};

  Linear(int m_, int n_, int k_, int bits_, unsigned seed) : m(m_), n(n_), k(k_), bits(bits_) {
    std::mt19937 random(seed);
    const int depth = round_up(k, kDepthAlign), columns = round_up(n, kColumns);
    a.assign(index(m, depth, 0), 0);
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < k; j++) a[index(i, depth, j)] = static_cast<uint8_t>(random() & 255);
    }
    w = random_ints<uint8_t>(random, index(n, k, 0), 0, (1 << bits) - 1);
    panels.resize(static_cast<size_t>(pack_bytes(n, k, bits)));
    pack_codes(w.data(), n, k, bits, panels.data());
    row_sum.resize(static_cast<size_t>(m));
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < k; j++) row_sum[static_cast<size_t>(i)] += a[index(i, depth, j)];
    }
    const auto entries = static_cast<size_t>(columns);
    offset = random_ints<int32_t>(random, entries, -5000, 5000);
    zero = random_ints<int32_t>(random, entries, -128, 127);
    scale = random_floats(random, entries, 1e-4f);
    bias = random_floats(random, entries, 0.5f);
    residual = random_floats(random, index(m, n, 0), 1);
    y.assign(index(m, n, 0), 0);
    args = {.m = m,
            .n = n,
            .k = k,
            .a = a.data(),
            .a_stride = depth,
            .row_sum = row_sum.data(),
            .panels = panels.data(),
            .bits = bits,
            .a_bits = 8,
            .range_bits = 0,
            .scale = scale.data(),
            .offset = offset.data(),
            .zero = zero.data(),
            .bias = bias.data(),
            .epilogue = Epilogue::kFloat,
            .y = y.data(),
            .y_stride = n,
            .residual = nullptr,
            .codes = nullptr,
            .code_stride = 0,
            .code_sum = nullptr,
            .quantizer = {},
            .quantizers = {},
            .raw = nullptr,
            .raw_stride = 0};
  }

  int64_t sum(int i, int j) const {
    int64_t total = 0;
    for (int d = 0; d < k; d++) {
      total += int64_t{a[index(i, args.a_stride, d)]} * (w[index(j, k, d)] - (1 << (bits - 1)));
    }
    return total;
  }
  double value(int i, int j) const {
    const auto c = static_cast<size_t>(j), r = static_cast<size_t>(i);
    const auto integer = static_cast<double>(sum(i, j) + offset[c] - int64_t{zero[c]} * row_sum[r]);
    return double{scale[c]} * integer + double{bias[c]};
  }
};

double gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}

int expected_code(double value, Quantizer q) {
  const double code = std::nearbyint(value * q.inv_scale) + q.zero;
  return static_cast<int>(std::clamp(code, 0.0, double(q.max_code)));
}

TEST_CASE("gemm: exact integer sums at every bit width, with tails") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (int k : {1, 31, 32, 33, 100}) {
      Linear linear(3, 35, k, bits, static_cast<unsigned>(bits * 1000 + k));
      std::vector<int32_t> raw(index(3, 50, 0), 77);
      linear.args.epilogue = Epilogue::kInt32;
      linear.args.raw = raw.data();
      linear.args.raw_stride = 50;
      scalar().gemm(linear.args);
      int wrong = 0;
      for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 35; j++) wrong += raw[index(i, 50, j)] != linear.sum(i, j);
        for (int j = 48; j < 50; j++) wrong += raw[index(i, 50, j)] != 77;
      }
      CAPTURE(bits);
      CAPTURE(k);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("gemm: float and residual epilogues") {
  Linear linear(5, 37, 70, 6, 2);
  scalar().gemm(linear.args);
  std::vector<float> sum = linear.residual;
  Linear added = linear;
  added.args.epilogue = Epilogue::kAdd;
  // The residual is added in place.
  added.args.y = sum.data();
  added.args.residual = sum.data();
  scalar().gemm(added.args);
  for (int i = 0; i < 5; i++) {
    for (int j = 0; j < 37; j++) {
      const size_t at = index(i, 37, j);
      const double want = linear.value(i, j);
      REQUIRE(linear.y[at] == static_cast<float>(want));  // fma rounds once
      REQUIRE(sum[at] == linear.y[at] + linear.residual[at]);
    }
  }
}

TEST_CASE("gemm: GELU codes, their padding and their row sums") {
  const int m = 4, n = 39, stride = round_up(n, kDepthAlign);
  Linear linear(m, n, 64, 4, 3);
  std::vector<uint8_t> codes(index(m, stride, 0), 99);
  std::vector<int32_t> sums(m);
  linear.args.epilogue = Epilogue::kActCodes;
  linear.args.codes = codes.data();
  linear.args.code_stride = stride;
  linear.args.code_sum = sums.data();
  linear.args.quantizer = {.inv_scale = 40.0f, .zero = 7, .max_code = 63};
  scalar().gemm(linear.args);
  for (int i = 0; i < m; i++) {
    int sum = 0;
    for (int j = 0; j < stride; j++) {
      const int code = codes[index(i, stride, j)];
      const double x = j < n ? gelu(linear.value(i, j)) : 0;
      const int want = j < n ? expected_code(x, linear.args.quantizer) : 0;
      // Near a tie, the error of the polynomial may decide.
      const double distance = std::fabs(x * 40 - std::floor(x * 40) - 0.5);
      if (distance > 1e-4) REQUIRE(code == want);
      sum += code;
    }
    CHECK(sums[static_cast<size_t>(i)] == sum);
  }
}

TEST_CASE("quantize: rounding half to even, saturation, infinities and NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0f,
                                0.5f,
                                1.5f,
                                2.5f,
                                -0.5f,
                                -1.5f,
                                -9.0f,
                                300.0f,
                                inf,
                                -inf,
                                std::numeric_limits<float>::quiet_NaN(),
                                1e38f,
                                -1e38f,
                                1e-45f};
  const std::vector<int> want = {3, 3, 5, 5, 3, 1, 0, 15, 15, 0, 0, 15, 0, 3};
  const int n = static_cast<int>(x.size());
  std::vector<uint8_t> codes(32, 99);
  int32_t sum = 0;
  scalar().quantize(x.data(), n, 1, n, {.inv_scale = 1, .zero = 3, .max_code = 15}, codes.data(),
                    32, &sum);
  int total = 0;
  for (size_t i = 0; i < 32; i++) {
    CAPTURE(i);
    CHECK(codes[i] == (i < want.size() ? want[i] : 0));
    total += codes[i];
  }
  CHECK(sum == total);
}

TEST_CASE("quantize: zero points outside the codes") {
  const float x[] = {-1000, 0, 1000};
  for (int zero : {kMinZero, kMaxZero}) {
    uint8_t codes[32];
    int32_t sum;
    scalar().quantize(x, 3, 1, 3, {.inv_scale = 1, .zero = zero, .max_code = 255}, codes, 32, &sum);
    for (int i = 0; i < 3; i++) {
      CHECK(codes[i] == std::clamp(static_cast<int>(x[i]) + zero, 0, 255));
    }
  }
}

// Holds what quantize_by_row() writes of rows side by side.
struct Rows {
  std::vector<uint8_t> codes;
  std::vector<int32_t> sum, zero;
  std::vector<float> scale;
  int64_t stride;

  Rows(const std::vector<float>& x, int m, int c, RowQuantizer q,
       const Activation* activation = nullptr)
      : codes(index(m, round_up(c, kDepthAlign), 0), 99),
        sum(static_cast<size_t>(m), -1),
        zero(sum),
        scale(static_cast<size_t>(m), -1),
        stride(round_up(c, kDepthAlign)) {
    scalar().quantize_by_row(x.data(), c, m, c, activation,
                             {q, codes.data(), stride, sum.data(), scale.data(), zero.data()});
  }
  double value(int i, int j) const {
    const auto row = static_cast<size_t>(i);
    return double{scale[row]} * (codes[index(i, stride, j)] - zero[row]);
  }
};

TEST_CASE("quantize_by_row: 8 bits reach from a row's least to its largest value, 0 included") {
  std::mt19937 random(21);
  for (int c : {1, 5, 16, 40, 192, 700}) {
    std::vector<float> x = random_floats(random, index(3, c, 0), 2);
    for (int j = 0; j < c; j++) x[index(1, c, j)] = std::fabs(x[index(1, c, j)]) + 3;
    const Rows rows(x, 3, c, {});
    for (int i = 0; i < 3; i++) {
      float low = 0, high = 0;
      int sum = 0;
      for (int j = 0; j < c; j++) {
        low = std::min(low, x[index(i, c, j)]);
        high = std::max(high, x[index(i, c, j)]);
        sum += rows.codes[index(i, rows.stride, j)];
      }
      const auto row = static_cast<size_t>(i);
      CHECK(double{rows.scale[row]} ==
            doctest::Approx((double{high} - double{low}) / 255).epsilon(1e-6));
      CHECK(std::fabs(rows.zero[row] + double{low} / double{rows.scale[row]}) < 0.501);
      CHECK(rows.sum[row] == sum);
      // Half a step of the grid, and half of one where zero was rounded.
      for (int j = 0; j < c; j++)
        CHECK(std::fabs(rows.value(i, j) - double{x[index(i, c, j)]}) <
              1.01 * double{rows.scale[row]});
      for (int j = c; j < rows.stride; j++) CHECK(rows.codes[index(i, rows.stride, j)] == 0);
    }
  }
}

TEST_CASE("quantize_by_row: a group has 2^bits codes, an even number of grid steps apart") {
  std::mt19937 random(22);
  for (int bits = 3; bits < 8; bits++)
    for (int c : {7, 16, 100, 192, 1100}) {
      std::vector<float> x = random_floats(random, index(2, c, 0), 1);
      for (size_t i = 0; i < x.size(); i++)
        x[i] *= i % 16 == 3 ? 20.0f : 1.0f;  // one lane is large
      const Rows rows(x, 2, c, {bits, 32});
      const int top = (1 << bits) - 1, margin = 128 >> bits;
      const int vectors = (c + 15) / 16, parts = (vectors + 31) / 32,
                part = (vectors + parts - 1) / parts * 16;
      for (int i = 0; i < 2; i++)
        for (int group = 0; group < 16 * parts; group++) {
          double low = 0, high = 0;
          std::vector<int> columns;
          for (int j = group / 16 * part; j < std::min(c, (group / 16 + 1) * part); j++)
            if (j % 16 == group % 16) columns.push_back(j);
          for (int j : columns) {
            low = std::min(low, double{x[index(i, c, j)]});
            high = std::max(high, double{x[index(i, c, j)]});
          }
          const auto row = static_cast<size_t>(i);
          const double scale{rows.scale[row]};
          const double step = std::max(1.0, std::nearbyint((high - low) / scale / top + 0.499));
          for (int j : columns) {
            const int from_zero = rows.codes[index(i, rows.stride, j)] - rows.zero[row];
            CHECK(from_zero % static_cast<int>(step) == 0);
            // Values beyond the last code become it: a step is rounded down where that is by
            // little.
            const double beyond = std::max(0.0, (high - low) / scale - top * step);
            CHECK(std::fabs(rows.value(i, j) - double{x[index(i, c, j)]}) <
                  scale * (0.51 * step + 0.51 * step + beyond));
          }
          CHECK(rows.zero[row] >= margin);
        }
    }
}

TEST_CASE("quantize_by_row: rows of zeros, infinities, NaN and numbers that are too small") {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int bits : {8, 4}) {
    const Rows zeros(std::vector<float>(20, -0.0f), 1, 20, {bits, 32});
    for (int j = 0; j < 20; j++) CHECK(zeros.value(0, j) == 0);
    const Rows tiny(std::vector<float>(20, 1e-40f), 1, 20, {bits, 32});
    for (int j = 0; j < 20; j++) CHECK(tiny.value(0, j) == 0);
    const Rows infinite({1, -inf, 2, inf}, 1, 4, {bits, 32});
    CHECK(infinite.scale[0] == inf);  // what it is multiplied with is not finite, and refused
    const Rows with_nan({1, nan, 2, -1}, 1, 4, {bits, 32});
    CHECK(with_nan.value(0, 2) == doctest::Approx(2).epsilon(0.05));
    CHECK(with_nan.value(0, 3) == doctest::Approx(-1).epsilon(0.15));
  }
}

TEST_CASE("quantize_by_row through an activation, and layernorm_by_row") {
  std::mt19937 random(23);
  const int m = 3, c = 75;
  const std::vector<float> x = random_floats(random, index(m, c, 0), 2);
  std::vector<float> active(x.size()), normed(x.size());
  const Activation type = Activation::kGelu;
  scalar().activate(type, x.data(), m * c, active.data());
  const std::vector<float> gamma = random_floats(random, c, 1), beta = random_floats(random, c, 1);
  const NormArgs norm = {m, c, x.data(), c, gamma.data(), beta.data(), 1e-6f};
  scalar().layernorm(norm, normed.data(), c);
  for (RowQuantizer q : {RowQuantizer{8, 32}, RowQuantizer{4, 32}}) {
    const Rows through(x, m, c, q, &type), of_active(active, m, c, q);
    CHECK(through.codes == of_active.codes);
    CHECK(through.scale == of_active.scale);
    CHECK(through.zero == of_active.zero);
    const Rows of_normed(normed, m, c, q);
    Rows direct = of_normed;
    std::fill(direct.codes.begin(), direct.codes.end(), uint8_t{1});
    scalar().layernorm_by_row(norm, {q, direct.codes.data(), direct.stride, direct.sum.data(),
                                     direct.scale.data(), direct.zero.data()});
    CHECK(direct.codes == of_normed.codes);
    CHECK(direct.sum == of_normed.sum);
    CHECK(direct.scale == of_normed.scale);
  }
}

TEST_CASE("quantize_heads: each head of a row takes 2^bits codes of its grid, 0 among them") {
  std::mt19937 random(24);
  for (int bits = 3; bits <= 8; bits++)
    for (int d : {5, 16, 24, 64}) {
      const int m = 4, heads = 3, c = heads * d, margin = 128 >> bits;
      std::vector<float> x = random_floats(random, index(m, c, 0), 1);
      for (int j = 0; j < c; j++) x[index(1, c, j)] *= 30;  // beyond the grid
      for (int j = 0; j < c; j++) x[index(2, c, j)] *= 0.1f;
      const std::vector<float> inverse(static_cast<size_t>(c), 30),
          low(inverse.size(), static_cast<float>(margin - 120)),
          high(inverse.size(), static_cast<float>(255 - margin - 120));
      const std::vector<int32_t> zero(inverse.size(), 120);
      std::vector<uint8_t> codes(index(m, c, 0));
      scalar().quantize_heads(
          {m, heads, d, x.data(), c, bits, {inverse.data(), low.data(), high.data(), zero.data()}},
          codes.data(), c);
      for (int i = 0; i < m; i++)
        for (int head = 0; head < heads; head++) {
          double least = 0, most = 0;
          const auto place = [&](int j) {
            return std::clamp(double{x[index(i, c, head * d + j)]} * 30, margin - 120.0,
                              255.0 - margin - 120.0);
          };
          for (int j = 0; j < d; j++) {
            least = std::min(least, place(j));
            most = std::max(most, place(j));
          }
          const int top = (1 << bits) - 1;
          const double step = std::max(1.0, std::nearbyint((most - least) / top + 0.499));
          const double beyond = std::max(0.0, most - least - top * step);
          for (int j = 0; j < d; j++) {
            const int from_zero = codes[index(i, c, head * d + j)] - 120;
            CHECK(from_zero % static_cast<int>(step) == 0);
            CHECK(std::fabs(from_zero - place(j)) < 1.02 * step + beyond);
          }
        }
    }
}

TEST_CASE("gemm: rows with scales and zero points of their own") {
  Linear linear(6, 37, 90, 5, 12);
  const std::vector<float> scale = {1, 0.5f, 3, 0, 1e-3f, 7};
  const std::vector<int32_t> zero = {0, 255, 17, 128, 3, 90};
  linear.args.row_scale = scale.data();
  linear.args.row_zero = zero.data();
  scalar().gemm(linear.args);
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 37; j++) {
      const auto c = static_cast<size_t>(j), r = static_cast<size_t>(i);
      const double sum =
          static_cast<double>(linear.sum(i, j) + int64_t{linear.offset[c]} * zero[r] -
                              int64_t{linear.zero[c]} * linear.row_sum[r]);
      const double want = double{linear.scale[c]} * double{scale[r]} * sum + double{linear.bias[c]};
      CHECK(linear.y[index(i, 37, j)] == doctest::Approx(want).epsilon(1e-5));
    }
}

TEST_CASE("quantize_columns against double") {
  std::mt19937 random(6);
  for (int group : {0, 1, 5, 16, 20, 32}) {
    const int c = group ? 3 * group : 14, m = 3, stride = c + 3, code_stride = c + 1;
    std::vector<float> x = random_floats(random, index(m, stride, 0), 3);
    for (int j = 0; j < std::max(group, 1); j++) x[index(1, stride, j)] = 0;  // of no length
    const std::vector<float> weight = random_floats(random, static_cast<size_t>(c), 9);
    const auto padded = static_cast<size_t>(round_up(c, kColumns));
    std::vector<float> inverse(padded), low(padded), high(padded);
    std::vector<int32_t> zero(padded);
    for (int j = 0; j < c; j++) {
      const auto at = static_cast<size_t>(j);
      inverse[at] = 3.0f + static_cast<float>(j);
      zero[at] = 100 + j;
      low[at] = static_cast<float>(-zero[at]);
      high[at] = static_cast<float>(255 - zero[at]);
    }
    std::vector<uint8_t> codes(index(m, code_stride, 0), 99);
    scalar().quantize_columns({m, c, x.data(), stride, group, weight.data(), 1e-12f},
                              {inverse.data(), low.data(), high.data(), zero.data()}, codes.data(),
                              code_stride);
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < c; j++) {
        const auto column = static_cast<size_t>(j);
        double length = 0;
        for (int k = 0; k < group; k++)
          length += std::pow(double{x[index(i, stride, j / group * group + k)]}, 2);
        double value = x[index(i, stride, j)];
        if (group) value *= double{weight[column]} / std::max(std::sqrt(length), 1e-12);
        const double scaled =
            std::clamp(value * double{inverse[column]}, double{low[column]}, double{high[column]});
        const double off = codes[index(i, code_stride, j)] - zero[column] - scaled;
        REQUIRE(std::fabs(off) <= 0.5 + 1e-4);
      }
      REQUIRE(codes[index(i, code_stride, c)] == 99);
    }
  }
}

TEST_CASE("layernorm and a residual, which may be the result itself") {
  std::mt19937 random(8);
  const int m = 3, c = 37;
  const std::vector<float> x = random_floats(random, index(m, c, 0), 3);
  const std::vector<float> gamma = random_floats(random, c, 1), beta = random_floats(random, c, 1);
  NormArgs args = {m, c, x.data(), c, gamma.data(), beta.data(), 1e-6f};
  std::vector<float> y(index(m, c, 0)), sum = random_floats(random, index(m, c, 0), 2);
  const std::vector<float> residual = sum;
  scalar().layernorm(args, y.data(), c);
  args.residual = sum.data();
  args.residual_stride = c;
  scalar().layernorm(args, sum.data(), c);
  for (size_t i = 0; i < y.size(); i++) CHECK(sum[i] == y[i] + residual[i]);
}

TEST_CASE("layernorm and its codes against double") {
  std::mt19937 random(4);
  for (int c : {1, 15, 16, 48, 77, 384}) {
    const int m = 3, stride = c + 5, code_stride = round_up(c, kDepthAlign);
    std::vector<float> x = random_floats(random, index(m, stride, 0), 3);
    const std::vector<float> gamma = random_floats(random, static_cast<size_t>(c), 1);
    const std::vector<float> beta = random_floats(random, static_cast<size_t>(c), 1);
    const NormArgs args = {m, c, x.data(), stride, gamma.data(), beta.data(), 1e-6f};
    std::vector<float> y(index(m, stride, 0), -5);
    std::vector<uint8_t> codes(index(m, code_stride, 0), 99);
    std::vector<int32_t> sums(m);
    const Quantizer q = {.inv_scale = 20, .zero = 120, .max_code = 255};
    scalar().layernorm(args, y.data(), stride);
    scalar().layernorm_codes(args, q, codes.data(), code_stride, sums.data());
    for (int i = 0; i < m; i++) {
      double mean = 0, variance = 0;
      for (int j = 0; j < c; j++) mean += x[index(i, stride, j)] / double(c);
      for (int j = 0; j < c; j++) {
        variance += std::pow(x[index(i, stride, j)] - mean, 2) / double(c);
      }
      int sum = 0;
      for (int j = 0; j < c; j++) {
        const double unit = (x[index(i, stride, j)] - mean) / std::sqrt(variance + double{1e-6f});
        const double want = unit * gamma[static_cast<size_t>(j)] + beta[static_cast<size_t>(j)];
        const float got = y[index(i, stride, j)];
        REQUIRE(std::fabs(got - want) <= 2e-6 * (1 + std::fabs(want)));
        REQUIRE(codes[index(i, code_stride, j)] ==
                expected_code(double{got * 20.0f}, {1, 120, 255}));
        sum += codes[index(i, code_stride, j)];
      }
      for (int j = c; j < stride; j++) REQUIRE(y[index(i, stride, j)] == -5);
      for (int j = c; j < code_stride; j++) REQUIRE(codes[index(i, code_stride, j)] == 0);
      REQUIRE(sums[static_cast<size_t>(i)] == sum);
    }
  }
}

std::vector<uint16_t> softmax_table(int bits, double rate = 2) {
  std::vector<uint16_t> table(static_cast<size_t>((1 << bits) + 1), 0);
  for (int k = 0; k < 1 << bits; k++) {
    table[static_cast<size_t>(k)] =
        static_cast<uint16_t>(std::lround(65535 * std::exp2(-k / rate)));
  }
  return table;
}

// Scores as exact products: a score is `unit` times a product and its column's offset.
struct Products {
  static constexpr float unit = 1 / 1024.f;
  std::vector<int32_t> products, offset;

  Products(const std::vector<float>& scores, int n) {
    for (int j = 0; j < n; j++) offset.push_back(37 * j - 500);
    for (size_t i = 0; i < scores.size(); i++)
      products.push_back(static_cast<int32_t>(std::lround(scores[i] / unit)) -
                         offset[i % offset.size()]);
  }
  double score(size_t i) const { return double{unit} * (products[i] + offset[i % offset.size()]); }
  SoftmaxArgs args(int m, int n) {
    SoftmaxArgs args{};
    args.m = m;
    args.n = n;
    args.products = products.data();
    args.product_stride = n;
    args.offset = offset.data();
    args.unit = unit;
    return args;
  }
};

// The planes that softmax_codes() writes, and what they are in args.
struct Planes {
  int stride;
  std::vector<uint8_t> hi, lo;
  std::vector<int32_t> hi_sum, lo_sum;

  explicit Planes(SoftmaxArgs& args)
      : stride(round_up(args.n, kDepthAlign)),
        hi(index(args.m, stride, 0), 9),
        lo(hi),
        hi_sum(static_cast<size_t>(args.m)),
        lo_sum(hi_sum) {
    args.hi = hi.data();
    args.lo = lo.data();
    args.plane_stride = stride;
    args.hi_sum = hi_sum.data();
    args.lo_sum = lo_sum.data();
    scalar().softmax_codes(args);
  }
};

// Each code is the nearest one to its exponential and the error of the code 16 columns before.
TEST_CASE("carried softmax codes: their sums are those of the exponentials in every lane") {
  for (int bits : {3, 5, 8}) {
    for (int n : {1, 15, 16, 49, 197, 1000}) {
      std::mt19937 random(static_cast<unsigned>(n + bits));
      const int m = 3;
      Products p(random_floats(random, index(m, n, 0), 1.5f), n);
      const Products before = p;
      SoftmaxArgs args = p.args(m, n);
      args.codes = ProbabilityCodes::kCarried;
      args.bits = bits;
      const Planes planes(args);
      const double last = std::exp2(bits) - 1;
      for (int i = 0; i < m; i++) {
        double top = -INFINITY;
        for (int j = 0; j < n; j++) top = std::max(top, before.score(index(i, n, j)));
        double missing[16] = {};
        int total = 0;
        for (int j = 0; j < planes.stride; j++) {
          const int code = planes.hi[index(i, planes.stride, j)];
          total += code;
          REQUIRE(planes.lo[index(i, planes.stride, j)] == 9);  // not written
          if (j >= n) {
            REQUIRE(code == 0);
            continue;
          }
          REQUIRE(code <= last);
          double& error = missing[j % 16];
          error += std::exp(before.score(index(i, n, j)) - top) * (last - 1 / 64.0) - code;
          // 1e-3: a carry errs by at most an ulp of 2^bits, 1.5e-5, in each of up to 63 steps.
          REQUIRE(std::fabs(error) <= 0.5 + 1e-3);
        }
        REQUIRE(planes.hi_sum[static_cast<size_t>(i)] == total);
      }
    }
  }
}

TEST_CASE("softmax codes against double, with bias, mask and tails") {
  for (int bits : {3, 4, 6, 8}) {
    for (const auto& [n, by_sum] :
         {std::pair(1, false), std::pair(16, false), std::pair(49, false), std::pair(197, false),
          std::pair(16, true), std::pair(197, true)}) {
      const float rate = n == 49 ? 1 : n == 16 ? 3.5f : 2;
      std::mt19937 random(static_cast<unsigned>(bits * n));
      const int m = 2;
      Products p(random_floats(random, index(m, n, 0), 2), n);
      const Products before = p;
      const std::vector<float> bias = random_floats(random, index(m, n, 0), 1);
      std::vector<uint8_t> region = random_ints<uint8_t>(random, static_cast<size_t>(n), 0, 2);
      const uint8_t row_region[] = {region[0], region[0]};
      const std::vector<uint16_t> table = softmax_table(bits, double{rate});
      const float scale = 1 / 0.7f;
      SoftmaxArgs args = p.args(m, n);
      args.bias = bias.data();
      args.bias_stride = n;
      args.region = region.data();
      args.row_region = row_region;
      args.codes = by_sum ? ProbabilityCodes::kLogBySum : ProbabilityCodes::kLog;
      args.scale = 0.7f;
      args.bits = bits;
      args.rate = rate;
      args.table = table.data();
      const auto [stride, hi, lo, hi_sum, lo_sum] = Planes(args);
      for (int i = 0; i < m; i++) {
        std::vector<double> v(static_cast<size_t>(n));
        double sum = 0, top = -INFINITY;
        int hi_total = 0, lo_total = 0;
        for (int j = 0; j < n; j++) {
          const auto at = static_cast<size_t>(j);
          v[at] = before.score(index(i, n, j)) + double{bias[index(i, n, j)]} -
                  (region[at] == row_region[i] ? 0 : 100);
          sum += std::exp(v[at]);
          top = std::max(top, v[at]);
        }
        for (int j = 0; j < stride; j++) {
          const int got = hi[index(i, stride, j)] * 256 + lo[index(i, stride, j)];
          hi_total += hi[index(i, stride, j)];
          lo_total += lo[index(i, stride, j)];
          if (j >= n) {
            REQUIRE(got == 0);
            continue;
          }
          const double e = std::exp(v[static_cast<size_t>(j)]);
          const double k = -double{rate} * std::log2(by_sum ? e / std::exp(top) : e / sum * scale);
          if (std::fabs(k - std::floor(k) - 0.5) < 1e-4) continue;  // near a tie
          const double code = std::clamp(std::nearbyint(k), 0.0, std::exp2(bits));
          REQUIRE(got == table[static_cast<size_t>(code)]);
        }
        REQUIRE(hi_sum[static_cast<size_t>(i)] == hi_total);
        REQUIRE(lo_sum[static_cast<size_t>(i)] == lo_total);
      }
    }
  }
}

// A code stands for the nearest step, and its value is an exact multiple of that step.
TEST_CASE("softmax codes in steps against double") {
  const StepCodes even = {0, 10, 0, 15, 0, 1 << 12, 0};               // 4 bits, steps of 0.1
  const StepCodes twin = {8 * 32, 8, 8, 7, 1 << 8, 1 << 13, 7 << 8};  // 4 bits, 1/8 and 1/256
  for (const StepCodes& steps : {even, twin}) {
    const double coarse = 1 / double{steps.coarse_inverse}, fine = 1 / 256.0;
    for (int n : {1, 3, 16, 49}) {
      std::mt19937 random(static_cast<unsigned>(n));
      Products products(random_floats(random, static_cast<size_t>(n), 3), n);
      const Products before = products;
      SoftmaxArgs args = products.args(1, n);
      args.codes = ProbabilityCodes::kSteps;
      args.steps = &steps;
      const auto [stride, hi, lo, hi_sum, lo_sum] = Planes(args);
      double sum = 0;
      for (size_t j = 0; j < before.products.size(); j++) sum += std::exp(before.score(j));
      int hi_total = 0, lo_total = 0;
      for (size_t j = 0; j < hi.size(); j++) {
        hi_total += hi[j];
        lo_total += lo[j];
        const int value = hi[j] * 256 + lo[j];
        const double got = coarse / steps.coarse_value * value;
        if (j >= before.products.size()) {
          REQUIRE(got == 0);
          continue;
        }
        const double p = std::exp(before.score(j)) / sum;
        const bool small = steps.fine_codes && p < 7.5 * fine;
        // The last fine code stands for all p up to the first coarse step that is nearer.
        const double top = (steps.coarse_top + 0.5) * coarse;
        const double tolerance = small ? fine / 2 : coarse / 2;
        CAPTURE(p);
        REQUIRE(std::fabs(got - std::min(p, top - coarse / 2)) <= tolerance * 1.0001);
        if (small || p > 7.5 * fine + coarse / 2)
          REQUIRE(value % (small ? steps.fine_value : steps.coarse_value) == 0);
      }
      REQUIRE(hi_sum[0] == hi_total);
      REQUIRE(lo_sum[0] == lo_total);
    }
  }
}

TEST_CASE("softmax codes: infinite and NaN scores stay inside the table") {
  const float inf = std::numeric_limits<float>::infinity();
  const float wild[] = {0, inf, -inf, std::numeric_limits<float>::quiet_NaN(), 1};
  const std::vector<uint16_t> table = softmax_table(8);
  const StepCodes steps = {256, 8, 8, 7, 1 << 8, 1 << 13, 7 << 8};
  for (ProbabilityCodes codes : {ProbabilityCodes::kLog, ProbabilityCodes::kLogBySum,
                                 ProbabilityCodes::kSteps, ProbabilityCodes::kCarried}) {
    Products products(std::vector<float>(5), 5);
    SoftmaxArgs args = products.args(1, 5);
    args.bias = wild;
    args.bias_stride = 5;
    args.codes = codes;
    args.steps = &steps;
    args.scale = 1;
    args.bits = 8;
    args.rate = 2;
    args.table = table.data();
    const Planes planes(args);
    const int most = codes == ProbabilityCodes::kSteps ? 7 << 13 : 65535;
    for (size_t j = 0; j < 32; j++) {
      const int value =
          planes.hi[j] * 256 + (codes == ProbabilityCodes::kCarried ? 0 : planes.lo[j]);
      CHECK(value <= (j < 5 ? most : 0));
    }
  }
}

// Both packers must give the panels that pack_codes() gives for the same signed codes.
TEST_CASE("pack_rows and pack_columns equal pack_codes") {
  std::mt19937 random(5);
  for (int tokens : {1, 17, 49, 70}) {
    for (int width : {8, 32, 50}) {
      const int stride = width + 3, bits = 3 + tokens % 6;
      const auto x = random_ints<uint8_t>(random, index(tokens, stride, 0), 0, (1 << bits) - 1);
      std::vector<uint8_t> rows(index(tokens, width, 0)), columns(rows.size());
      for (int i = 0; i < tokens; i++) {
        for (int j = 0; j < width; j++) {
          // 8-bit panels hold the signed code - 2^(bits-1). pack_codes() takes it plus 128.
          const int code = x[index(i, stride, j)] - (1 << (bits - 1)) + 128;
          rows[index(i, width, j)] = columns[index(j, tokens, i)] = static_cast<uint8_t>(code);
        }
      }
      const auto check = [&](auto pack, const std::vector<uint8_t>& codes, int n, int k, int d0,
                             int d1) {
        const auto bytes = static_cast<size_t>(pack_bytes(n, k, 8));
        std::vector<uint8_t> want(bytes), got(bytes, 99);
        const auto entries = static_cast<size_t>(round_up(n, kColumns));
        std::vector<int32_t> want_sum(entries), got_sum(entries, 99);
        pack_codes(codes.data(), n, k, 8, want.data());
        sum_columns(codes.data(), n, k, 8, want_sum.data());
        pack(x.data(), stride, d0, d1, bits, got.data(), got_sum.data());
        CHECK(got == want);
        CHECK(got_sum == want_sum);
      };
      check(scalar().pack_rows, rows, tokens, width, tokens, width);
      check(scalar().pack_columns, columns, width, tokens, tokens, width);
    }
  }
}

TEST_CASE("sum_rows") {
  std::vector<uint8_t> codes(3 * 70, 9);
  for (int j = 0; j < 50; j++) codes[index(1, 70, j)] = static_cast<uint8_t>(5 * j);
  for (int j = 50; j < 64; j++) codes[index(1, 70, j)] = 0;
  int32_t sums[4] = {-1, -1, -1, 42};
  scalar().sum_rows(codes.data(), 70, 3, 50, sums);
  CHECK(sums[0] == 9 * 64);
  CHECK(sums[1] == 5 * 49 * 50 / 2);
  CHECK(sums[2] == 9 * 64);
  CHECK(sums[3] == 42);
}

TEST_CASE("map_rows") {
  uint8_t table[256], codes[2 * 70];
  for (int i = 0; i < 256; i++) table[i] = static_cast<uint8_t>(255 - i);
  for (int i = 0; i < 140; i++) codes[i] = static_cast<uint8_t>(i + 60);
  int32_t sums[3] = {-1, -1, 42};
  scalar().map_rows(table, 2, 50, codes, 70, sums);
  for (int row = 0; row < 2; row++) {
    int sum = 0;
    for (int j = 0; j < 70; j++) {
      const int before = 70 * row + j + 60, code = codes[70 * row + j];
      CHECK(code == (j < 50 ? 255 - before : j < 64 ? 0 : before));
      if (j < 50) sum += code;
    }
    CHECK(sums[row] == sum);
  }
  CHECK(sums[2] == 42);
}

TEST_CASE("combine_planes") {
  const int32_t hi[] = {1000, -3, 0}, lo[] = {-70000, 5, 255}, hi_sum[] = {9}, lo_sum[] = {800};
  const Quantizer q = {.inv_scale = 0.0078125f, .zero = 7, .max_code = 255};
  uint8_t codes[4] = {0, 0, 0, 42};
  const float scale = 0.125f;
  scalar().combine_planes(hi, lo, 3, hi_sum, lo_sum, -2, &scale, 1, 3, q, codes, 3);
  for (int j = 0; j < 3; j++) {
    CHECK(codes[j] == expected_code(0.125 * (256.0 * (hi[j] + 18) + (lo[j] + 1600)), q));
  }
  CHECK(codes[3] == 42);
  float y[4] = {0, 0, 0, 42};
  scalar().sum_planes(hi, lo, 3, hi_sum, lo_sum, -2, &scale, 1, 3, y, 3);
  for (int j = 0; j < 3; j++)  // small enough to be exact in float
    CHECK(double{y[j]} == 0.125 * (256.0 * (hi[j] + 18) + (lo[j] + 1600)));
  CHECK(y[3] == 42);
  scalar().sum_planes(hi, nullptr, 3, hi_sum, nullptr, -2, &scale, 1, 3, y, 3);
  for (int j = 0; j < 3; j++) CHECK(double{y[j]} == 0.125 * (hi[j] + 18));
}

TEST_CASE("gemm: codes by a quantizer for each column") {
  Linear linear(3, 35, 100, 5, 11);
  const size_t columns = static_cast<size_t>(round_up(35, kColumns));
  std::vector<float> inv_scale(columns), low(columns), high(columns);
  std::vector<int32_t> zero(columns);
  for (size_t j = 0; j < columns; j++) {
    inv_scale[j] = 5.0f + static_cast<float>(j);
    zero[j] = static_cast<int32_t>(3 * j);
    low[j] = static_cast<float>(-zero[j]);
    high[j] = static_cast<float>((j < 16 ? 255 : 63) - zero[j]);
  }
  std::vector<uint8_t> codes(index(3, 40, 0), 77);
  linear.args.epilogue = Epilogue::kCodes;
  linear.args.codes = codes.data();
  linear.args.code_stride = 40;
  linear.args.quantizers = {inv_scale.data(), low.data(), high.data(), zero.data()};
  scalar().gemm(linear.args);
  int clamped = 0;
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 35; j++) {
      const auto c = static_cast<size_t>(j);
      const Quantizer q = {inv_scale[c], zero[c], j < 16 ? 255 : 63};
      const int code = codes[index(i, 40, j)];
      // The kernel's float may round to another code than the double.
      CHECK(std::abs(code - expected_code(linear.value(i, j), q)) <= 1);
      clamped += code == 0 || code == q.max_code;
    }
    for (int j = 35; j < 40; j++) CHECK(codes[index(i, 40, j)] == 77);
  }
  CHECK(clamped < 100);
}

}  // namespace
}  // namespace vitrun
