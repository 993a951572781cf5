// Where a graph is quantized: the activation operands of its matrix products. Weights need no list:
// every kLinear has one. Bits, scales and zero points are kept per site, in the order of
// activation_sites().
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "models/graph/graph.h"

namespace vitrun {

enum class CodeKind {
  kUniform,
  kSoftmax  // the softmax output: so many log codes an octave, 2 being log sqrt 2 (method.md
};          // section 2), or evenly spaced ones (kernels.h, StepCodes)

struct Site {
  std::string name;  // the unit, with the operand for products of two activations:
                     // "blocks.0.attn.matmul1.q"
  std::string
      unit;  // the scored unit whose bits apply: "blocks.0.attn.matmul1", "blocks.0.attn.qkv"
  CodeKind kind = CodeKind::kUniform;
  int node = -1;           // whose value it is
  int consumer = -1;       // the kLinear, kScores or kMix that reads the codes
  int begin = 0, end = 0;  // columns of that value (q, k and v are thirds of the qkv value)
};

// The columns of one of the heads of q, k or v.
inline Site head_of(Site site, int head, int heads) {
  const int cols = (site.end - site.begin) / heads;
  site.begin += head * cols;
  site.end = site.begin + cols;
  return site;
}

// In node order of the consumer; a kLinear has one site, kScores has q and k, kMix has the softmax
// code and v.
std::vector<Site> activation_sites(const Graph& graph);

// The scored units in node order: every kLinear but heads and patch embedding by its module name,
// and matmul1, attn, matmul2 (method.md, "Names"); `patch_embed`, `head`, `head_dist` are listed
// too.
std::vector<std::string> unit_names(const Graph& graph);

// The value of a log code in 1/65535ths of the scale, `rate` codes an octave: round(65535 *
// 2^(-code / rate)). A code of 2^bits or above stands for 0.
inline int log_code_value(int code, float rate) {
  return static_cast<int>(std::lround(65535 * std::exp2(-code / static_cast<double>(rate))));
}

}  // namespace vitrun
