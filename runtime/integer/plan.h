// The integer engine's plan: a graph lowered to fused steps over planned buffers, for given sizes
// of its inputs and a set of its outputs. Running it (engine.cc) only walks the steps.
//
// Four passes make it, each in a file of its own:
//   fuse      which nodes one step computes together, and which rows of every value are needed
//   lower     nodes to steps and values
//   schedule  which steps wait for all threads
//   arena     where the values stand in memory
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/integer/qmodel.h"

namespace vitrun {

// The rows of a value with so few (the class tokens) are not shared among threads: they share the
// columns of the Linear instead, whose weights are then read once.
constexpr int kFewRows = 2;

enum class Op {
  kLoad,          // a map given as an input -> float
  kPatches,       // neighbourhoods of an image -> codes
  kConstantRows,  // rows that are the same for every image: class tokens with their position
  kGemm,          // codes -> float | float + residual | codes | codes through an activation
  kNormCodes,     // float -> codes
  kNormAdd,       // float -> float + residual
  kQuantize,      // float -> codes, of unit lengths where the node is a norm, through an activation
  kAttention,     // codes of q, k, v -> codes, some queries of a head
  kFinish,        // codes to their levels, where they have any; their sums; padding cleared
  kPlain,         // float -> float by a node's own function (plain.h)
};
constexpr size_t kOps = static_cast<size_t>(Op::kPlain) + 1;

// A buffer of `rows` rows per image; floats or codes, codes with an int32 sum per row and, where
// each row has its own range, a scale and a zero point. Of a node's value only the first rows,
// those that reach the outputs, are kept.
struct Value {
  bool codes = false;
  bool by_row = false;    // codes whose rows have ranges of their own
  bool constant = false;  // the same for every image
  int rows = 0, cols = 0;
  int64_t stride = 0;             // elements between rows: a multiple of 16 (floats) or 32 (codes)
  int64_t offset = 0;             // bytes into the arena or, if constant, into Plan::constants
  int64_t sums = 0;               // codes: bytes into the arena of the row sums
  int64_t scales = 0, zeros = 0;  // by_row: bytes into the arena
};

struct Step {
  Op op = Op::kPlain;
  int node = -1;        // whose attributes it has
  int result = -1;      // the node whose value `out` then is
  std::vector<int> in;  // values; kAttention: q, k, v
  int residual = -1;    // kGemm, kNormAdd: the value that is added
  int out = -1;
  int rows = 0;       // per image that it computes; with the batch, how threads share it
  int out_first = 0;  // row of `out` that row 0 goes to
  // kGemm: the part of the columns, multiples of kColumns; kQuantize: where its input's begin.
  int column_begin = 0, column_end = 0;
  bool by_columns = false;  // kGemm: few rows, so threads share its columns instead
  bool across = false;      // rows of its result depend on other rows than those of the same number
  bool sync = false;        // waits for all threads before it
  Epilogue epilogue = Epilogue::kFloat;
  std::optional<Activation> activation = {};  // what becomes codes goes through it
  const Activation* through() const { return activation ? &*activation : nullptr; }
  CodeParams params;                              // quantizer of the codes it writes
  std::vector<uint8_t> levels;                    // kFinish: level_table(), or empty
  const float *gamma = nullptr, *beta = nullptr;  // a norm's, an Unwindow's bias
  int linear = -1;     // kGemm, and constant rows of q, k and v: index into Plan::linears
  int columns = -1;    // kQuantize: index into Plan::columns; -1: `params` are those of all columns
  int attention = -1;  // kAttention: index into Plan::attentions
  int window = -1;     // kGemm: the Window whose neighbourhoods of codes are its rows; -1: none
};

// Columns of a Linear that become codes at once, and their quantizer.
struct ColumnCodes {
  int begin, end;
  CodeParams params;

  UniformRange at_column(int column) const {
    const int heads = params.heads.empty() ? 1 : count_of(params.heads);
    return params.of_head((column - begin) / ((end - begin) / heads));
  }
};

// The quantizers of columns that become codes at once (q, k and v), and those of each column.
struct PlannedColumns {
  std::vector<ColumnCodes> parts;
  std::vector<float> inv_scale, low, high;
  std::vector<int32_t> code_zero;

  ColumnQuantizers from(int column) const {
    return {inv_scale.data() + column, low.data() + column, high.data() + column,
            code_zero.data() + column};
  }
};

// Per-column arrays of a GEMM with the input's quantizer merged in (kernels.h).
struct PlannedLinear : PlannedColumns {
  const QuantLinear* weight = nullptr;
  std::vector<float> scale;     // s_a s_w; s_w where rows have ranges of their own
  std::vector<int32_t> offset;  // K z_a z_w' - z_a sum q_w', with z_a = 1 where rows have their own
  int a_bits = 8;
  uint8_t outside = 0;  // the code of 0, which elements outside of a map have
};

struct PlannedAttention {
  int geometry = -1;  // into Shapes::attention
  CodeParams q, k, v, probability;
  int q_column = 0, k_column = 0, v_column = 0;  // of the first head, in their values
  std::vector<float> bias;                       // [heads or 1, queries, tokens] or empty
  bool bias_by_head = false;
  ProbabilityCodes codes = ProbabilityCodes::kLog;
  std::vector<uint16_t> table;     // log code -> 16-bit fixed point
  std::optional<StepCodes> steps;  // of kSteps
  bool in_place = false;  // rows of k and v are 0.. of their values in order: no gather, no scatter
  int queries = 0;        // rows of each window whose output is needed
  int block = 0;  // at most so many of them are worked on at once, so that their scores stay in L1

  int planes() const { return codes == ProbabilityCodes::kCarried ? 1 : 2; }
};

struct PlannedOutput {
  std::string name;
  int value = -1;
  int rows = 0, cols = 0;
};

struct Plan {
  std::shared_ptr<const Shapes> shapes;
  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<PlannedLinear> linears;
  std::vector<PlannedColumns> columns;
  std::vector<PlannedAttention> attentions;
  std::vector<std::byte> constants;
  std::vector<PlannedOutput> outputs;
  int64_t arena_bytes = 0;

  const AttentionGeometry& geometry(const PlannedAttention& a) const {
    return at(shapes->attention, a.geometry);
  }
};

struct PlanRequest {
  std::vector<MapSize> sizes = {};        // of the inputs; none: the default ones
  std::vector<std::string> outputs = {};  // none: the first
  int batch = 1;                          // images the buffers have room for
  bool all_rows = false;  // computes also the rows that cannot reach the outputs (tracing)
};

// Fails on an output the graph does not have, on sizes it does not allow, and on nodes in a place
// for which there is no integer form.
Plan make_plan(const QuantGraph& model, const PlanRequest& request);

// --- the passes ---

// How many rows (of each group) of every node's value reach the outputs; 0: none. In the last block
// of a class-token model K and V are needed for all tokens, everything after only for the class
// token.
std::vector<int> rows_needed(const Graph& graph, const Shapes& shapes,
                             const std::vector<int>& outputs);

// A fusion names the nodes that the step of another computes. A fused node's value exists only as
// that of the last node of its chain.
struct Fusion {
  enum class Kind {
    kNone,
    kCodes,      // Linear or Norm -> Quantize, several for parts of its columns: q, k and v
    kActCodes,   // Linear -> Act -> Quantize
    kRowCodes,   // Linear -> Quantize, or Linear -> Act -> Quantize, with a range for each row
    kAdd,        // Linear or Norm -> Add of a value computed before
    kEmbed,      // Linear -> Add of constant positions, with a Concat of constants before or after
    kNormCodes,  // Norm -> Quantize
    kActRows,    // Act -> Quantize with a range for each row
    kPatches,    // Window of an image -> Quantize, one or several
    kGather      // Quantize -> Window -> Linear
  };
  Kind kind = Kind::kNone;
  int last = -1;            // the node whose value the step computes
  int other = -1;           // kAdd: the node that is added; kEmbed: the constant of positions
  std::vector<int> prefix;  // kEmbed: constants in front of the rows of the Linear
};

// Says for every node what its step computes. `need` as rows_needed() gives it.
std::vector<Fusion> fuse(const QuantGraph& model, const Shapes& shapes,
                         const std::vector<int>& need, const std::vector<int>& outputs);

// Steps and values, in the order of the nodes.
void lower(const QuantGraph& model, const std::vector<Fusion>& fusions,
           const std::vector<int>& need, const PlanRequest& request, Plan& plan);

// Completes an attention whose probability codes and number of queries are known: their table, what
// is added to the scores, and how many queries are worked on at once.
void plan_softmax(const QuantGraph& model, const Shapes& shapes, int softmax, PlannedAttention& p);

// Sets Step::sync: a step waits where it touches what other threads may have written or read since
// the last wait.
void schedule(Plan& plan);

// Sets the values' offsets: first fit by lifetime, for `batch` images.
void place_values(int batch, Plan& plan);

}  // namespace vitrun
