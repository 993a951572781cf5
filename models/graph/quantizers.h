// Quantizers of activations: what a Quantize node does, and where a float graph needs one.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "models/graph/shapes.h"

namespace vitrun {

// The 8-bit codes from `first` up to the next run's first are replaced by `level`.
struct LevelRun {
  uint8_t first, level;
};

// A uniform quantizer's scale and zero point (method.md section 2), evaluated as kernels.h does.
struct UniformRange {
  float scale = 1;
  int zero = 0;

  bool operator==(const UniformRange&) const = default;
};

// A Quantize node rounds to these codes. A softmax output has no zero point, but log codes, `rate`
// of them an octave; or such codes of each element over the row's largest, whose values are then
// divided by their sum (twin kSumCodes, without a scale); or evenly spaced ones of the same, with
// rounding errors carried along the row (twin kCarriedCodes, likewise); or evenly spaced ones of
// the probability: steps of `scale` alone (twin 0), or half of the codes in such steps and half in
// steps finer by 2^twin. ProbabilityCodes in kernels.h has the formulas. Where there
// are levels, scale and zero point are those of 8-bit codes, which take only the values of the
// levels: a code of `bits` bits says which. Each of the heads that lie side by side in the columns
// may have a scale and zero point of its own. With a `group` of fewer columns than all, each group
// of a row takes 2^bits of 8-bit codes. Those are of the row's own range as it comes (RowQuantizer
// in kernels.h), where scale, zero, levels and heads are not there; or of the ranges by head, of
// which each is a group (HeadArgs).
struct CodeParams {
  static constexpr int kLogCodes = -1, kSumCodes = -2, kCarriedCodes = -3;

  int bits = 8;
  float scale = 1;
  int zero = 0;
  float rate = 2;
  int twin = kLogCodes;
  std::vector<LevelRun> levels = {};     // from code 0, ascending in both; empty: all codes
  std::vector<UniformRange> heads = {};  // empty: all columns have `scale` and `zero`
  int group = 0;                         // columns of a group; 0: the codes are those of all rows

  bool by_sum() const { return twin == kSumCodes || twin == kCarriedCodes; }
  bool by_row() const { return group > 0 && heads.empty(); }
  bool by_head() const { return group > 0 && !heads.empty(); }
  RowQuantizer row_quantizer() const { return {bits, group}; }
  int code_bits() const { return levels.empty() && group == 0 ? bits : 8; }
  Quantizer quantizer() const { return {1 / scale, zero, (1 << code_bits()) - 1}; }
  UniformRange of_head(int head) const {
    return heads.empty() ? UniformRange{scale, zero} : at(heads, head);
  }
  bool same_as(const CodeParams& other) const;
};

// A softmax output's kind of codes; the evenly spaced ones' steps; and what one unit of the values
// that the kernel writes is worth: 1 by_sum(), before the division.
ProbabilityCodes probability_codes(const CodeParams& params);
StepCodes step_codes(const CodeParams& params);
float fixed_point_unit(const CodeParams& params);
// The largest `twin` whose fine steps are whole units.
constexpr int most_twin(int bits) {
  return 17 - bits;
}

// The value of a log code in 1/65535ths of the scale, `rate` codes an octave: round(65535 *
// 2^(-code / rate)). A code of 2^bits or above stands for 0.
inline int log_code_value(int code, float rate) {
  return static_cast<int>(std::lround(65535 * std::exp2(-code / static_cast<double>(rate))));
}

// The bits of an element in a row of so many columns, with what its row and its group need: a
// group's step and zero point have 8, a row's scale and zero point 40. Calibrated ranges do not
// count.
double bits_with_ranges(const CodeParams& params, int columns);

// The level of each of the 256 codes.
std::vector<uint8_t> level_table(const std::vector<LevelRun>& levels);

// A Quantize node's parameters: scalars are its attributes; `weight` [runs, 2] holds the levels
// (first code, level), `bias` [2, heads] the heads' scales and zero points. Checks all of them.
CodeParams code_params(const Node& quantize, const Weights& weights);
// The inverse: sets the attributes and adds the tensors, named after the node, to both.
void set_code_params(Graph& graph, int quantize, const CodeParams& params, Weights& weights);

// The kernels' name of an activation that they compute; none for the others.
std::optional<Activation> activation_of(ActType type);

// Whether a value is a softmax output, whose codes are those of probabilities.
bool is_softmax(const Graph& graph, int node);

// Whether a value is the neighbourhoods of an image, which are pixels.
bool is_image(const Graph& graph, const Shapes& shapes, int node);

// An activation operand of a matrix product: where a float graph gets a Quantize node.
struct Site {
  std::string name;  // the unit, with the operand for products of two activations:
                     // "blocks.0.attn.matmul1.q"
  // The scored unit whose bits apply: "blocks.0.attn.matmul1"; empty: none, and the bits are 8.
  std::string unit;
  bool softmax = false;
  int node = -1;           // whose value it is
  int consumer = -1;       // the Linear, Scores or Mix that takes it, through a Window of a map
  int operand = 0;         // which of the consumer's inputs
  int begin = 0, end = 0;  // columns of that value
};

// Whether the rows of a site may have ranges of their own: those that a Linear reads may, unless
// they are neighbourhoods of pixels or of a map, whose zeros outside need one code.
bool may_go_by_row(const Graph& graph, const Shapes& shapes, const Site& site);

// The name of the Quantize of a site, and the site's name from it.
std::string quantize_name(const Site& site);
std::string operand_name(const Node& quantize);

// The columns of one of the heads of q, k or v.
inline Site head_of(Site site, int head, int heads) {
  const int cols = (site.end - site.begin) / heads;
  site.begin += head * cols;
  site.end = site.begin + cols;
  return site;
}

// Sites are in node order of the consumer: a Linear has one site, Scores has q and k, Mix has the
// softmax code and v. The input of a convolution is quantized before its Window, an image after it.
std::vector<Site> activation_sites(const Graph& graph);

// The units in node order: every Linear and attention's matmul1, attn and matmul2.
std::vector<std::string> unit_names(const Graph& graph);

}  // namespace vitrun
