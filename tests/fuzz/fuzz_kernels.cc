// Fuzz target: one kernel call with shapes, codes and floats from the bytes, on every ISA of this
// CPU. Each must give the scalar table's bits, in buffers no larger than the contract asks for.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "tests/fuzz/fuzz_target.h"

namespace vitrun {
namespace {

using Output = std::vector<uint8_t>;  // whatever a call wrote, as bytes

// Values are edges now and then, else those of a generator that the input seeds.
class Values {
 public:
  explicit Values(Choices& choices) : state_(choices.number<uint32_t>() * 2 + 1) {
    kind_ = choices.below(4);
  }
  uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33);
  }
  uint8_t code(int bits) {
    const uint32_t top = (1u << bits) - 1;
    return static_cast<uint8_t>(kind_ == 0 ? top : kind_ == 1 ? 0 : next() & top);
  }
  float real(float scale) {
    if (kind_ == 3 && next() % 16 == 0) return std::bit_cast<float>(next() * 2 + next() % 2);
    return scale * (static_cast<float>(next() % 20001) / 10000 - 1);
  }
  std::vector<float> reals(int count, float scale) {
    std::vector<float> all(static_cast<size_t>(count));
    for (float& v : all) v = real(scale);
    return all;
  }
  std::vector<int32_t> ints(int count, int low, int high) {
    std::vector<int32_t> all(static_cast<size_t>(count));
    for (int32_t& v : all) v = low + static_cast<int32_t>(next()) % (high - low + 1);
    return all;
  }

 private:
  uint64_t state_;
  int kind_;
};

// NaN's payload is nobody's business.
void keep(Output& out, const std::vector<float>& values) {
  for (float v : values) {
    const uint32_t bits = std::isnan(v) ? 0x7fc00000u : std::bit_cast<uint32_t>(v);
    for (int i = 0; i < 32; i += 8) out.push_back(static_cast<uint8_t>(bits >> i));
  }
}
template <class T>
void keep(Output& out, const std::vector<T>& values) {
  const auto* p = reinterpret_cast<const uint8_t*>(values.data());
  out.insert(out.end(), p, p + values.size() * sizeof(T));
}

std::vector<uint8_t> code_rows(Values& values, int m, int k, int bits) {
  const int stride = round_up(k, kDepthAlign);
  std::vector<uint8_t> rows(static_cast<size_t>(m * stride));
  for (int i = 0; i < m; i++)
    for (int j = 0; j < k; j++) rows[static_cast<size_t>(i * stride + j)] = values.code(bits);
  return rows;
}

Quantizer quantizer(Choices& choices, Values& values) {
  return {.inv_scale = std::ldexp(1 + 0.001f * static_cast<float>(values.next() % 999),
                                  choices.between(-6, 6)),
          .zero = choices.between(0, 255) * 3 + kMinZero,
          .max_code = (1 << choices.between(3, 8)) - 1};
}

// Runs `call(kernels, output)` on every table.
template <class Call>
void compare(const Call& call) {
  Output expected;
  call(*find_kernels("scalar"), expected);
  for (const Kernels* kernels : compiled_kernels()) {
    if (!is_supported(*kernels)) continue;
    Output found;
    call(*kernels, found);
    if (found != expected) std::fprintf(stderr, "isa %s\n", kernels->name);
    FUZZ_CHECK(found == expected);
  }
}

void fuzz_gemm(Choices& choices) {
  const int m = choices.between(1, 20), n = choices.between(1, 50), k = choices.between(1, 150);
  const int bits = choices.between(kMinBits, kMaxBits), a_bits = choices.between(1, 8);
  const auto epilogue = static_cast<Epilogue>(choices.below(5));
  Values values(choices);
  const int stride = round_up(k, kDepthAlign), columns = round_up(n, kColumns);
  const std::vector<uint8_t> a = code_rows(values, m, k, a_bits);
  std::vector<uint8_t> w(static_cast<size_t>(n * k));
  for (uint8_t& code : w) code = values.code(bits);
  std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(n, k, bits)));
  pack_codes(w.data(), n, k, bits, panels.data());
  std::vector<int32_t> sums(static_cast<size_t>(m));
  for (int i = 0; i < m; i++)
    for (int j = 0; j < k; j++)
      sums[static_cast<size_t>(i)] += a[static_cast<size_t>(i * stride + j)];
  const auto scale = values.reals(columns, 1e-3f), bias = values.reals(columns, 2);
  const auto offset = values.ints(columns, -9999, 9999), zero = values.ints(columns, -128, 127);
  const auto residual = values.reals(m * n, 1),
             inverse = std::vector<float>(static_cast<size_t>(columns), 21.7f);
  const auto q_zero = values.ints(columns, 0, 255);
  std::vector<float> low(q_zero.begin(), q_zero.end()), high = low;
  for (float& v : low) v = -v;
  for (float& v : high) v = 255 - v;
  const Quantizer q = quantizer(choices, values);
  const bool by_row = choices.below(2);
  const auto row_scale = values.reals(m, 3);
  const auto row_zero = values.ints(m, 0, 255);
  compare([&](const Kernels& kernels, Output& out) {
    const int code_stride = epilogue == Epilogue::kCodes ? n : round_up(n, kDepthAlign);
    std::vector<float> y(static_cast<size_t>(m * n), 0.25f);
    std::vector<uint8_t> codes(static_cast<size_t>(m * code_stride), 77);
    const int raw_stride = round_up(n, kColumns);
    std::vector<int32_t> raw(static_cast<size_t>(m * raw_stride), 7);
    std::vector<int32_t> code_sum(static_cast<size_t>(m), 7);
    const GemmArgs args = {m,
                           n,
                           k,
                           a.data(),
                           stride,
                           sums.data(),
                           panels.data(),
                           bits,
                           a_bits,
                           0,
                           scale.data(),
                           offset.data(),
                           zero.data(),
                           bias.data(),
                           epilogue,
                           y.data(),
                           n,
                           residual.data(),
                           codes.data(),
                           code_stride,
                           code_sum.data(),
                           q,
                           Activation::kGelu,
                           {inverse.data(), low.data(), high.data(), q_zero.data()},
                           raw.data(),
                           raw_stride,
                           by_row ? row_scale.data() : nullptr,
                           by_row ? row_zero.data() : nullptr};
    kernels.gemm(args);
    keep(out, y), keep(out, codes), keep(out, raw), keep(out, code_sum);
  });
}

void fuzz_norm(Choices& choices) {
  const int m = choices.between(1, 5), c = choices.between(1, 100), gap = choices.between(0, 3);
  Values values(choices);
  const auto x = values.reals((m - 1) * (c + gap) + c, 5), gamma = values.reals(c, 2),
             beta = values.reals(c, 1);
  const NormArgs args = {m, c, x.data(), c + gap, gamma.data(), beta.data(), 1e-6f};
  const Quantizer q = quantizer(choices, values);
  const int stride = round_up(c, kDepthAlign);
  const int parts = std::min(c, choices.between(1, 4)), group = c % parts ? c : c / parts;
  const auto padded = static_cast<size_t>(round_up(c, kColumns));
  const std::vector<float> inverse(padded, q.inv_scale), low(padded, static_cast<float>(-q.zero)),
      high(padded, static_cast<float>(q.max_code - q.zero));
  const std::vector<int32_t> zero(padded, q.zero);
  const RowQuantizer by_row = {choices.between(3, 8), choices.between(kLeastGroup, 40)};
  const Activation activation = Activation::kGelu;
  compare([&](const Kernels& kernels, Output& out) {
    std::vector<float> y(static_cast<size_t>(m * c));
    std::vector<uint8_t> codes(static_cast<size_t>(m * stride), 77);
    std::vector<int32_t> sums(static_cast<size_t>(m));
    kernels.layernorm(args, y.data(), c);
    keep(out, y);
    kernels.layernorm_codes(args, q, codes.data(), stride, sums.data());
    keep(out, codes), keep(out, sums);
    kernels.quantize(x.data(), c + gap, m, c, q, codes.data(), stride, sums.data());
    keep(out, codes), keep(out, sums);
    for (int of : {0, group}) {
      kernels.quantize_columns({m, c, x.data(), c + gap, of, gamma.data(), 1e-12f},
                               {inverse.data(), low.data(), high.data(), zero.data()}, codes.data(),
                               stride);
      keep(out, codes);
    }
    std::vector<float> scales(static_cast<size_t>(m));
    std::vector<int32_t> zeros(static_cast<size_t>(m));
    const RowCodes to = {by_row, codes.data(), stride, sums.data(), scales.data(), zeros.data()};
    for (const Activation* through : {static_cast<const Activation*>(nullptr), &activation}) {
      kernels.quantize_by_row(x.data(), c + gap, m, c, through, to);
      keep(out, codes), keep(out, sums), keep(out, scales), keep(out, zeros);
    }
    kernels.layernorm_by_row(args, to);
    keep(out, codes), keep(out, sums), keep(out, scales), keep(out, zeros);
    kernels.quantize_heads({m,
                            parts,
                            c / parts,
                            x.data(),
                            c + gap,
                            by_row.bits,
                            {inverse.data(), low.data(), high.data(), zero.data()}},
                           codes.data(), stride);
    keep(out, codes);
    std::vector<float> e(x.size()), g(x.size());
    kernels.exp(x.data(), static_cast<int64_t>(x.size()), e.data());
    keep(out, e);
    for (Activation type : {Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu,
                            Activation::kSilu, Activation::kRelu}) {
      kernels.activate(type, x.data(), static_cast<int64_t>(x.size()), g.data());
      keep(out, g);
    }
  });
}

void fuzz_softmax(Choices& choices) {
  const int m = choices.between(1, 4), n = choices.between(1, 100);
  const int bits = choices.between(3, 8), twin = choices.between(0, 2);
  const bool biased = choices.below(2), masked = choices.below(2);
  const auto kind = static_cast<ProbabilityCodes>(choices.below(4));
  const float rate = kMinLogRate + 0.1f * static_cast<float>(choices.between(0, 30));
  Values values(choices);
  const auto scores = values.ints(m * n, -60000, 60000), offset = values.ints(n, -20000, 20000);
  const auto bias = values.reals(m * n, 2);
  std::vector<uint8_t> region(static_cast<size_t>(n)), row_region(static_cast<size_t>(m));
  for (uint8_t& r : region) r = static_cast<uint8_t>(values.next() % 3);
  for (uint8_t& r : row_region) r = static_cast<uint8_t>(values.next() % 3);
  std::vector<uint16_t> table(static_cast<size_t>(1 << bits) + 1);
  for (int i = 0; i < 1 << bits && i < 63; i++)
    table[static_cast<size_t>(i)] =
        static_cast<uint16_t>(std::lround(65535 * std::exp2(-static_cast<float>(i) / rate)));
  const int half = 1 << (bits - 1), coarse = 1 << (16 - bits - (twin > 0 ? -1 : 0)),
            fine = coarse >> twin;
  const StepCodes steps = twin
                              ? StepCodes{400, 100, half, half - 1, fine, coarse, (half - 1) * fine}
                              : StepCodes{0, 200, 0, 2 * half - 1, 0, coarse, 0};
  const int stride = round_up(n, kDepthAlign);
  compare([&](const Kernels& kernels, Output& out) {
    std::vector<uint8_t> hi(static_cast<size_t>(m * stride), 9), lo = hi;
    std::vector<int32_t> hi_sum(static_cast<size_t>(m)), lo_sum = hi_sum;
    std::vector<int32_t> products = scores;
    const SoftmaxArgs args = {m,
                              n,
                              products.data(),
                              n,
                              offset.data(),
                              1e-4f,
                              biased ? bias.data() : nullptr,
                              n,
                              masked ? region.data() : nullptr,
                              masked ? row_region.data() : nullptr,
                              kind,
                              &steps,
                              0.8f,
                              bits,
                              rate,
                              table.data(),
                              hi.data(),
                              lo.data(),
                              stride,
                              hi_sum.data(),
                              lo_sum.data()};
    kernels.softmax_codes(args);
    keep(out, hi), keep(out, lo), keep(out, hi_sum), keep(out, lo_sum);
  });
}

void fuzz_rows(Choices& choices) {
  const int m = choices.between(1, 40), k = choices.between(1, 100), bits = choices.between(3, 8);
  Values values(choices);
  const int stride = round_up(k, kDepthAlign);
  const std::vector<uint8_t> codes = code_rows(values, m, k, bits);
  std::vector<uint8_t> table(256);
  for (uint8_t& t : table) t = static_cast<uint8_t>(values.next());
  const auto hi = values.ints(m * k, -30000, 30000), lo = values.ints(m * k, -30000, 30000);
  const auto hi_sum = values.ints(m, 0, 9999), lo_sum = values.ints(m, 0, 9999);
  const int zero = choices.between(0, 255) - 128;
  const auto scales = values.reals(m, 1e-4f);
  const Quantizer q = quantizer(choices, values);
  compare([&](const Kernels& kernels, Output& out) {
    std::vector<int32_t> sums(static_cast<size_t>(m));
    kernels.sum_rows(codes.data(), stride, m, k, sums.data());
    keep(out, sums);
    std::vector<uint8_t> mapped = codes;
    kernels.map_rows(table.data(), m, k, mapped.data(), stride, sums.data());
    keep(out, mapped), keep(out, sums);
    std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(m, k, 8)), 77);
    std::vector<int32_t> columns(static_cast<size_t>(round_up(m, kColumns)), 77);
    kernels.pack_rows(codes.data(), stride, m, k, bits, panels.data(), columns.data());
    keep(out, panels), keep(out, columns);
    panels.assign(static_cast<size_t>(pack_bytes(k, m, 8)), 77);
    columns.assign(static_cast<size_t>(round_up(k, kColumns)), 77);
    kernels.pack_columns(codes.data(), stride, m, k, bits, panels.data(), columns.data());
    keep(out, panels), keep(out, columns);
    std::vector<uint8_t> combined(static_cast<size_t>(m * k), 77);
    kernels.combine_planes(hi.data(), lo.data(), k, hi_sum.data(), lo_sum.data(), zero,
                           scales.data(), m, k, q, combined.data(), k);
    keep(out, combined);
    std::vector<float> summed(static_cast<size_t>(m * k));
    kernels.sum_planes(hi.data(), lo.data(), k, hi_sum.data(), lo_sum.data(), zero, scales.data(),
                       m, k, summed.data(), k);
    keep(out, summed);
    kernels.sum_planes(hi.data(), nullptr, k, hi_sum.data(), nullptr, zero, scales.data(), m, k,
                       summed.data(), k);
    keep(out, summed);
  });
}

}  // namespace

void fuzz_target(std::span<const uint8_t> bytes) {
  Choices choices(bytes);
  switch (choices.below(4)) {
    case 0:
      return fuzz_gemm(choices);
    case 1:
      return fuzz_norm(choices);
    case 2:
      return fuzz_softmax(choices);
    default:
      return fuzz_rows(choices);
  }
}

}  // namespace vitrun
