// vitbench chain times the 48 Linears of DeiT-S with their epilogues, at every ISA and bit width
// and, with --peers, in other libraries. All of them take turns on one thread.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>

#include "bench/vitbench/chain.h"
#include "bench/vitbench/vitbench.h"
#include "kernels/pack.h"

namespace vitrun {
namespace {

constexpr struct { int weight, activation; } kWidths[] = {{8, 8}, {6, 8}, {4, 8}, {4, 4}};

// Packed random weights of all Linears at one bit width.
class Weights {
 public:
  explicit Weights(int bits) {
    std::mt19937 random(1);
    for (int block = 0; block < kChainBlocks; block++) {
      for (const ChainLinear& s : kChainBlock) {
        auto& bytes = panels_.emplace_back(static_cast<size_t>(pack_bytes(s.n, s.k, bits)) + 64);
        for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
      }
    }
  }
  const uint8_t* panels(size_t i) const {
    const uint8_t* p = panels_[i].data();
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64;
  }
  size_t size() const { return panels_.size(); }

 private:
  std::vector<std::vector<uint8_t>> panels_;
};

// The buffers of the Linears. A Linear does not read what another one wrote.
struct Activations {
  std::vector<uint8_t> a, codes;
  std::vector<int32_t> terms, code_sum;
  std::vector<float> scale, y;

  explicit Activations(int bits)
      : a(kChainTokens * 1536),
        codes(kChainTokens * 1536),
        terms(1536, 3),
        code_sum(kChainTokens),
        scale(1536, 0.001f),
        y(kChainTokens * 1536, 0.5f) {
    std::mt19937 random(2);
    for (uint8_t& code : a) code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
  }
};

void run_linear(const Kernels& kernels, const ChainLinear& s, const uint8_t* panels, int bits,
                int a_bits, Activations& x) {
  GemmArgs g{};
  g.m = kChainTokens;
  g.n = s.n;
  g.k = s.k;
  g.a = x.a.data();
  g.a_stride = s.k;
  g.row_sum = g.offset = g.zero = x.terms.data();
  g.panels = panels;
  g.bits = bits;
  g.a_bits = a_bits;
  g.scale = g.bias = x.scale.data();
  g.y = x.y.data();
  g.y_stride = s.n;
  g.residual = x.y.data();
  g.codes = x.codes.data();
  g.code_stride = s.n;
  g.code_sum = x.code_sum.data();
  g.quantizer = {.inv_scale = 30, .zero = 10, .max_code = (1 << a_bits) - 1};
  constexpr Epilogue kEpilogues[] = {Epilogue::kFloat, Epilogue::kAdd, Epilogue::kActCodes};
  g.epilogue = kEpilogues[static_cast<int>(s.kind)];
  kernels.gemm(g);
}

std::vector<Contender> our_chains(const BenchOptions& options) {
  std::vector<Contender> contenders;
  for (const auto& width : kWidths) {
    auto weights = std::make_shared<Weights>(width.weight);
    auto x = std::make_shared<Activations>(width.activation);
    for (const Kernels* kernels : selected_isas(options)) {
      const std::string name = std::string(kernels->name) + " W" + std::to_string(width.weight) +
                               "A" + std::to_string(width.activation);
      contenders.push_back({name, [=] {
                              for (size_t i = 0; i < weights->size(); i++) {
                                run_linear(*kernels, kChainBlock[i % std::size(kChainBlock)],
                                           weights->panels(i), width.weight, width.activation, *x);
                              }
                            }});
    }
  }
  return contenders;
}

void print_chain(const BenchOptions& options, const std::string& name, double median, double best,
                 double reference) {
  if (options.json) {
    std::printf("{\"bench\":\"chain\",\"name\":\"%s\",\"ms_median\":%.3f,\"ms_min\":%.3f}\n",
                name.c_str(), median * 1e3, best * 1e3);
    return;
  }
  std::printf("%-20s %8.2f ms   min %8.2f ms", name.c_str(), median * 1e3, best * 1e3);
  if (reference > 0) std::printf("   %5.2f x oneDNN u8s8", median / reference);
  std::printf("\n");
}

}  // namespace

int bench_chain(const BenchOptions& options) {
  std::vector<Contender> contenders;
  if (options.peers) contenders = peer_chains(options.isas == std::vector<std::string>{"avx2"});
  for (Contender& ours : our_chains(options)) contenders.push_back(std::move(ours));
  std::vector<std::vector<double>> times(contenders.size());
  for (int r = 0; r < options.repetitions + 1; r++) {
    for (size_t i = 0; i < contenders.size(); i++) {
      const double start = now_seconds();
      contenders[i].run();
      if (r > 0) times[i].push_back(now_seconds() - start);  // the first round warms up
    }
  }
  double reference = 0;
  for (size_t i = 0; i < contenders.size(); i++) {
    std::sort(times[i].begin(), times[i].end());
    const double median = times[i][times[i].size() / 2];
    if (options.peers && i == 0) reference = median;
    print_chain(options, contenders[i].name, median, times[i].front(), reference);
  }
  return 0;
}

}  // namespace vitrun
