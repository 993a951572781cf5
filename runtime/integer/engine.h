// The integer engine: runs a graph of a QuantModel with every matrix product in integers (method.md
// section 2).
#pragma once

#include <array>
#include <functional>
#include <list>
#include <memory>

#include "models/base/tensor.h"
#include "runtime/integer/plan.h"
#include "runtime/threads.h"

namespace vitrun {

constexpr int64_t kAlign = 64;  // of every buffer
inline int64_t aligned(int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

// A buffer for the values of a run. Engines of which only one runs at a time, and one thread uses
// all, may share one.
class EngineMemory {
 public:
  size_t size() const { return bytes_.size(); }
  void grow(size_t bytes);  // fails as std::vector does, and then has its old size
  std::byte* begin();       // aligned to kAlign

 private:
  std::vector<std::byte> bytes_;
};

struct EngineOptions {
  int threads = 1;
  int max_batch = 1;                      // images a run may take at once
  bool all_rows = false;                  // also compute what cannot reach the outputs (tracing)
  const Kernels* kernels = nullptr;       // null: the best this CPU has
  std::vector<MapSize> sizes = {};        // of the inputs at first; none: the default ones
  std::vector<std::string> outputs = {};  // at first; none: the graph's first
  std::shared_ptr<EngineMemory> memory = {};  // null: the engine's own
};

// The buffers and threads of one session. The constructor and select() allocate; run() allocates
// nothing, throws nothing and gives the same bits for any ISA, thread count and batch. One thread
// at a time may use an Engine; many engines may share a model, which must outlive them.
class Engine {
 public:
  Engine(const QuantGraph& model, const EngineOptions& options);

  // Prepares runs with inputs of these sizes (none: the default ones) that give these outputs
  // (none: the first). The plans of the last few choices are kept: choosing one of them again
  // allocates nothing. Fails as make_plan() does and leaves the choice as it was.
  void select(const std::vector<MapSize>& sizes, const std::vector<std::string>& outputs);

  // Returns what buffer_bytes() would be after select(); allocates no buffers.
  int64_t bytes_for(const std::vector<MapSize>& sizes,
                    const std::vector<std::string>& outputs) const;

  // input: `batch` (1..max_batch) images [3, H, W], preprocessed, or maps [H, W, C]. outputs: one
  // pointer for each of outputs(), to [batch, rows, cols] floats.
  void run(const float* input, int batch, float* const* outputs) noexcept;
  // The same for a single output.
  void run(const float* input, int batch, float* output) noexcept { run(input, batch, &output); }

  // Selects the size of `input`, images [n, 3, H, W] or maps [n, H, W, C], and these outputs, runs
  // and returns them, [n, rows, cols]. Fails as select() and check_finite() do. Allocates.
  std::vector<Tensor> run_outputs(const Tensor& input, const std::vector<std::string>& names);

  // Fails, naming it, on an output of the last run that is not finite: the model overflowed.
  void check_finite(int batch, const float* const* outputs) const;

  // Makes the engine usable in a child of fork(), as ThreadPool::revive() does.
  void revive() { pool_.revive(); }

  // Names and shapes of what run() gives.
  const std::vector<PlannedOutput>& outputs() const { return plan().outputs; }

  // For tests: called after every step of a run with the value it finished, [batch, rows, cols] in
  // float (codes dequantized), and its node. Needs threads == 1. Tracing allocates.
  using Trace = std::function<void(int node, const Tensor& value)>;
  void set_trace(Trace trace);

  // Starts a profile: from here on the seconds that the calling thread spends in each kind of step
  // are summed, waiting included.
  void start_profile();
  const std::array<double, kOps>& profile() const { return profile_; }

  const Kernels& kernels() const { return kernels_; }
  int threads() const { return pool_.size(); }
  int max_batch() const { return max_batch_; }
  int64_t buffer_bytes() const { return static_cast<int64_t>(memory_->size()); }

 private:
  struct Segment;      // some rows of a step
  struct Head;         // one attention head of a window of an image
  struct HeadScratch;  // a thread's buffers for it

  // A plan and the choice it is for, with the defaults filled in.
  struct Choice {
    std::vector<MapSize> sizes;
    std::vector<std::string> outputs;
    Plan plan;
    int64_t scratch_bytes;  // of a thread
  };
  Choice make_choice(const std::vector<MapSize>& sizes,
                     const std::vector<std::string>& outputs) const;
  int64_t bytes_of(const Choice& choice) const;
  void adopt(Choice choice);

  const Plan& plan() const { return choices_.front().plan; }
  Range rows_of(const Step& step, int thread) const;
  void run_steps(int thread);
  void run_step(const Step& step, int thread);
  template <class Body>
  void for_rows(const Step& step, Range rows, const Body& body);

  void load(const Step& step, int thread);
  void patches(const Step& step, int thread);
  void constant_rows(const Step& step, int thread);
  void gemm(const Step& step, int thread);
  void gemm_gathered(const Step& step, GemmArgs args, const Segment& rows, int thread);
  void gemm_to_rows(const Step& step, GemmArgs args, int64_t to, int thread);
  NormArgs norm_args(const Step& step) const;
  void norm_codes(const Step& step, int thread);
  void norm_add(const Step& step, int thread);
  void quantize(const Step& step, int thread);
  void attention(const Step& step, int thread);
  void finish(const Step& step, int thread);
  void plain(const Step& step, int thread);

  static int64_t head_scratch_bytes(const Plan& plan, const PlannedAttention& p);
  static int64_t gather_scratch_bytes(int k);
  static int64_t row_scratch_bytes(const QuantLinear& weight, int64_t rows);
  void pack_head(const Step& step, const Head& head, HeadScratch& scratch);
  void block(const Step& step, const Head& head, int first, int queries, HeadScratch& scratch);
  void attend(const PlannedAttention& p, const Head& head, int first, int queries, const uint8_t* q,
              int64_t q_stride, HeadScratch& s);
  static void set_units(const PlannedAttention& p, int queries, HeadScratch& s);
  void multiply_values(const PlannedAttention& p, int queries, HeadScratch& s);
  void mix_floats(const Step& step, const Head& head, int first, int queries, HeadScratch& s);
  void mix(const Step& step, const Head& head, int queries, uint8_t* y, int64_t y_stride,
           HeadScratch& s);
  void trace_step(const Step& step);
  void trace_softmax(const Step& step, const Head& head, int first, int queries,
                     const HeadScratch& scratch);
  UniformRange scale_of(const Step& step, int column) const;

  const Value& value(int v) const { return at(plan().values, v); }
  std::byte* bytes(const Value& v);
  // Row `row` of a value, counted over all images.
  float* floats(int v, int64_t row);
  uint8_t* codes(int v, int64_t row);
  int32_t* sums(int v, int64_t row);
  // Returns where the codes of rows with ranges of their own go, from `row` on.
  RowCodes row_codes(const Step& step, int64_t row);
  float* scales(int v, int64_t row);
  int32_t* zeros(int v, int64_t row);
  std::byte* scratch(int thread);

  const QuantGraph& model_;
  const Graph& graph_;
  const std::vector<MapSize> default_sizes_;
  const std::vector<std::string> default_outputs_;
  const Kernels& kernels_;
  const int max_batch_;
  const bool all_rows_;
  std::list<Choice> choices_;  // the last few, the current one first
  ThreadPool pool_;
  Barrier barrier_;
  std::shared_ptr<EngineMemory> memory_;  // arena, then scratch of each thread
  bool profiling_ = false;
  std::array<double, kOps> profile_{};
  Trace trace_;
  Tensor softmax_trace_;

  // The run in progress.
  std::byte* arena_ = nullptr;
  const float* input_ = nullptr;
  int batch_ = 0;
};

}  // namespace vitrun
