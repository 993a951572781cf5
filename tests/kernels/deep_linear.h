// A Linear at the limits of what kernels.h allows.
#pragma once

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "kernels/pack.h"
#include "tests/kernels/guarded_product.h"

namespace vitrun {

// A quantized Linear whose codes and zero points are at the ends of their ranges, with its results
// in int64 as the reference. The codes of a row of activations, or of a column of weights, are in
// turn all the highest, all the lowest, or one of both at random.
class DeepLinear {
 public:
  // Five rows are no whole number of tiles; 33 columns are two panels and a column.
  static constexpr int kRows = 5, kOutputs = 33;

  DeepLinear(int k, int bits, int a_bits, int a_zero)
      : k_(k),
        a_zero_(a_zero),
        middle_(1 << (bits - 1)),
        random_(1),
        panels_(static_cast<size_t>(pack_bytes(kOutputs, k, bits))) {
    const uint8_t a_top = static_cast<uint8_t>((1 << a_bits) - 1);
    const uint8_t w_top = static_cast<uint8_t>((1 << bits) - 1);
    for (size_t i = 0; i < kRows; i++) fill(&a_[i * stride()], i, a_top);
    for (size_t j = 0; j < kOutputs; j++) {
      fill(&w_[j * depth()], j, w_top);
      w_zero_[j] = j / 3 % 2 ? 0 : w_top;
    }
    pack_codes(w_.data(), kOutputs, k, bits, panels_.data());
    set_terms();
    args_.m = kRows;
    args_.n = kOutputs;
    args_.k = k;
    args_.a = a_.data();
    args_.a_stride = round_up(k, kDepthAlign);
    args_.row_sum = row_sum_.data();
    args_.panels = panels_.data();
    args_.bits = bits;
    args_.a_bits = a_bits;
    args_.scale = scale_.data();
    args_.offset = offset_.data();
    args_.zero = zero_.data();
    args_.bias = bias_.data();
  }

  // sum_k (a - a_zero)(w - w_zero) of row i and column j, with unsigned codes w.
  int64_t value(size_t i, size_t j) const {
    return sum(i, j, [&](int a, int w) { return (a - a_zero_) * (w - w_zero_[j]); });
  }
  // sum_k a w' of row i and column j, with signed codes w'.
  int64_t raw(size_t i, size_t j) const {
    return sum(i, j, [&](int a, int w) { return a * (w - middle_); });
  }

  std::vector<int64_t> values() const {
    return all([&](size_t i, size_t j) { return value(i, j); });
  }
  std::vector<int64_t> raws() const {
    return all([&](size_t i, size_t j) { return raw(i, j); });
  }

  std::vector<int32_t> raw(const Kernels& kernels) const {
    constexpr int kStride = round_up(kOutputs, kColumns);
    Guarded<int32_t> out(kRows * kStride, 12345);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kInt32;
    args.raw = out.data();
    args.raw_stride = kStride;
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return first_columns(out.values(), kStride, kOutputs);
  }
  std::vector<float> floats(const Kernels& kernels) const {
    Guarded<float> out(kRows * kOutputs, 0.25f);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kFloat;
    args.y = out.data();
    args.y_stride = kOutputs;
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return out.values();
  }

 private:
  size_t depth() const { return static_cast<size_t>(k_); }
  size_t stride() const { return static_cast<size_t>(round_up(k_, kDepthAlign)); }

  void fill(uint8_t* codes, size_t line, uint8_t top) {
    for (size_t d = 0; d < depth(); d++) {
      const bool high = line % 3 == 2 ? random_() % 2 == 0 : line % 3 == 0;
      codes[d] = high ? top : 0;
    }
  }

  // Sets offset = K z_a z_w' - z_a sum_k w' and zero = z_w', as GemmArgs defines them, scale = 1
  // and bias = 0.
  void set_terms() {
    for (size_t i = 0; i < kRows; i++) {
      for (size_t d = 0; d < depth(); d++) row_sum_[i] += a_[i * stride() + d];
    }
    for (size_t j = 0; j < kOutputs; j++) {
      int64_t column_sum = 0;
      for (size_t d = 0; d < depth(); d++) column_sum += w_[j * depth() + d] - middle_;
      const int64_t zero = w_zero_[j] - middle_;
      offset_[j] = static_cast<int32_t>(a_zero_ * (k_ * zero - column_sum));
      zero_[j] = static_cast<int32_t>(zero);
      scale_[j] = 1;
    }
  }

  template <class Term>
  int64_t sum(size_t i, size_t j, Term term) const {
    int64_t total = 0;
    for (size_t d = 0; d < depth(); d++) {
      total += term(a_.data()[i * stride() + d], w_[j * depth() + d]);
    }
    return total;
  }

  template <class Element>
  static std::vector<int64_t> all(Element element) {
    std::vector<int64_t> values;
    for (size_t i = 0; i < kRows; i++) {
      for (size_t j = 0; j < kOutputs; j++) values.push_back(element(i, j));
    }
    return values;
  }

  static constexpr size_t kPadded = round_up(kOutputs, kColumns);

  int k_, a_zero_, middle_;
  std::mt19937 random_;
  Guarded<uint8_t> a_{kRows * stride()};
  std::vector<uint8_t> w_ = std::vector<uint8_t>(kOutputs * depth());
  Guarded<uint8_t> panels_;
  int w_zero_[kOutputs] = {};
  Guarded<int32_t> row_sum_{kRows}, offset_{kPadded}, zero_{kPadded};
  Guarded<float> scale_{kPadded}, bias_{kPadded};
  GemmArgs args_{};
};

}  // namespace vitrun
