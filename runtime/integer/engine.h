// The integer engine: runs a QuantModel with every matrix product in integers (method.md section
// 2).
#pragma once

#include <array>
#include <functional>

#include "models/base/tensor.h"
#include "runtime/integer/engine_plan.h"
#include "runtime/threads.h"

namespace vitrun {

constexpr int64_t kAlign = 64;  // of every buffer
inline int64_t aligned(int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

struct EngineOptions {
  int threads = 1;
  int max_batch = 1;                 // images a run may take at once
  bool all_rows = false;             // also compute what cannot reach the logits (tracing)
  const Kernels* kernels = nullptr;  // null: the best this CPU has
};

// The buffers and threads of one session. Everything is allocated by the constructor; run()
// allocates nothing, throws nothing and gives the same bits for any ISA, thread count and batch.
// One thread at a time may use an Engine; many engines may share a model, which must outlive them.
class Engine {
 public:
  Engine(const QuantModel& model, const EngineOptions& options);

  // images: `batch` (1..max_batch) of [3, H, W], preprocessed. logits: [batch, num_classes].
  void run(const float* images, int batch, float* logits) noexcept;

  // For tests: called after every step of a run with the value it finished, [batch, rows, cols] in
  // float (codes dequantized), and its node. Needs threads == 1. Tracing allocates.
  using Trace = std::function<void(int node, const Tensor& value)>;
  void set_trace(Trace trace);

  // From here on the seconds that the calling thread spends in each kind of step are summed,
  // waiting included.
  void start_profile();
  const std::array<double, kOps>& profile() const { return profile_; }

  const Kernels& kernels() const { return kernels_; }
  int threads() const { return pool_.size(); }
  int max_batch() const { return max_batch_; }
  int64_t buffer_bytes() const;  // of the arena and the scratch of all threads

 private:
  struct Segment;      // some rows of a step
  struct Head;         // one attention head of a window of an image
  struct HeadScratch;  // a thread's buffers for it

  Range rows_of(const Step& step, int thread) const;
  void run_steps(int thread);
  void run_step(const Step& step, int thread);
  template <class Body>
  void for_rows(const Step& step, Range rows, const Body& body);

  void patches(const Step& step, int thread);
  void prefix(const Step& step, int thread);
  void gemm(const Step& step, int thread);
  void norm(const Step& step, int thread);
  void quantize(const Step& step, int thread);
  void attention(const Step& step, int thread);
  void finish(const Step& step, int thread);
  void merge(const Step& step, int thread);
  void select(const Step& step, int thread);
  void mean(const Step& step, int thread);
  void add(const Step& step, int thread);

  static int64_t head_scratch_bytes(const PlannedAttention& p);
  void pack_head(const Step& step, const Head& head, HeadScratch& scratch);
  void block(const Step& step, const Head& head, int first, int queries, HeadScratch& scratch);
  void attend(const PlannedAttention& p, const Head& head, int first, int queries, const uint8_t* q,
              int64_t q_stride, HeadScratch& s);
  void mix(const Step& step, const Head& head, int queries, uint8_t* y, int64_t y_stride,
           HeadScratch& s);
  uint8_t* part(const Step& step, const Head& head, int which);
  void trace_step(const Step& step);
  void trace_softmax(const Step& step, const Head& head, int first, int queries,
                     const HeadScratch& scratch);
  UniformRange scale_of(const Step& step, int column) const;

  const Value& value(int v) const { return plan_.values[static_cast<size_t>(v)]; }
  std::byte* bytes(const Value& v);
  // Row `row` of a value, counted over all images.
  float* floats(int v, int64_t row);
  uint8_t* codes(int v, int64_t row);
  int32_t* sums(int v, int64_t row);
  std::byte* scratch(int thread);

  const QuantModel& model_;
  const Kernels& kernels_;
  const int max_batch_;
  Plan plan_;
  ThreadPool pool_;
  Barrier barrier_;
  std::vector<std::byte> memory_;  // arena, then a HeadScratch per thread; used from arena_ on
  std::byte* arena_ = nullptr;
  int64_t scratch_bytes_ = 0;
  bool profiling_ = false;
  std::array<double, kOps> profile_{};
  Trace trace_;
  Tensor softmax_trace_;

  // Of the run in progress.
  const float* images_ = nullptr;
  int batch_ = 0;
};

}  // namespace vitrun
