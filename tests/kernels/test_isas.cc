// Every ISA this CPU runs against the scalar table, bit for bit, in buffers that end at unmapped
// pages.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "tests/runtime/integer/guarded.h"

namespace vitrun {
namespace {

std::vector<const Kernels*> isas_under_test() {
  std::vector<const Kernels*> isas;
  for (const Kernels* k : compiled_kernels()) {
    if (is_supported(*k) && std::string(k->name) != "scalar") isas.push_back(k);
  }
  return isas;
}

const Kernels& scalar() {
  return *find_kernels("scalar");
}

size_t area(int64_t rows, int64_t stride) {
  return static_cast<size_t>(rows * stride);
}

// The last row needs only its own `used` elements.
size_t rows_of(int64_t rows, int64_t stride, int64_t used) {
  return area(rows - 1, stride) + static_cast<size_t>(used);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;  // a NaN's payload is nobody's business
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
  }
  return true;
}

std::vector<float> random_floats(std::mt19937& random, size_t count, float deviation) {
  std::normal_distribution<float> draw(0, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}

// Ordinary values with infinities, NaN, zeros and huge and tiny numbers strewn in.
std::vector<float> wild_floats(std::mt19937& random, size_t count) {
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

enum class Codes { kRandom, kHighest, kLowest };

// One product in guarded buffers, with every epilogue.
class Product {
 public:
  Product(int m, int n, int k, int bits, int a_bits, Codes kind, unsigned seed)
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
        residual_(random_floats(random_, area(m, n), 1)) {
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

  // Bytes of -2^(range - 1) and 2^(range - 1) - 1 for weights, as pack_rows() gives for few bits.
  void narrow(int range) {
    for (size_t i = 0; i < static_cast<size_t>(pack_bytes(n_, args_.k, 8)); i++) {
      const int code = i % 5 ? -(1 << (range - 1)) : (1 << (range - 1)) - 1;
      panels_[i] = static_cast<uint8_t>(code);
    }
    args_.range_bits = range;
  }

  std::vector<int32_t> raw(const Kernels& kernels) {
    Guarded<int32_t> out(area(m_, n_), 12345);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kInt32;
    args.scale = args.bias = nullptr;  // not to be read
    args.offset = args.zero = args.row_sum = nullptr;
    args.raw = out.data();
    args.raw_stride = n_;
    kernels.gemm(args);
    CHECK(out.canary_intact());
    return out.values();
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

  // Codes by a quantizer for each column; a row ends where the next begins.
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

  // The codes, then their row sums.
  std::vector<int> gelu_codes(const Kernels& kernels) {
    const int64_t stride = round_up(n_, kDepthAlign);
    Guarded<uint8_t> out(area(m_, stride), 77);
    Guarded<int32_t> sums(static_cast<size_t>(m_), -1);
    GemmArgs args = args_;
    args.epilogue = Epilogue::kGeluCodes;
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

  // Highest: products of the largest magnitude and the same sign, where int16 sums would overflow.
  uint8_t pick(Codes kind, int bits, bool weight) {
    const int top = (1 << bits) - 1;
    if (kind == Codes::kRandom) return static_cast<uint8_t>(static_cast<int>(random_()) & top);
    return static_cast<uint8_t>(weight && kind == Codes::kLowest ? 0 : top);
  }

  int m_, n_;
  int64_t stride_;
  std::mt19937 random_;
  Guarded<uint8_t> a_, panels_;
  Guarded<int32_t> row_sum_, offset_, zero_;
  Guarded<float> scale_, bias_, residual_;
  GemmArgs args_;
};

void check_product(int m, int n, int k, int bits, int a_bits, Codes kind) {
  Product product(m, n, k, bits, a_bits, kind, static_cast<unsigned>(m * 31 + n * 7 + k + bits));
  const std::vector<int32_t> raw = product.raw(scalar());
  for (const Kernels* isa : isas_under_test()) {
    const bool same = product.raw(*isa) == raw;
    if (!same) FAIL_CHECK(isa->name, " m ", m, " n ", n, " k ", k, " W", bits, "A", a_bits);
  }
}

TEST_CASE("every row count up to two tiles and one, every bit width") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (int m = 1; m <= 65; m++) check_product(m, 48, 64, bits, 8, Codes::kRandom);
  }
}

TEST_CASE("every column count up to three panels, every depth tail") {
  for (int n = 1; n <= 49; n++) check_product(5, n, 40, 4 + n % 5, 8, Codes::kRandom);
  for (int k = 1; k <= 100; k++) check_product(5, 20, k, 3 + k % 6, 8, Codes::kRandom);
}

TEST_CASE("every weight and activation width at the extremes, deep enough to overflow int16") {
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    for (int a_bits = 1; a_bits <= 8; a_bits++) {
      for (Codes kind : {Codes::kRandom, Codes::kHighest, Codes::kLowest}) {
        check_product(7, 17, 1056, bits, a_bits, kind);
      }
    }
  }
}

TEST_CASE("a narrower range of the weights than their storage") {
  for (int range = 2; range <= 8; range++) {
    for (int a_bits : {4, 8}) {
      Product product(7, 17, 1056, 8, a_bits, Codes::kHighest, 1);
      product.narrow(range);
      const std::vector<int32_t> raw = product.raw(scalar());
      for (const Kernels* isa : isas_under_test()) {
        CAPTURE(isa->name);
        CAPTURE(range);
        CHECK(product.raw(*isa) == raw);
      }
    }
  }
}

TEST_CASE("the largest depth, and the shapes of real layers") {
  for (Codes kind : {Codes::kHighest, Codes::kLowest}) {
    check_product(3, 16, kMaxDepth, 8, 8, kind);
    check_product(3, 16, kMaxDepth, 4, 4, kind);
  }
  check_product(197, 100, 192, 4, 4, Codes::kRandom);
  check_product(197, 197, 64, 8, 8, Codes::kRandom);
  check_product(49, 49, 32, 8, 8, Codes::kRandom);
}

TEST_CASE("every epilogue with row and column tails") {
  for (int n : {1, 15, 16, 17, 31, 33, 47, 64}) {
    for (int m : {1, 6, 9, 17, 35}) {
      Product product(m, n, 72, 6, 8, Codes::kRandom, static_cast<unsigned>(n));
      for (const Kernels* isa : isas_under_test()) {
        CAPTURE(isa->name);
        CAPTURE(m);
        CAPTURE(n);
        for (Epilogue e : {Epilogue::kFloat, Epilogue::kAdd}) {
          CHECK(same_bits(product.floats(*isa, e), product.floats(scalar(), e)));
        }
        CHECK(product.gelu_codes(*isa) == product.gelu_codes(scalar()));
        CHECK(product.codes(*isa) == product.codes(scalar()));
      }
    }
  }
}

// Codes and sums of a row-wise kernel as one vector.
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
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(isa->name);
      CAPTURE(c);
      CHECK(quantize(*isa) == quantize(scalar()));
      CHECK(norm_codes(*isa, x.data()) == norm_codes(scalar(), x.data()));
      CHECK(norm_codes(*isa, wild.data()) == norm_codes(scalar(), wild.data()));
      CHECK(same_bits(norm(*isa), norm(scalar())));
    }
  }
}

// Both planes and their sums.
std::vector<int> softmax(const Kernels& k, SoftmaxArgs args) {
  const int64_t stride = round_up(args.n, kDepthAlign);
  Guarded<uint8_t> hi(area(args.m, stride), 77), lo(area(args.m, stride), 77);
  Guarded<int32_t> hi_sum(static_cast<size_t>(args.m)), lo_sum(static_cast<size_t>(args.m));
  args.hi = hi.data();
  args.lo = lo.data();
  args.plane_stride = stride;
  args.hi_sum = hi_sum.data();
  args.lo_sum = lo_sum.data();
  k.softmax_codes(args);
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
    const Guarded<float> scores(random_floats(random, area(m, n), 3));
    const Guarded<float> wild(wild_floats(random, area(m, n)));
    const Guarded<float> bias(random_floats(random, area(m, n), 1));
    Guarded<uint8_t> region(static_cast<size_t>(n)), row_region(static_cast<size_t>(m));
    for (int j = 0; j < n; j++) region[static_cast<size_t>(j)] = static_cast<uint8_t>(random() % 3);
    SoftmaxArgs args{};
    args.m = m;
    args.n = n;
    args.scores = scores.data();
    args.score_stride = n;
    args.scale = 0.37f;
    args.bits = bits;
    args.rate = rate;
    args.table = table.data();
    SoftmaxArgs masked = args, odd = args;
    masked.bias = bias.data();
    masked.bias_stride = n;
    masked.region = region.data();
    masked.row_region = row_region.data();
    odd.scores = wild.data();
    const StepCodes steps = {n % 2 ? 300.f : 0, 7.5f, n % 2 ? 8 : 0, 7, 205, 1 << 13,
                             n % 2 ? 1435 : 0};
    SoftmaxArgs stepped = masked, odd_steps = odd;
    stepped.steps = odd_steps.steps = &steps;
    for (const Kernels* isa : isas_under_test()) {
      CAPTURE(isa->name);
      CAPTURE(n);
      for (const SoftmaxArgs& a : {args, masked, odd, stepped, odd_steps})
        CHECK(softmax(*isa, a) == softmax(scalar(), a));
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
      const auto combine = [&](const Kernels& k) {
        Guarded<uint8_t> y(area(tokens, width), 3);
        const int32_t* sums = planes.data() + 2 * area(tokens, width);
        const Quantizer q = {.inv_scale = 1e-3f, .zero = 100, .max_code = 255};
        k.combine_planes(planes.data(), planes.data() + area(tokens, width), width, sums,
                         sums + tokens, -7, 1e-3f, tokens, width, q, y.data(), width);
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
        CAPTURE(isa->name);
        CHECK(mapped(*isa) == mapped(scalar()));
        CHECK(pack(*isa, true) == pack(scalar(), true));
        CHECK(pack(*isa, false) == pack(scalar(), false));
        CHECK(combine(*isa) == combine(scalar()));
        if (width % kDepthAlign == 0) CHECK(row_sums(*isa) == row_sums(scalar()));
      }
    }
  }
}

TEST_CASE("exp and gelu return the same bits everywhere") {
  std::mt19937 random(10);
  const Guarded<float> x(wild_floats(random, 100003));
  for (const Kernels* isa : isas_under_test()) {
    CAPTURE(isa->name);
    for (auto function : {&Kernels::exp, &Kernels::gelu}) {
      const auto apply = [&](const Kernels& k) {
        Guarded<float> y(100003);
        (k.*function)(x.data(), 100003, y.data());
        return y.values();
      };
      CHECK(same_bits(apply(*isa), apply(scalar())));
    }
  }
}

}  // namespace
}  // namespace vitrun
