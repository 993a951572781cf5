// A quantized product in guarded buffers, and random inputs, for tests that compare ISAs.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "tests/runtime/integer/guarded.h"

namespace vitrun {

// Every table that this machine runs, except the scalar one.
inline std::vector<const Kernels*> isas_under_test() {
  std::vector<const Kernels*> isas;
  for (const Kernels* k : compiled_kernels()) {
    if (is_supported(*k) && std::string(k->name) != "scalar") isas.push_back(k);
  }
  return isas;
}

inline const Kernels& scalar() {
  return *find_kernels("scalar");
}

inline size_t area(int64_t rows, int64_t stride) {
  return static_cast<size_t>(rows * stride);
}

// The elements of `rows` rows, of which the last ends after `used` elements.
inline size_t rows_of(int64_t rows, int64_t stride, int64_t used) {
  return area(rows - 1, stride) + static_cast<size_t>(used);
}

// The first n columns of rows `stride` elements apart.
inline std::vector<int32_t> first_columns(const std::vector<int32_t>& rows, int stride, int n) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < rows.size(); i++)
    if (i % static_cast<size_t>(stride) < static_cast<size_t>(n)) out.push_back(rows[i]);
  return out;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;  // payloads of NaN may differ
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
  }
  return true;
}

inline std::vector<float> random_floats(std::mt19937& random, size_t count, float deviation) {
  std::normal_distribution<float> draw(0, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}

// Normally distributed values, of which every eighth is replaced by an infinity, NaN, a zero, or a
// huge or tiny number.
inline std::vector<float> wild_floats(std::mt19937& random, size_t count) {
  const float inf = std::numeric_limits<float>::infinity();
  const float wild[] = {
      inf,  -inf, std::numeric_limits<float>::quiet_NaN(), 0.0f, -0.0f, 3e38f, -3e38f, 1e-42f,
      0.5f, -2.5f};
  std::vector<float> values = random_floats(random, count, 4);
  for (float& v : values) {
    if (random() % 8 == 0) v = wild[random() % std::size(wild)];
  }
  return values;
}

enum class CodeChoice { kRandom, kHighest, kLowest };

// One product whose inputs and outputs are in guarded buffers. Each member function runs it with
// one epilogue and returns what the kernel wrote.
class GuardedProduct {
 public:
  GuardedProduct(int m, int n, int k, int bits, int a_bits, CodeChoice kind, unsigned seed)
      : m_(m),
        n_(n),
        stride_(round_up(k, kDepthAlign)),
        random_(seed),
        a_(area(m, stride_)),
        panels_(static_cast<size_t>(pack_bytes(n, k, bits))),
        row_sum_(static_cast<size_t>(m)),
        offset_(columns()),
        zero_(columns()),
        scale_(random_floats(random_, columns(), 1e-4f)),
        bias_(random_floats(random_, columns(), 1)),
        residual_(random_floats(random_, area(m, n), 1)),
        row_scale_(static_cast<size_t>(m)),
        row_zero_(static_cast<size_t>(m)) {
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < k; j++) {
        const uint8_t code = pick(kind, a_bits, false);
        a_[area(i, stride_) + static_cast<size_t>(j)] = code;
        row_sum_[static_cast<size_t>(i)] += code;
      }
    }
    std::vector<uint8_t> w(area(n, k));
    for (uint8_t& code : w) code = pick(kind, bits, true);
    pack_codes(w.data(), n, k, bits, panels_.data());
    for (size_t j = 0; j < columns(); j++) {
      offset_[j] = static_cast<int32_t>(random_() % 20001) - 10000;
      zero_[j] = static_cast<int32_t>(random_() % 256) - 128;
    }
    args_ = {};
    args_.m = m;
    args_.n = n;
    args_.k = k;
    args_.a = a_.data();
    args_.a_stride = stride_;
    args_.row_sum = row_sum_.data();
    args_.panels = panels_.data();
    args_.bits = bits;
    args_.a_bits = a_bits;
    args_.scale = scale_.data();
    args_.offset = offset_.data();
    args_.zero = zero_.data();
    args_.bias = bias_.data();
  }

  // Replaces the weights by 8-bit codes -2^(range - 1) and 2^(range - 1) - 1, as pack_rows() writes
  // them for codes of `range` bits.
  void narrow(int range) {
    for (size_t i = 0; i < static_cast<size_t>(pack_bytes(n_, args_.k, 8)); i++) {
      const int code = i % 5 ? -(1 << (range - 1)) : (1 << (range - 1)) - 1;
      panels_[i] = static_cast<uint8_t>(code);
    }
    args_.range_bits = range;
  }

  // Gives every row a scale and a zero point of its own.
  void scale_rows() {
    for (size_t i = 0; i < static_cast<size_t>(m_); i++) {
      row_scale_[i] = 0.1f + static_cast<float>(i);
      row_zero_[i] = static_cast<int32_t>(37 * i % 256);
    }
    args_.row_scale = row_scale_.data();
    args_.row_zero = row_zero_.data();
  }

  std::vector<int32_t> raw(const Kernels& kernels) {
    const int stride = round_up(n_, kColumns);
    Guarded<int32_t> out(area(m_, stride), 12345);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kInt32;
    // kInt32 does not read these.
    args.scale = args.bias = nullptr;
    args.offset = args.zero = args.row_sum = nullptr;
    args.raw = out.data();
    args.raw_stride = stride;
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return first_columns(out.values(), stride, n_);
  }

  std::vector<float> floats(const Kernels& kernels, Epilogue epilogue) {
    Guarded<float> out(area(m_, n_), 0.25f);
    GemmArgs args = args_;
    args.epilogue = epilogue;
    args.y = out.data();
    args.y_stride = n_;
    if (epilogue == Epilogue::kAdd) args.residual = residual_.data();
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return out.values();
  }

  // kCodes with a different quantizer for each column. Rows have no space between them.
  std::vector<uint8_t> codes(const Kernels& kernels) {
    Guarded<float> inv_scale(columns()), low(columns()), high(columns());
    Guarded<int32_t> zero(columns());
    for (size_t j = 0; j < columns(); j++) {
      zero[j] = static_cast<int32_t>(j % 40) + 3;
      inv_scale[j] = 10.0f + static_cast<float>(j);
      low[j] = static_cast<float>(-zero[j]);
      high[j] = static_cast<float>((j % 2 ? 255 : 63) - zero[j]);
    }
    Guarded<uint8_t> out(area(m_, n_), 77);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kCodes;
    args.codes = out.data();
    args.code_stride = n_;
    args.quantizers = {inv_scale.data(), low.data(), high.data(), zero.data()};
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return out.values();
  }

  // The codes, followed by their row sums.
  std::vector<int> act_codes(const Kernels& kernels, Activation activation) {
    const int64_t stride = round_up(n_, kDepthAlign);
    Guarded<uint8_t> out(area(m_, stride), 77);
    Guarded<int32_t> sums(static_cast<size_t>(m_), -1);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kActCodes;
    args.activation = activation;
    args.codes = out.data();
    args.code_stride = stride;
    args.code_sum = sums.data();
    args.quantizer = {.inv_scale = 60, .zero = 10, .max_code = 255};
    kernels.gemm(args);
    CHECK((out.canary_intact() && sums.canary_intact()));
    const std::vector<uint8_t> codes = out.values();
    std::vector<int> all(codes.begin(), codes.end());
    for (int32_t sum : sums.values()) all.push_back(sum);
    return all;
  }

 private:
  size_t columns() const { return static_cast<size_t>(round_up(n_, kColumns)); }

  // kHighest and kLowest give products of large magnitude and equal sign, whose sum in int16 would
  // overflow.
  uint8_t pick(CodeChoice kind, int bits, bool weight) {
    const int top = (1 << bits) - 1;
    if (kind == CodeChoice::kRandom) return static_cast<uint8_t>(static_cast<int>(random_()) & top);
    return static_cast<uint8_t>(weight && kind == CodeChoice::kLowest ? 0 : top);
  }

  int m_, n_;
  int64_t stride_;
  std::mt19937 random_;
  Guarded<uint8_t> a_, panels_;
  Guarded<int32_t> row_sum_, offset_, zero_;
  Guarded<float> scale_, bias_, residual_, row_scale_;
  Guarded<int32_t> row_zero_;
  GemmArgs args_;
};

}  // namespace vitrun
