// vitbench gemm times the matrix products of real models at each ISA, weight width and activation
// width.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "bench/vitbench/product.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

constexpr Shape kShapes[] = {
    {"DeiT-S qkv", 197, 384, 1152},        {"DeiT-S proj", 197, 384, 384},
    {"DeiT-S fc1", 197, 384, 1536},        {"DeiT-S fc2", 197, 1536, 384},
    {"DeiT-T fc1", 197, 192, 768},         {"DeiT-B fc1", 197, 768, 3072},
    {"DeiT-B fc2", 197, 3072, 768},        {"Swin-T stage1 fc1", 3136, 96, 384},
    {"Swin-T stage3 fc2", 196, 1536, 384},
};

constexpr struct { int weight, activation; } kBits[] = {{8, 8}, {6, 8}, {4, 8}, {6, 6}, {4, 4}};

// The instructions that a product of these widths is made of (kernels/shared/gemm_pairs-inl.h).
PeakKind peak_kind(int bits, int a_bits) {
  if (bits == 8 && a_bits == 8) return PeakKind::kWide;
  return bits + a_bits == 15 ? PeakKind::kExact : PeakKind::kShort;
}

// The repetitions of one product on one ISA, each with a sample of the peak rate just before it.
struct Samples {
  std::vector<double> seconds, peak, share;  // share: of the peak that was sampled with it

  void take(Product& product, const Kernels& isa, PeakKind kind) {
    product.seconds(isa);  // brings the product into the caches
    peak.push_back(sample_peak(isa.name, kind));
    seconds.push_back(product.seconds(isa));
    share.push_back(peak.back() > 0 ? product.operations() / seconds.back() / peak.back() : 0);
  }
};

void print_row(const BenchOptions& options, const Shape& s, const Kernels& kernels, int bits,
               int a_bits, double operations, const Samples& samples) {
  const double time = median(samples.seconds), rate = operations / time;
  const double least = *std::min_element(samples.seconds.begin(), samples.seconds.end());
  const double peak = median(samples.peak), share = median(samples.share);
  if (options.json) {
    std::printf(
        "{\"bench\":\"gemm\",\"isa\":\"%s\",\"shape\":\"%s\",\"m\":%d,\"k\":%d,\"n\":%d,"
        "\"weight_bits\":%d,\"activation_bits\":%d,\"ns_median\":%.0f,\"ns_min\":%.0f,"
        "\"gops_median\":%.1f,\"gops_max\":%.1f,\"peak_gops\":%.1f,\"share_of_peak\":%.4f}\n",
        kernels.name, s.name, s.m, s.k, s.n, bits, a_bits, time * 1e9, least * 1e9, rate / 1e9,
        operations / least / 1e9, peak / 1e9, share);
  } else {
    std::printf(
        "%-11s %-18s %4dx%4dx%4d W%dA%d %9.1f us %7.1f GOP/s %5.1f %% of %7.1f   best %7.1f\n",
        kernels.name, s.name, s.m, s.k, s.n, bits, a_bits, time * 1e6, rate / 1e9, share * 100,
        peak / 1e9, operations / least / 1e9);
  }
}

// Times one shape at all ISAs and bit widths, which take turns.
bool bench_shape(const BenchOptions& options, const Shape& shape,
                 const std::vector<const Kernels*>& isas) {
  const Kernels& scalar = *find_kernels("scalar");
  std::vector<std::unique_ptr<Product>> products;
  for (const auto& b : kBits) {
    products.push_back(std::make_unique<Product>(shape, Widths{b.weight, b.activation}));
    const std::vector<float> want = products.back()->result(scalar);
    for (const Kernels* isa : isas) {
      if (products.back()->result(*isa) == want) continue;
      std::fprintf(stderr, "%s differs from scalar on %s W%dA%d\n", isa->name, shape.name, b.weight,
                   b.activation);
      return false;
    }
  }
  std::vector<Samples> samples(isas.size() * products.size());
  for (int r = 0; r < options.repetitions; r++) {
    for (size_t i = 0; i < samples.size(); i++) {
      const auto& b = kBits[i % products.size()];
      samples[i].take(*products[i % products.size()], *isas[i / products.size()],
                      peak_kind(b.weight, b.activation));
    }
  }
  for (size_t i = 0; i < samples.size(); i++) {
    const auto& b = kBits[i % products.size()];
    print_row(options, shape, *isas[i / products.size()], b.weight, b.activation,
              products[0]->operations(), samples[i]);
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
  if (!options.json) {
    std::printf(
        "One thread, medians of %d; %% of the ISA's peak for these widths, sampled beside "
        "each run.\n",
        options.repetitions);
  }
  for (const Shape& shape : kShapes) {
    if (!bench_shape(options, shape, isas)) return 1;
  }
  return 0;
}

}  // namespace vitrun
