// Compares every ISA that this CPU runs with the scalar table, bit for bit, in buffers that end at
// unmapped pages.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "tests/kernels/deep_linear.h"
#include "tests/kernels/guarded_product.h"
#include "tests/runtime/integer/guarded.h"

namespace vitrun {
namespace {

void check_product(int m, int n, int k, int bits, int a_bits, CodeChoice kind) {
  GuardedProduct product(m, n, k, bits, a_bits, kind,
                         static_cast<unsigned>(m * 31 + n * 7 + k + bits));
  const std::vector<int32_t> raw = product.raw(scalar());
  for (const Kernels* isa : isas_under_test()) {
    const bool same = product.raw(*isa) == raw;
    if (!same) FAIL_CHECK(isa->name, " m ", m, " n ", n, " k ", k, " W", bits, "A", a_bits);
  }
}

TEST_CASE("every row count up to two tiles and one, every bit width") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (int m = 1; m <= 65; m++) check_product(m, 48, 64, bits, 8, CodeChoice::kRandom);
  }
}

TEST_CASE("every column count up to three panels, every depth tail") {
  for (int n = 1; n <= 49; n++) check_product(5, n, 40, 4 + n % 5, 8, CodeChoice::kRandom);
  for (int k = 1; k <= 100; k++) check_product(5, 20, k, 3 + k % 6, 8, CodeChoice::kRandom);
}

TEST_CASE("every weight and activation width at the extremes, deep enough to overflow int16") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (int a_bits = 1; a_bits <= 8; a_bits++) {
      for (CodeChoice kind : {CodeChoice::kRandom, CodeChoice::kHighest, CodeChoice::kLowest}) {
        check_product(7, 17, 1056, bits, a_bits, kind);
      }
    }
  }
}

TEST_CASE("a narrower range of the weights than their storage") {
  for (int range = 2; range <= 8; range++) {
    for (int a_bits : {4, 8}) {
      GuardedProduct product(7, 17, 1056, 8, a_bits, CodeChoice::kHighest, 1);
      product.narrow(range);
      const std::vector<int32_t> raw = product.raw(scalar());
      for (const Kernels* isa : isas_under_test()) {
        CAPTURE(std::string(isa->name));
        CAPTURE(range);
        CHECK(product.raw(*isa) == raw);
      }
    }
  }
}

TEST_CASE("the shapes of real layers") {
  check_product(197, 100, 192, 4, 4, CodeChoice::kRandom);
  check_product(197, 197, 64, 8, 8, CodeChoice::kRandom);
  check_product(49, 49, 32, 8, 8, CodeChoice::kRandom);
}

TEST_CASE("deep products are exact at the extreme codes and zero points") {
  // 12544 = 256 * 7 * 7 is the depth of the first box layer of Mask R-CNN.
  for (int k : {12544, kMaxDepth}) {
    for (int bits = kMinBits; bits <= kMaxBits; bits++) {
      for (int a_bits : {4, 8}) {
        for (int a_zero : {kMinZero, kMaxZero}) {
          const DeepLinear linear(k, bits, a_bits, a_zero);
          const std::vector<int64_t> values = linear.values(), raws = linear.raws();
          std::vector<float> floats;
          for (int64_t value : values) floats.push_back(static_cast<float>(value));
          for (const Kernels* isa : compiled_kernels()) {
            if (!is_supported(*isa)) continue;
            CAPTURE(std::string(isa->name));
            CAPTURE(k);
            CAPTURE(bits);
            CAPTURE(a_bits);
            CHECK(std::ranges::equal(linear.raw(*isa), raws));
            CHECK(linear.floats(*isa) == floats);
          }
        }
      }
    }
  }
}

TEST_CASE("the extremes of the deepest product reach, and stay inside, what kernels.h states") {
  constexpr int64_t kLargest = int64_t{kMaxDepth} * (kMaxZero - 0) * 255;
  static_assert(kLargest == 2'134'917'120 && kLargest < int64_t{1} << 31);
  // Row 0 holds the highest codes; row 1 and column 1 hold the lowest; z_w of column 1 is 255.
  CHECK(DeepLinear(kMaxDepth, 8, 8, kMinZero).value(0, 1) == -kLargest);
  CHECK(DeepLinear(kMaxDepth, 8, 8, kMaxZero).value(1, 1) == kLargest);
}

TEST_CASE("every epilogue with row and column tails") {
  for (int n : {1, 15, 16, 17, 31, 33, 47, 64}) {
    for (int m : {1, 6, 9, 17, 35}) {
      GuardedProduct product(m, n, 72, 6, 8, CodeChoice::kRandom, static_cast<unsigned>(n));
      GuardedProduct scaled(m, n, 72, 6, 8, CodeChoice::kRandom, static_cast<unsigned>(n));
      scaled.scale_rows();
      for (const Kernels* isa : isas_under_test()) {
        CAPTURE(std::string(isa->name));
        CAPTURE(m);
        CAPTURE(n);
        for (Epilogue e : {Epilogue::kFloat, Epilogue::kAdd}) {
          CHECK(same_bits(product.floats(*isa, e), product.floats(scalar(), e)));
          CHECK(same_bits(scaled.floats(*isa, e), scaled.floats(scalar(), e)));
        }
        CHECK(scaled.codes(*isa) == scaled.codes(scalar()));
        CHECK(scaled.act_codes(*isa, Activation::kGelu) ==
              scaled.act_codes(scalar(), Activation::kGelu));
        for (Activation type : {Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu,
                                Activation::kSilu, Activation::kRelu})
          CHECK(product.act_codes(*isa, type) == product.act_codes(scalar(), type));
        CHECK(product.codes(*isa) == product.codes(scalar()));
      }
    }
  }
}

// The codes that a row-wise kernel writes, followed by their row sums.
template <class Run>
std::vector<int> codes_of(int m, int n, Run run) {
  const int64_t stride = round_up(n, kDepthAlign) + 32;
  Guarded<uint8_t> codes(rows_of(m, stride, round_up(n, kDepthAlign)), 77);
  Guarded<int32_t> sums(static_cast<size_t>(m), -1);
  run(codes.data(), stride, sums.data());
  CHECK((codes.canary_intact() && sums.canary_intact()));
  const std::vector<uint8_t> bytes = codes.values();
  std::vector<int> all(bytes.begin(), bytes.end());
  for (int32_t sum : sums.values()) all.push_back(sum);
  return all;
}

TEST_CASE("quantize_columns and quantize_heads at every tail, alone and in groups") {
  std::mt19937 random(9);
  for (int group = 1; group <= 37; group++) {
    const int m = 3, c = 3 * group;
    const auto padded = static_cast<size_t>(round_up(c, kColumns));
    const Guarded<float> x(wild_floats(random, area(m, c)));
    const Guarded<float> weight(random_floats(random, static_cast<size_t>(c), 9));
    std::vector<float> inverse = random_floats(random, padded, 5);
    for (float& f : inverse) f = std::fabs(f) + 0.1f;
    const Guarded<float> inv_scale(std::move(inverse)), low(std::vector<float>(padded, -90.0f)),
        high(std::vector<float>(padded, 165.0f));
    const Guarded<int32_t> zero(std::vector<int32_t>(padded, 90));
    const auto codes = [&](const Kernels& k, int of) {
      Guarded<uint8_t> to(area(m, c), 77);
      k.quantize_columns({m, c, x.data(), c, of, weight.data(), 1e-12f},
                         {inv_scale.data(), low.data(), high.data(), zero.data()}, to.data(), c);
      CHECK(to.canary_intact());
      return to.values();
    };
    const auto of_heads = [&](const Kernels& k) {
      Guarded<uint8_t> to(area(m, c), 77);
      k.quantize_heads({m,
                        3,
                        group,
                        x.data(),
                        c,
                        3 + group % 6,
                        {inv_scale.data(), low.data(), high.data(), zero.data()}},
                       to.data(), c);
      CHECK(to.canary_intact());
      return to.values();
    };
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(std::string(isa->name));
      CAPTURE(group);
      for (int of : {0, group}) CHECK(codes(*isa, of) == codes(scalar(), of));
      CHECK(of_heads(*isa) == of_heads(scalar()));
    }
  }
}

// Returns all that a kernel writes to RowCodes.
template <class Run>
std::vector<float> row_codes(int m, int c, RowQuantizer q, Run run) {
  Guarded<float> scale(static_cast<size_t>(m), -1);
  Guarded<int32_t> zero(static_cast<size_t>(m), -1);
  const std::vector<int> codes = codes_of(m, c, [&](uint8_t* to, int64_t stride, int32_t* sums) {
    run(RowCodes{q, to, stride, sums, scale.data(), zero.data()});
  });
  CHECK((scale.canary_intact() && zero.canary_intact()));
  std::vector<float> all = scale.values();
  for (int32_t z : zero.values()) all.push_back(static_cast<float>(z));
  for (int code : codes) all.push_back(static_cast<float>(code));
  return all;
}

TEST_CASE("quantize_by_row and layernorm_by_row at every tail, width and activation") {
  std::mt19937 random(17);
  for (int step = 1; step <= 80; step++) {
    const int m = 5, c = step <= 70 ? step : 97 * (step - 70) + step % 3, bits = 3 + step % 6;
    const RowQuantizer q = {bits, step % 2 ? kLeastGroup : 32};
    const Guarded<float> x(random_floats(random, area(m, c), 3));
    const Guarded<float> wild(wild_floats(random, area(m, c)));
    const Guarded<float> gamma(random_floats(random, static_cast<size_t>(c), 1));
    const Guarded<float> beta(random_floats(random, static_cast<size_t>(c), 1));
    const auto quantized = [&](const Kernels& k, const float* data, const Activation* activation) {
      return row_codes(
          m, c, q, [&](const RowCodes& to) { k.quantize_by_row(data, c, m, c, activation, to); });
    };
    const auto normed = [&](const Kernels& k, const float* data) {
      return row_codes(m, c, q, [&](const RowCodes& to) {
        k.layernorm_by_row({m, c, data, c, gamma.data(), beta.data(), 1e-6f}, to);
      });
    };
    const auto activation = static_cast<Activation>(step % 5);
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(std::string(isa->name));
      CAPTURE(c);
      CAPTURE(bits);
      for (const float* data : {x.data(), wild.data()}) {
        CHECK(same_bits(quantized(*isa, data, nullptr), quantized(scalar(), data, nullptr)));
        CHECK(
            same_bits(quantized(*isa, data, &activation), quantized(scalar(), data, &activation)));
        CHECK(same_bits(normed(*isa, data), normed(scalar(), data)));
      }
    }
  }
}

TEST_CASE("quantize, layernorm and layernorm_codes at every tail") {
  std::mt19937 random(7);
  for (int c = 1; c <= 70; c++) {
    const int m = 3;
    const Guarded<float> x(random_floats(random, area(m, c), 3));
    const Guarded<float> wild(wild_floats(random, area(m, c)));
    const Guarded<float> gamma(random_floats(random, static_cast<size_t>(c), 1));
    const Guarded<float> beta(random_floats(random, static_cast<size_t>(c), 1));
    const Quantizer q = {.inv_scale = 17, .zero = 100, .max_code = 255};
    const auto quantize = [&](const Kernels& k) {
      return codes_of(m, c, [&](uint8_t* codes, int64_t stride, int32_t* sums) {
        k.quantize(wild.data(), c, m, c, q, codes, stride, sums);
      });
    };
    const auto norm_codes = [&](const Kernels& k, const float* data) {
      return codes_of(m, c, [&](uint8_t* codes, int64_t stride, int32_t* sums) {
        k.layernorm_codes({m, c, data, c, gamma.data(), beta.data(), 1e-6f}, q, codes, stride,
                          sums);
      });
    };
    const auto norm = [&](const Kernels& k) {
      Guarded<float> y(area(m, c), 5);
      k.layernorm({m, c, x.data(), c, gamma.data(), beta.data(), 1e-6f}, y.data(), c);
      CHECK(y.canary_intact());
      return y.values();
    };
    const auto norm_add = [&](const Kernels& k) {
      Guarded<float> y(x.values());
      k.layernorm({m, c, x.data(), c, gamma.data(), beta.data(), 1e-6f, y.data(), c}, y.data(), c);
      CHECK(y.canary_intact());
      return y.values();
    };
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(std::string(isa->name));
      CAPTURE(c);
      CHECK(same_bits(norm_add(*isa), norm_add(scalar())));
      CHECK(quantize(*isa) == quantize(scalar()));
      CHECK(norm_codes(*isa, x.data()) == norm_codes(scalar(), x.data()));
      CHECK(norm_codes(*isa, wild.data()) == norm_codes(scalar(), wild.data()));
      CHECK(same_bits(norm(*isa), norm(scalar())));
    }
  }
}

// The planes hi and lo, followed by their row sums.
std::vector<int> softmax(const Kernels& k, SoftmaxArgs args) {
  const int64_t stride = round_up(args.n, kDepthAlign);
  Guarded<int32_t> products(
      std::vector<int32_t>(args.products, args.products + area(args.m, args.n)));
  args.products = products.data();
  Guarded<uint8_t> hi(area(args.m, stride), 77), lo(area(args.m, stride), 77);
  Guarded<int32_t> hi_sum(static_cast<size_t>(args.m)), lo_sum(static_cast<size_t>(args.m));
  args.hi = hi.data();
  args.lo = lo.data();
  args.plane_stride = stride;
  args.hi_sum = hi_sum.data();
  args.lo_sum = lo_sum.data();
  k.softmax_codes(args);
  CHECK(products.canary_intact());
  std::vector<int> all;
  for (const Guarded<uint8_t>* plane : {&hi, &lo}) {
    CHECK(plane->canary_intact());
    for (uint8_t code : plane->values()) all.push_back(code);
  }
  for (int32_t sum : hi_sum.values()) all.push_back(sum);
  for (int32_t sum : lo_sum.values()) all.push_back(sum);
  return all;
}

TEST_CASE("softmax codes at every tail and bit width, with bias, mask and wild scores") {
  std::mt19937 random(8);
  for (int n = 1; n <= 70; n++) {
    const int m = 3, bits = 3 + n % 6;
    const float rate = n % 5 == 0 ? 1 : n % 7 == 0 ? 1.5f : 2;
    std::vector<uint16_t> entries(static_cast<size_t>((1 << bits) + 1), 0);
    for (int k = 0; k < 1 << bits; k++) {
      entries[static_cast<size_t>(k)] =
          static_cast<uint16_t>(std::lround(65535 * std::exp2(-k / double{rate})));
    }
    const Guarded<uint16_t> table(entries);
    std::vector<int32_t> products(area(m, n));
    for (int32_t& p : products) p = static_cast<int32_t>(random() % 40001) - 20000;
    std::vector<int32_t> shifts(static_cast<size_t>(n));
    for (int32_t& p : shifts) p = static_cast<int32_t>(random() % 2001) - 1000;
    const Guarded<int32_t> offset(shifts);
    const Guarded<float> wild(wild_floats(random, area(m, n)));
    const Guarded<float> bias(random_floats(random, area(m, n), 1));
    Guarded<uint8_t> region(static_cast<size_t>(n)), row_region(static_cast<size_t>(m));
    for (int j = 0; j < n; j++) region[static_cast<size_t>(j)] = static_cast<uint8_t>(random() % 3);
    SoftmaxArgs args{};
    args.m = m;
    args.n = n;
    args.products = products.data();
    args.product_stride = n;
    args.offset = offset.data();
    args.unit = 3e-4f;
    args.scale = 0.37f;
    args.bits = bits;
    args.rate = rate;
    args.table = table.data();
    SoftmaxArgs masked = args, odd = args;
    masked.bias = bias.data();
    masked.bias_stride = n;
    masked.region = region.data();
    masked.row_region = row_region.data();
    odd.bias = wild.data();
    odd.bias_stride = n;
    const StepCodes steps = {n % 2 ? 300.f : 0, 7.5f, n % 2 ? 8 : 0, 7, 205, 1 << 13,
                             n % 2 ? 1435 : 0};
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(std::string(isa->name));
      CAPTURE(n);
      for (SoftmaxArgs a : {args, masked, odd}) {
        a.steps = &steps;
        for (ProbabilityCodes codes : {ProbabilityCodes::kLog, ProbabilityCodes::kLogBySum,
                                       ProbabilityCodes::kSteps, ProbabilityCodes::kCarried}) {
          a.codes = codes;
          CHECK(softmax(*isa, a) == softmax(scalar(), a));
        }
      }
    }
  }
}

TEST_CASE("pack_rows, pack_columns, combine_planes, sum_rows and map_rows at every tail") {
  std::mt19937 random(9);
  for (int tokens : {1, 2, 15, 16, 17, 33, 49, 64, 65}) {
    for (int width : {1, 8, 16, 31, 32, 33, 64}) {
      const int bits = 3 + width % 6;
      Guarded<uint8_t> codes(area(tokens, width));
      for (size_t i = 0; i < area(tokens, width); i++) {
        codes[i] = static_cast<uint8_t>(random() & ((1u << bits) - 1));
      }
      const auto pack = [&](const Kernels& k, bool rows) {
        const int n = rows ? tokens : width, depth = rows ? width : tokens;
        Guarded<uint8_t> panels(static_cast<size_t>(pack_bytes(n, depth, 8)), 77);
        Guarded<int32_t> sums(static_cast<size_t>(round_up(n, kColumns)), -1);
        (rows ? k.pack_rows : k.pack_columns)(codes.data(), width, tokens, width, bits,
                                              panels.data(), sums.data());
        CHECK((panels.canary_intact() && sums.canary_intact()));
        const std::vector<uint8_t> bytes = panels.values();
        std::vector<int> all(bytes.begin(), bytes.end());
        for (int32_t sum : sums.values()) all.push_back(sum);
        return all;
      };
      std::vector<int32_t> integers(area(tokens, width) * 2 + area(tokens, 2));
      for (int32_t& i : integers) i = static_cast<int32_t>(random() % 2000001) - 1000000;
      const Guarded<int32_t> planes(integers);
      std::vector<float> units(static_cast<size_t>(tokens));
      for (size_t i = 0; i < units.size(); i++) units[i] = 1e-3f / static_cast<float>(i + 1);
      const Guarded<float> scales(units);
      const auto combine = [&](const Kernels& k) {
        Guarded<uint8_t> y(area(tokens, width), 3);
        const int32_t* sums = planes.data() + 2 * area(tokens, width);
        const Quantizer q = {.inv_scale = 1e-3f, .zero = 100, .max_code = 255};
        k.combine_planes(planes.data(), planes.data() + area(tokens, width), width, sums,
                         sums + tokens, -7, scales.data(), tokens, width, q, y.data(), width);
        CHECK(y.canary_intact());
        return y.values();
      };
      const auto summed = [&](const Kernels& k, bool two = true) {
        Guarded<float> y(area(tokens, width), 3);
        const int32_t* sums = planes.data() + 2 * area(tokens, width);
        k.sum_planes(planes.data(), two ? planes.data() + area(tokens, width) : nullptr, width,
                     sums, two ? sums + tokens : nullptr, -7, scales.data(), tokens, width,
                     y.data(), width);
        CHECK(y.canary_intact());
        return y.values();
      };
      const auto row_sums = [&](const Kernels& k) {
        Guarded<int32_t> sums(static_cast<size_t>(tokens), -1);
        k.sum_rows(codes.data(), width, tokens, width, sums.data());
        CHECK(sums.canary_intact());
        return sums.values();
      };
      uint8_t table[256];
      for (uint8_t& entry : table) entry = static_cast<uint8_t>(random());
      const auto mapped = [&](const Kernels& k) {
        const int stride = round_up(width, kDepthAlign);
        Guarded<uint8_t> y(area(tokens, stride));
        for (size_t i = 0; i < area(tokens, stride); i++) y[i] = static_cast<uint8_t>(37 * i);
        Guarded<int32_t> sums(static_cast<size_t>(tokens), -1);
        k.map_rows(table, tokens, width, y.data(), stride, sums.data());
        CHECK((y.canary_intact() && sums.canary_intact()));
        const std::vector<uint8_t> bytes = y.values();
        std::vector<int> all(bytes.begin(), bytes.end());
        for (int32_t sum : sums.values()) all.push_back(sum);
        return all;
      };
      for (const Kernels* isa : isas_under_test()) {
        CAPTURE(std::string(isa->name));
        CHECK(mapped(*isa) == mapped(scalar()));
        CHECK(pack(*isa, true) == pack(scalar(), true));
        CHECK(pack(*isa, false) == pack(scalar(), false));
        CHECK(combine(*isa) == combine(scalar()));
        CHECK(same_bits(summed(*isa), summed(scalar())));
        CHECK(same_bits(summed(*isa, false), summed(scalar(), false)));
        if (width % kDepthAlign == 0) CHECK(row_sums(*isa) == row_sums(scalar()));
      }
    }
  }
}

constexpr Activation kActivations[] = {Activation::kGelu, Activation::kGeluTanh,
                                       Activation::kQuickGelu, Activation::kSilu,
                                       Activation::kRelu};

TEST_CASE("exp and activations return the same bits everywhere") {
  std::mt19937 random(10);
  const Guarded<float> x(wild_floats(random, 100003));
  for (const Kernels* isa : isas_under_test()) {
    CAPTURE(std::string(isa->name));
    const auto apply = [&](auto function) {
      Guarded<float> y(100003);
      function(y.data());
      return y.values();
    };
    const auto exp = [&](const Kernels& k) {
      return apply([&](float* y) { k.exp(x.data(), 100003, y); });
    };
    CHECK(same_bits(exp(*isa), exp(scalar())));
    for (Activation type : kActivations) {
      const auto activate = [&](const Kernels& k) {
        return apply([&](float* y) { k.activate(type, x.data(), 100003, y); });
      };
      CHECK(same_bits(activate(*isa), activate(scalar())));
    }
  }
}

}  // namespace
}  // namespace vitrun
