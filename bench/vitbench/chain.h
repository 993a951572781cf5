// The 48 Linears of DeiT-S one after the other, each with its own weights, as a model runs them.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace vitrun {

enum class LinearKind { kPlain, kResidual, kGelu };

struct ChainLinear {
  int k, n;
  LinearKind kind;
};

constexpr int kChainBlocks = 12, kChainTokens = 197;
constexpr ChainLinear kChainBlock[] = {{384, 1152, LinearKind::kPlain},
                                       {384, 384, LinearKind::kResidual},
                                       {384, 1536, LinearKind::kGelu},
                                       {1536, 384, LinearKind::kResidual}};

// One way to run the chain; `run` owns what it needs.
struct Contender {
  std::string name;
  std::function<void()> run;
};

// oneDNN u8 x s8 -> f32 and f32, OpenBLAS sgemm, on one thread, bias included but neither GELU nor
// residual. The first is the one to compare with. avx2_only limits oneDNN, for the whole process.
// Fails if the program was built without oneDNN.
std::vector<Contender> peer_chains(bool avx2_only);

}  // namespace vitrun
