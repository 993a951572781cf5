// vitbench ops times the row-wise kernels at the sizes of DeiT-S and prints their share of an
// image, which has 12 blocks of 6 heads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>

#include "bench/vitbench/vitbench.h"
#include "kernels/pack.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

constexpr int kTokens = 197, kWidth = 384, kHidden = 1536, kHeadDim = 64;
constexpr int kBlocks = 12, kHeads = 6;
constexpr int kStride = 224;  // bytes from row to row of kTokens codes

// Buffers large enough for every op, filled with ordinary values.
struct Buffers {
  std::vector<float> x, y, gamma, beta, terms;
  std::vector<uint8_t> codes, lo, panels;
  std::vector<int32_t> sums, hi_sums, lo_sums, ints;
  std::vector<uint16_t> table;

  Buffers()
      : x(kTokens * kHidden),
        y(kTokens * kHidden),
        gamma(kHidden, 1),
        beta(kHidden, 0.1f),
        terms(kHidden, 0.01f),
        codes(kTokens * kHidden),
        lo(kTokens * kStride),
        panels(static_cast<size_t>(pack_bytes(kTokens, kStride, 8)) + 64),
        sums(kHidden),
        hi_sums(kHidden),
        lo_sums(kHidden),
        ints(kTokens * kStride),
        table(257, 0) {
    std::mt19937 random(1);
    std::normal_distribution<float> draw(0, 1);
    for (float& v : x) v = draw(random);
    for (size_t k = 0; k < 256; k++) {
      table[k] =
          static_cast<uint16_t>(std::lround(65535 * std::exp2(-0.5 * static_cast<double>(k))));
    }
  }
  RowCodes row_codes(int bits, int columns) {
    return {{bits, 32}, codes.data(), columns, sums.data(), terms.data(), lo_sums.data()};
  }
  uint8_t* aligned_panels() {
    return panels.data() + (64 - reinterpret_cast<uintptr_t>(panels.data()) % 64) % 64;
  }
};

struct Op {
  const char* name;
  int calls;  // per image of DeiT-S
  std::function<void(const Kernels&, Buffers&)> run;
};

constexpr Quantizer kCodes = {.inv_scale = 30, .zero = 128, .max_code = 255};

void run_softmax(const Kernels& k, Buffers& b, ProbabilityCodes codes) {
  SoftmaxArgs args{};
  args.m = args.n = kTokens;
  args.products = b.ints.data();
  args.product_stride = kStride;
  args.offset = b.sums.data();
  args.unit = 1e-7f;
  args.codes = codes;
  args.scale = 1;
  args.bits = 8;
  args.rate = 2;
  args.table = b.table.data();
  args.hi = b.codes.data();
  args.lo = b.lo.data();
  args.plane_stride = kStride;
  args.hi_sum = b.hi_sums.data();
  args.lo_sum = b.lo_sums.data();
  k.softmax_codes(args);
}

// int32 [m, n] = codes [m, k] times packed columns [n, k], as QK^T and attention times V are.
void run_product(const Kernels& kernels, Buffers& b, int n, int k) {
  GemmArgs g{};
  g.m = kTokens;
  g.n = n;
  g.k = k;
  g.a = b.codes.data();
  g.a_stride = round_up(k, kDepthAlign);
  g.panels = b.aligned_panels();
  g.bits = g.a_bits = 8;
  g.epilogue = Epilogue::kInt32;
  g.raw = b.ints.data();
  g.raw_stride = round_up(n, kColumns);
  kernels.gemm(g);
}

const Op kOps[] = {
    {"layernorm_codes 197x384", 0,  // runs for calibrated ranges
     [](const Kernels& k, Buffers& b) {
       k.layernorm_codes(
           {kTokens, kWidth, b.x.data(), kWidth, b.gamma.data(), b.beta.data(), 1e-6f}, kCodes,
           b.codes.data(), kWidth, b.sums.data());
     }},
    {"quantize 197x384", 0,  // runs for calibrated ranges
     [](const Kernels& k, Buffers& b) {
       k.quantize(b.x.data(), kWidth, kTokens, kWidth, kCodes, b.codes.data(), kWidth,
                  b.sums.data());
     }},
    {"layernorm_by_row 197x384", 2 * kBlocks,
     [](const Kernels& k, Buffers& b) {
       k.layernorm_by_row(
           {kTokens, kWidth, b.x.data(), kWidth, b.gamma.data(), b.beta.data(), 1e-6f},
           b.row_codes(8, kWidth));
     }},
    {"gelu, quantize_by_row 197x1536", kBlocks,
     [](const Kernels& k, Buffers& b) {
       const Activation gelu = Activation::kGelu;
       k.quantize_by_row(b.x.data(), kHidden, kTokens, kHidden, &gelu, b.row_codes(8, kHidden));
     }},
    {"the same in groups of 32, 4 bits", 0,
     [](const Kernels& k, Buffers& b) {
       const Activation gelu = Activation::kGelu;
       k.quantize_by_row(b.x.data(), kHidden, kTokens, kHidden, &gelu, b.row_codes(4, kHidden));
     }},
    {"map_rows 197x1536 (levels)", 0,  // runs for activations of fewer than 8 bits
     [](const Kernels& k, Buffers& b) {
       k.map_rows(b.lo.data(), kTokens, kHidden, b.codes.data(), kHidden, b.sums.data());
     }},
    {"pack_rows K 197x64", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) {
       k.pack_rows(b.codes.data(), 3 * kWidth, kTokens, kHeadDim, 8, b.aligned_panels(),
                   b.sums.data());
     }},
    {"pack_columns V 197x64", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) {
       k.pack_columns(b.codes.data(), 3 * kWidth, kTokens, kHeadDim, 8, b.aligned_panels(),
                      b.sums.data());
     }},
    {"softmax_codes 197x197", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) { run_softmax(k, b, ProbabilityCodes::kCarried); }},
    {"the same in log codes", 0,  // runs for activations of fewer than 8 bits
     [](const Kernels& k, Buffers& b) { run_softmax(k, b, ProbabilityCodes::kLogBySum); }},
    {"QK^T 197x197x64", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) { run_product(k, b, kTokens, kHeadDim); }},
    {"one plane x V 197x64x197", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) { run_product(k, b, kHeadDim, kTokens); }},
    {"combine_planes 197x64", 0,  // runs for calibrated ranges
     [](const Kernels& k, Buffers& b) {
       k.combine_planes(b.ints.data(), b.ints.data() + kTokens * kHeadDim, kHeadDim, b.sums.data(),
                        b.lo_sums.data(), 3, b.terms.data(), kTokens, kHeadDim, kCodes,
                        b.codes.data(), kWidth);
     }},
    {"sum_planes 197x64", kBlocks* kHeads,
     [](const Kernels& k, Buffers& b) {
       k.sum_planes(b.ints.data(), nullptr, kHeadDim, b.sums.data(), nullptr, 3, b.terms.data(),
                    kTokens, kHeadDim, b.y.data(), kWidth);
     }},
    {"quantize_by_row 197x384", kBlocks,
     [](const Kernels& k, Buffers& b) {
       k.quantize_by_row(b.x.data(), kWidth, kTokens, kWidth, nullptr, b.row_codes(8, kWidth));
     }},
    {"gelu 197x1536", 0,
     [](const Kernels& k, Buffers& b) {
       k.activate(Activation::kGelu, b.x.data(), kTokens * kHidden, b.y.data());
     }},
    {"quick gelu 197x1536", 0,
     [](const Kernels& k, Buffers& b) {
       k.activate(Activation::kQuickGelu, b.x.data(), kTokens * kHidden, b.y.data());
     }},
    {"exp 197x1536", 0,
     [](const Kernels& k, Buffers& b) { k.exp(b.x.data(), kTokens * kHidden, b.y.data()); }},
};

void print_op(const BenchOptions& options, const Kernels& kernels, const Op& op,
              std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2], best = times.front();
  if (options.json) {
    std::printf(
        "{\"bench\":\"ops\",\"isa\":\"%s\",\"op\":\"%s\",\"ns_median\":%.0f,\"ns_min\":%.0f,"
        "\"calls_deit_s\":%d}\n",
        kernels.name, op.name, median * 1e9, best * 1e9, op.calls);
  } else {
    std::printf("%-11s %-26s %8.2f us   min %8.2f us   x %3d = %6.3f ms\n", kernels.name, op.name,
                median * 1e6, best * 1e6, op.calls, median * 1e3 * op.calls);
  }
}

}  // namespace

int bench_ops(const BenchOptions& options) {
  Buffers buffers;
  const std::vector<const Kernels*> isas = selected_isas(options);
  for (const Op& op : kOps) {
    std::vector<std::vector<double>> times(isas.size());
    for (int r = 0; r < options.repetitions; r++) {
      for (size_t i = 0; i < isas.size(); i++) {
        op.run(*isas[i], buffers);
        const double start = now_seconds();
        op.run(*isas[i], buffers);
        times[i].push_back(now_seconds() - start);
      }
    }
    for (size_t i = 0; i < isas.size(); i++) print_op(options, *isas[i], op, times[i]);
  }
  return 0;
}

}  // namespace vitrun
