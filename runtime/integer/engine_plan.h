// The integer engine's plan: the graph lowered to fused steps over planned buffers. Made once when
// a session is created; running it (engine.cc) only walks the steps.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "runtime/integer/qmodel.h"

namespace vitrun {

// Of so few rows (the class tokens) threads share the columns: the weights are then read once.
constexpr int kFewRows = 2;

enum class Op {
  kPatches,    // image -> codes of its patches
  kPrefix,     // constant rows: class tokens with their position
  kGemm,       // codes -> float | float + residual | codes through GELU
  kNorm,       // float -> float
  kNormCodes,  // float -> codes
  kQuantize,   // float -> codes
  kAttention,  // codes of q, k, v -> codes, some queries of a head
  kFinish,     // codes to their levels, where they have any; their sums; padding cleared
  kMerge,      // 2x2 neighbours side by side
  kSelect,     // one token of each image
  kMean,       // over tokens
  kAdd,        // mean of two logits
};
constexpr size_t kOps = static_cast<size_t>(Op::kAdd) + 1;

// A buffer of `rows` rows per image; floats or codes, codes with an int32 sum per row. Of a node's
// value only the first rows, those that reach the logits, are kept.
struct Value {
  bool codes = false;
  bool constant = false;  // the same for every image
  int rows = 0, cols = 0;
  int64_t stride = 0;  // elements between rows: a multiple of 16 (floats) or 32 (codes)
  int64_t offset = 0;  // bytes into the arena or, if constant, into Plan::constants
  int64_t sums = 0;    // codes: bytes into the arena of the row sums
};

struct Step {
  Op op = Op::kQuantize;
  int node = -1;          // whose dimensions it has
  int result = -1;        // the node whose value `out` then is
  int in = -1, in2 = -1;  // values; kGemm: in2 is the residual; kAttention: in is qkv
  int out = -1;
  int rows = 0;       // per image that it computes; with the batch, how threads share it
  int out_first = 0;  // kGemm into kTokens: row of `out` that row 0 goes to
  int column_begin = 0, column_end = 0;  // kGemm: the part of the columns, multiples of kColumns
  bool by_columns = false;               // kGemm: few rows, so threads share its columns instead
  bool sync = false;                     // wait for all threads before it
  Epilogue epilogue = Epilogue::kFloat;
  SiteParams site;                                // quantizer of the codes it writes
  std::vector<uint8_t> levels;                    // kFinish: level_table(), or empty
  const float *gamma = nullptr, *beta = nullptr;  // kNorm, kNormCodes
  int linear = -1;     // kGemm, and constant rows of a qkv: index into Plan::linears
  int attention = -1;  // kAttention: index into Plan::attentions
};

// Per-column arrays of a GEMM with the input's quantizer merged in (kernels.h).
struct PlannedLinear {
  const QuantLinear* weight = nullptr;
  std::vector<float> scale;     // s_a s_w
  std::vector<int32_t> offset;  // K z_a z_w' - z_a sum q_w'
  int a_bits = 8;
  // A qkv, which becomes codes at once: the quantizers of its thirds, and of each column.
  std::vector<SiteParams> parts;
  std::vector<float> inv_scale, low, high;
  std::vector<int32_t> code_zero;
};

struct PlannedAttention {
  const AttentionGeometry* geometry = nullptr;
  SiteParams q, k, v, probability;
  std::vector<float> bias;         // [heads, tokens, bias_stride] or empty
  std::vector<uint16_t> table;     // log code -> 16-bit fixed point
  std::optional<StepCodes> steps;  // instead of log codes
  bool in_place = false;  // tokens are rows 0.. of the qkv value in order: no gather, no scatter
  int queries = 0;        // rows of each window whose output is needed
  int block = 0;  // at most so many of them are worked on at once, so that their scores stay in L1
};

struct Plan {
  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<PlannedLinear> linears;
  std::vector<PlannedAttention> attentions;
  std::vector<std::byte> constants;
  int64_t arena_bytes = 0;
  int logits = -1;  // value
};

// How many rows (of each group) of every node's value reach the logits: in the last block of a
// class-token model K and V are needed for all tokens, everything after only for the class token.
std::vector<int> rows_needed(const Graph& graph);

// `batch`: images the buffers have room for. `all_rows` computes also the rows that cannot reach
// the logits.
Plan make_plan(const QuantModel& model, int batch, bool all_rows);

}  // namespace vitrun
