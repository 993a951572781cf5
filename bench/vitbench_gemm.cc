// vitbench gemm: time of each ISA x weight bits x activation bits on the products of real models.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "bench/vitbench.h"
#include "kernels/pack.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

struct Shape {
  const char* name;
  int m, k, n;
};

constexpr Shape kShapes[] = {
    {"DeiT-S qkv", 197, 384, 1152},        {"DeiT-S proj", 197, 384, 384},
    {"DeiT-S fc1", 197, 384, 1536},        {"DeiT-S fc2", 197, 1536, 384},
    {"DeiT-T fc1", 197, 192, 768},         {"DeiT-B fc1", 197, 768, 3072},
    {"DeiT-B fc2", 197, 3072, 768},        {"Swin-T stage1 fc1", 3136, 96, 384},
    {"Swin-T stage3 fc2", 196, 1536, 384},
};

constexpr struct { int weight, activation; } kBits[] = {{8, 8}, {6, 8}, {4, 8}, {6, 6}, {4, 4}};

uint8_t random_code(std::mt19937& random, int bits) {
  return static_cast<uint8_t>(random() & ((1u << bits) - 1));
}

// One product with its buffers; random codes over their full range.
class Product {
 public:
  Product(const Shape& shape, int bits, int a_bits) : shape_(shape) {
    std::mt19937 random(1);
    const size_t depth = static_cast<size_t>(round_up(shape.k, kDepthAlign));
    const size_t m = static_cast<size_t>(shape.m), n = static_cast<size_t>(shape.n);
    const size_t columns = static_cast<size_t>(round_up(shape.n, kColumns));
    a_.resize(m * depth);
    for (size_t i = 0; i < a_.size(); i++) {
      if (i % depth < static_cast<size_t>(shape.k)) a_[i] = random_code(random, a_bits);
    }
    std::vector<uint8_t> codes(n * static_cast<size_t>(shape.k));
    for (uint8_t& c : codes) c = random_code(random, bits);
    panels_.resize(static_cast<size_t>(pack_bytes(shape.n, shape.k, bits)) + 64);
    uint8_t* aligned =
        panels_.data() + (64 - reinterpret_cast<uintptr_t>(panels_.data()) % 64) % 64;
    pack_codes(codes.data(), shape.n, shape.k, bits, aligned);
    row_sum_.assign(m, 1000);
    terms_.assign(columns, 3);
    floats_.assign(columns, 0.01f);
    y_.resize(m * n);
    args_ = {};
    args_.m = shape.m;
    args_.n = shape.n;
    args_.k = shape.k;
    args_.a = a_.data();
    args_.a_stride = static_cast<int64_t>(depth);
    args_.row_sum = row_sum_.data();
    args_.panels = aligned;
    args_.bits = bits;
    args_.a_bits = a_bits;
    args_.scale = args_.bias = floats_.data();
    args_.offset = args_.zero = terms_.data();
    args_.epilogue = Epilogue::kFloat;
    args_.y = y_.data();
    args_.y_stride = shape.n;
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  double operations() const { return 2.0 * shape_.m * shape_.n * shape_.k; }
  std::vector<float> result(const Kernels& kernels) {
    std::fill(y_.begin(), y_.end(), -1.0f);
    kernels.gemm(args_);
    return y_;
  }
  double seconds(const Kernels& kernels) {
    const double start = now_seconds();
    kernels.gemm(args_);
    return now_seconds() - start;
  }

 private:
  Shape shape_;
  std::vector<uint8_t> a_, panels_;
  std::vector<int32_t> row_sum_, terms_;
  std::vector<float> floats_, y_;
  GemmArgs args_;
};

struct Peaks {
  double shorts, exact, wide;

  // The one that bounds a product of these widths (kernels/gemm_pairs-inl.h).
  double of(int bits, int a_bits) const {
    if (bits == 8 && a_bits == 8) return wide;
    return bits + a_bits == 15 ? exact : shorts;
  }
};

Peaks peaks_of(const std::string& isa) {
  return {measure_peak(isa, PeakKind::kShort), measure_peak(isa, PeakKind::kExact),
          measure_peak(isa, PeakKind::kWide)};
}

void print_row(const BenchOptions& options, const Shape& s, const Kernels& kernels, int bits,
               int a_bits, double operations, std::vector<double>& times, const Peaks& peaks) {
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2], rate = operations / median;
  const double best = operations / times.front();
  const double peak = peaks.of(bits, a_bits);
  const double share = peak > 0 ? rate / peak * 100 : 0;
  const double best_share = peak > 0 ? best / peak * 100 : 0;
  if (options.json) {
    std::printf(
        "{\"bench\":\"gemm\",\"isa\":\"%s\",\"shape\":\"%s\",\"m\":%d,\"k\":%d,\"n\":%d,"
        "\"weight_bits\":%d,\"activation_bits\":%d,\"ns_median\":%.0f,\"ns_min\":%.0f,"
        "\"gops_median\":%.1f,\"gops_max\":%.1f,\"peak_gops\":%.1f}\n",
        kernels.name, s.name, s.m, s.k, s.n, bits, a_bits, median * 1e9, times.front() * 1e9,
        rate / 1e9, best / 1e9, peak / 1e9);
  } else {
    std::printf(
        "%-11s %-18s %4dx%4dx%4d W%dA%d %9.1f us %7.1f GOP/s %5.1f %%   best %7.1f GOP/s %5.1f "
        "%%\n",
        kernels.name, s.name, s.m, s.k, s.n, bits, a_bits, median * 1e6, rate / 1e9, share,
        best / 1e9, best_share);
  }
}

// All ISAs and bit widths of one shape, their repetitions interleaved.
bool bench_shape(const BenchOptions& options, const Shape& shape,
                 const std::vector<const Kernels*>& isas,
                 const std::map<std::string, Peaks>& peaks) {
  const Kernels& scalar = *find_kernels("scalar");
  std::vector<std::unique_ptr<Product>> products;
  for (const auto& b : kBits) {
    products.push_back(std::make_unique<Product>(shape, b.weight, b.activation));
    const std::vector<float> want = products.back()->result(scalar);
    for (const Kernels* isa : isas) {
      if (products.back()->result(*isa) == want) continue;
      std::fprintf(stderr, "%s differs from scalar on %s W%dA%d\n", isa->name, shape.name, b.weight,
                   b.activation);
      return false;
    }
  }
  std::vector<std::vector<double>> times(isas.size() * products.size());
  for (int r = 0; r < options.repetitions; r++) {
    for (size_t i = 0; i < times.size(); i++) {
      const Kernels& isa = *isas[i / products.size()];
      Product& product = *products[i % products.size()];
      product.seconds(isa);  // warm: the caches hold this product
      times[i].push_back(product.seconds(isa));
    }
  }
  for (size_t i = 0; i < times.size(); i++) {
    const Kernels& isa = *isas[i / products.size()];
    const auto& b = kBits[i % products.size()];
    print_row(options, shape, isa, b.weight, b.activation, products[0]->operations(), times[i],
              peaks.at(isa.name));
  }
  return true;
}

}  // namespace

std::vector<const Kernels*> selected_isas(const BenchOptions& options) {
  std::vector<const Kernels*> isas;
  for (const Kernels* kernels : compiled_kernels()) {
    const std::string name = kernels->name;
    const bool named =
        std::find(options.isas.begin(), options.isas.end(), name) != options.isas.end();
    if (is_supported(*kernels) && (named || (options.isas.empty() && name != "scalar"))) {
      isas.push_back(kernels);
    }
  }
  return isas;
}

int bench_gemm(const BenchOptions& options) {
  const std::vector<const Kernels*> isas = selected_isas(options);
  std::map<std::string, Peaks> peaks;
  for (const Kernels* kernels : isas) {
    const Peaks& p = peaks[kernels->name] = peaks_of(kernels->name);
    if (options.json) continue;
    std::printf("%-11s peaks: W8A8 %.1f, W8A7 and W7A8 %.1f, fewer bits %.1f GOP/s\n",
                kernels->name, p.wide / 1e9, p.exact / 1e9, p.shorts / 1e9);
  }
  if (!options.json) {
    std::printf("%% is of the peak for these widths; one thread, median and best of %d\n",
                options.repetitions);
  }
  for (const Shape& shape : kShapes) {
    if (!bench_shape(options, shape, isas, peaks)) return 1;
  }
  return 0;
}

}  // namespace vitrun
