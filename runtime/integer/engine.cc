#include "runtime/integer/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "runtime/choose_kernels.h"
#include "runtime/integer/gather.h"
#include "runtime/integer/plain/plain.h"

namespace vitrun {
namespace {

using Clock = std::chrono::steady_clock;

// The output of a graph that is given where none is asked for; none if it has no output.
std::vector<std::string> first_output(const Graph& graph) {
  if (graph.outputs.empty()) return {};
  return {graph.outputs[0].name};
}

constexpr size_t kKeptPlans = 6;  // a detector runs one graph on the five maps of an image
constexpr int64_t kGatheredBytes = 3 << 17;  // of codes that a convolution gathers at once
constexpr int64_t kRowBytes = 1 << 19;  // of floats that wait for the range of their row at once

constexpr size_t kMostInputs = 16;

// Rows of codes that a convolution gathers at once.
int gathered_rows(int k) {
  return static_cast<int>(std::clamp<int64_t>(kGatheredBytes / round_up(k, kDepthAlign), 16, 192));
}

// Rows of a Linear's result whose floats wait for the range of their row at once, a multiple of
// kRowGrain. They are more where the weights, which each block of rows reads again, are large.
constexpr int kRowGrain = 16;
int64_t waiting_rows(const QuantLinear& w) {
  const int64_t bytes = std::max(kRowBytes, 2 * pack_bytes(w.n, w.k, w.bits));
  return std::max<int64_t>(bytes / (round_up(w.n, kColumns) * 4) / kRowGrain, 1) * kRowGrain;
}

}  // namespace

// Rows row .. row + m - 1 of an image; in values of equal rows they may run on into the next
// images.
struct Engine::Segment {
  int image = 0;
  int64_t row = 0;
  int m = 0;

  int64_t first(const Value& v) const { return v.constant ? row : int64_t{image} * v.rows + row; }
};

Engine::Engine(const QuantGraph& model, const EngineOptions& options)
    : model_(model),
      graph_(model.graph),
      default_sizes_(default_sizes(model.graph)),
      default_outputs_(first_output(model.graph)),
      kernels_(options.kernels ? *options.kernels : choose_kernels()),
      max_batch_(options.max_batch),
      all_rows_(options.all_rows),
      pool_(options.threads),
      barrier_(pool_),
      memory_(options.memory ? options.memory : std::make_shared<EngineMemory>()) {
  if (max_batch_ < 1 || max_batch_ > 4096) fail("batch must be 1 to 4096, got ", max_batch_);
  adopt(make_choice(options.sizes, options.outputs));
}

Engine::Choice Engine::make_choice(const std::vector<MapSize>& sizes,
                                   const std::vector<std::string>& outputs) const {
  Choice c{sizes.empty() ? default_sizes_ : sizes, outputs.empty() ? default_outputs_ : outputs,
           make_plan(model_, {sizes, outputs, max_batch_, all_rows_}), 0};
  // Row sums of a Linear whose columns threads share.
  c.scratch_bytes = aligned(int64_t{max_batch_} * kFewRows * 4);
  for (const Step& s : c.plan.steps) {
    if (s.op == Op::kPatches)  // a neighbourhood
      c.scratch_bytes =
          std::max(c.scratch_bytes, aligned(int64_t{(*c.plan.shapes)[s.node].cols} * 4));
    if (s.op == Op::kAttention)
      c.scratch_bytes =
          std::max(c.scratch_bytes, head_scratch_bytes(c.plan, at(c.plan.attentions, s.attention)));
    if (s.window >= 0)
      c.scratch_bytes =
          std::max(c.scratch_bytes, gather_scratch_bytes(at(c.plan.linears, s.linear).weight->k));
    if (s.op == Op::kGemm && s.params.by_row())
      c.scratch_bytes = std::max(
          c.scratch_bytes,
          row_scratch_bytes(*at(c.plan.linears, s.linear).weight, int64_t{max_batch_} * s.rows));
  }
  return c;
}

int64_t Engine::bytes_of(const Choice& choice) const {
  return choice.plan.arena_bytes + choice.scratch_bytes * pool_.size() + kAlign;
}

std::vector<Tensor> Engine::run_outputs(const Tensor& input,
                                        const std::vector<std::string>& names) {
  const Shape& shape = (*model_.shapes)[model_.graph.find(NodeKind::kInput)];
  const size_t at_height = shape.planar ? 2 : 1, at_channels = shape.planar ? 1 : 3;
  if (input.dims.at(at_channels) != shape.cols)
    fail(model_.where, ": its input does not have ", input.dims[at_channels], " channels");
  select({{static_cast<int>(input.dims[at_height]), static_cast<int>(input.dims[at_height + 1])}},
         names);
  const int batch = static_cast<int>(input.dims[0]);
  std::vector<Tensor> out;
  std::vector<float*> pointers;
  for (const PlannedOutput& o : outputs()) {
    out.emplace_back(Dims{batch, o.rows, o.cols});
    pointers.push_back(out.back().data.data());
  }
  run(input.data.data(), batch, pointers.data());
  check_finite(batch, pointers.data());
  return out;
}

int64_t Engine::bytes_for(const std::vector<MapSize>& sizes,
                          const std::vector<std::string>& outputs) const {
  return std::max(buffer_bytes(), bytes_of(make_choice(sizes, outputs)));
}

void Engine::adopt(Choice choice) {
  const auto bytes = static_cast<size_t>(bytes_of(choice));
  std::list<Choice> first;
  first.push_back(std::move(choice));
  if (bytes > memory_->size()) memory_->grow(bytes);
  choices_.splice(choices_.begin(), first);
  if (choices_.size() > kKeptPlans) choices_.pop_back();
}

void EngineMemory::grow(size_t bytes) {
  const size_t before = bytes_.size();
  bytes_ = {};  // the old buffer goes before the new one comes
  try {
    bytes_.resize(bytes);
  } catch (...) {
    bytes_.resize(before);
    throw;
  }
}

std::byte* EngineMemory::begin() {
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(bytes_.data()));
  return bytes_.data() + (aligned(address) - address);
}

void Engine::select(const std::vector<MapSize>& sizes, const std::vector<std::string>& outputs) {
  const std::vector<MapSize>& of_sizes = sizes.empty() ? default_sizes_ : sizes;
  const std::vector<std::string>& of_outputs = outputs.empty() ? default_outputs_ : outputs;
  const auto found = std::ranges::find_if(
      choices_, [&](const Choice& c) { return c.sizes == of_sizes && c.outputs == of_outputs; });
  if (found == choices_.end()) return adopt(make_choice(sizes, outputs));
  choices_.splice(choices_.begin(), choices_, found);
}

void Engine::set_trace(Trace trace) {
  if (threads() != 1) fail("tracing needs one thread");
  trace_ = std::move(trace);
}

std::byte* Engine::bytes(const Value& v) {
  return (v.constant ? const_cast<std::byte*>(plan().constants.data()) : arena_) + v.offset;
}

float* Engine::floats(int v, int64_t row) {
  return reinterpret_cast<float*>(bytes(value(v))) + row * value(v).stride;
}

uint8_t* Engine::codes(int v, int64_t row) {
  return reinterpret_cast<uint8_t*>(bytes(value(v))) + row * value(v).stride;
}

int32_t* Engine::sums(int v, int64_t row) {
  return reinterpret_cast<int32_t*>(arena_ + value(v).sums) + row;
}

float* Engine::scales(int v, int64_t row) {
  return reinterpret_cast<float*>(arena_ + value(v).scales) + row;
}

int32_t* Engine::zeros(int v, int64_t row) {
  return reinterpret_cast<int32_t*>(arena_ + value(v).zeros) + row;
}

RowCodes Engine::row_codes(const Step& step, int64_t row) {
  const int v = step.out;
  return {step.params.row_quantizer(),
          codes(v, row),
          value(v).stride,
          sums(v, row),
          scales(v, row),
          zeros(v, row)};
}

std::byte* Engine::scratch(int thread) {
  return arena_ + plan().arena_bytes + choices_.front().scratch_bytes * thread;
}

void Engine::check_finite(int batch, const float* const* outputs) const {
  for (int i = 0; i < count_of(plan().outputs); i++) {
    const PlannedOutput& o = at(plan().outputs, i);
    const std::span<const float> values(outputs[i], array_size(batch, o.rows, o.cols));
    if (first_not_finite(values) < values.size())
      fail("the output '", o.name, "' is not finite: the model overflows on this input");
  }
}

void Engine::run(const float* input, int batch, float* const* outputs) noexcept {
  arena_ = memory_->begin();
  input_ = input;
  batch_ = batch;
  pool_.run([this](int thread) { run_steps(thread); });
  for (const PlannedOutput& o : plan().outputs) {
    float* to = *outputs++;
    const Value& v = value(o.value);
    for (int image = 0; image < batch; image++)
      for (int row = 0; row < o.rows; row++, to += o.cols)
        std::copy_n(floats(o.value, (v.constant ? 0 : int64_t{image} * v.rows) + row), o.cols, to);
  }
}

void Engine::run_steps(int thread) {
  const bool timed = profiling_ && thread == 0;
  for (const Step& step : plan().steps) {
    const auto start = timed ? Clock::now() : Clock::time_point();
    if (step.sync) barrier_.wait();
    run_step(step, thread);
    if (timed)
      profile_[static_cast<size_t>(step.op)] +=
          std::chrono::duration<double>(Clock::now() - start).count();
    if (trace_) trace_step(step);
  }
}

void Engine::start_profile() {
  profiling_ = true;
  profile_ = {};
}

void Engine::run_step(const Step& step, int thread) {
  switch (step.op) {
    case Op::kLoad:
      return load(step, thread);
    case Op::kPatches:
      return patches(step, thread);
    case Op::kConstantRows:
      return constant_rows(step, thread);
    case Op::kGemm:
      return gemm(step, thread);
    case Op::kNormCodes:
      return norm_codes(step, thread);
    case Op::kNormAdd:
      return norm_add(step, thread);
    case Op::kQuantize:
      return quantize(step, thread);
    case Op::kAttention:
      return attention(step, thread);
    case Op::kFinish:
      return finish(step, thread);
    case Op::kPlain:
      return plain(step, thread);
  }
}

// A thread's share of a step's rows, counted over all images.
Range Engine::rows_of(const Step& step, int thread) const {
  return share(int64_t{batch_} * step.rows, thread, pool_.size());
}

// Calls body(segment) for rows of a step. Images are joined into one segment where every value that
// the step touches row by row has the same rows. Gathered values are not read so.
template <class Body>
void Engine::for_rows(const Step& step, Range r, const Body& body) {
  bool joined = true;
  const auto joins = [&](int v) { return value(v).rows == step.rows && !value(v).constant; };
  for (int v : step.in) joined &= step.window >= 0 || joins(v);
  for (int v : {step.residual, step.out}) joined &= v < 0 || joins(v);
  while (r.begin < r.end) {
    const int image = joined ? 0 : static_cast<int>(r.begin / step.rows);
    const int64_t end = joined ? r.end : std::min(r.end, int64_t{image + 1} * step.rows);
    body(Segment{image, r.begin - int64_t{image} * step.rows, static_cast<int>(end - r.begin)});
    r.begin = end;
  }
}

// Copies the rows that are needed of a map [H, W, C] that was given.
void Engine::load(const Step& step, int thread) {
  const Shape& map = (*plan().shapes)[step.node];
  const int64_t cols = map.cols;
  const Range r = rows_of(step, thread);
  for (int64_t i = r.begin; i < r.end; i++) {
    const int64_t image = i / step.rows, row = i % step.rows;
    std::copy_n(input_ + image * map.size() + row * cols, cols,
                floats(step.out, image * value(step.out).rows + row));
  }
}

// Gathers a neighbourhood of an image at a time and quantizes it.
void Engine::patches(const Step& step, int thread) {
  const Node& n = graph_[step.node];
  const Shapes& shapes = *plan().shapes;
  const Shape& image = shapes[n.in[0]];
  const Neighbourhoods windows = neighbourhoods_of(n, image, shapes[step.node]);
  const auto order = static_cast<ElementOrder>(n.whole(Attribute::kOrder));
  const Node& source = graph_[n.in[0]];
  const bool scaled = !source.weight.empty();
  const float* scale = scaled ? model_.params().at(source.weight).data.data() : nullptr;
  const float* shift = scaled ? model_.params().at(source.bias).data.data() : nullptr;
  const int64_t rows = step.rows, cols = shapes[step.node].cols;
  const Quantizer q = step.params.quantizer();
  float* const patch = reinterpret_cast<float*>(scratch(thread));
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    for (int64_t i = s.first(value(step.out)); i < s.first(value(step.out)) + s.m; i++) {
      gather_patch(windows, order, input_ + i / rows * image.size(), image.cols, scale, shift,
                   static_cast<int>(i % rows), patch);
      kernels_.quantize(patch, cols, 1, static_cast<int>(cols), q, codes(step.out, i),
                        value(step.out).stride, sums(step.out, i));
    }
  });
}

void Engine::constant_rows(const Step& step, int thread) {
  if (thread != 0) return;
  const int from = step.in[0];
  const Value &in = value(from), &out = value(step.out);
  for (int image = 0; image < batch_; image++) {
    const int64_t row = int64_t{image} * out.rows + step.out_first;
    if (out.codes)
      std::copy_n(codes(from, 0), step.rows * in.stride, codes(step.out, row));
    else
      std::copy_n(floats(from, 0), step.rows * in.stride, floats(step.out, row));
  }
}

void Engine::gemm(const Step& step, int thread) {
  const PlannedLinear& linear = at(plan().linears, step.linear);
  const QuantLinear& w = *linear.weight;
  const int from_value = step.in[0];
  const Value &in = value(from_value), &out = value(step.out);
  Range rows = rows_of(step, thread), columns = {step.column_begin, step.column_end};
  if (step.by_columns) {
    rows = {0, int64_t{batch_} * step.rows};
    // Multiples of 32, so that a share ends without padding of its codes.
    columns = share(step.column_end - step.column_begin, thread, pool_.size(), kDepthAlign);
    columns.begin += step.column_begin;
    columns.end += step.column_begin;
    if (columns.begin == columns.end) return;
  }
  const int c = static_cast<int>(columns.begin);
  GemmArgs g{};
  g.n = static_cast<int>(columns.end) - c;
  g.k = w.k;
  g.panels = w.panels + pack_bytes(c, w.k, w.bits);
  g.bits = w.bits;
  g.a_bits = linear.a_bits;
  g.scale = linear.scale.data() + c;
  g.offset = linear.offset.data() + c;
  g.zero = w.zero.data() + c;
  g.bias = w.bias.data() + c;
  g.epilogue = step.epilogue;
  g.quantizer = step.params.quantizer();
  g.activation = step.activation.value_or(Activation::kGelu);
  if (step.epilogue == Epilogue::kCodes) g.quantizers = linear.from(c);
  for_rows(step, rows, [&](const Segment& s) {
    const int64_t to = s.first(out) + step.out_first;
    g.m = s.m;
    if (step.window < 0) {
      g.a = codes(from_value, s.first(in));
      g.a_stride = in.stride;
      g.row_sum = sums(from_value, s.first(in));
    }
    if (in.by_row) {
      g.row_scale = scales(from_value, s.first(in));
      g.row_zero = zeros(from_value, s.first(in));
    }
    if (step.params.by_row()) return gemm_to_rows(step, g, to, thread);
    if (out.codes) {
      g.codes = codes(step.out, to) + c;
      g.code_stride = out.stride;
      g.code_sum =
          step.by_columns ? reinterpret_cast<int32_t*>(scratch(thread)) : sums(step.out, to);
    } else {
      g.y = floats(step.out, to) + c;
      g.y_stride = out.stride;
    }
    if (step.residual >= 0) g.residual = floats(step.residual, s.first(value(step.residual))) + c;
    if (step.window >= 0) return gemm_gathered(step, g, s, thread);
    kernels_.gemm(g);
  });
}

int64_t Engine::row_scratch_bytes(const QuantLinear& w, int64_t rows) {
  return aligned(std::min(waiting_rows(w), rows) * round_up(w.n, kColumns) * 4);
}

// A product whose rows get ranges of their own: a block of rows stays in the cache until they have.
void Engine::gemm_to_rows(const Step& step, GemmArgs g, int64_t to, int thread) {
  const int64_t most = waiting_rows(*at(plan().linears, step.linear).weight), m = g.m;
  const int blocks = static_cast<int>((m + most - 1) / most);
  g.y = reinterpret_cast<float*>(scratch(thread));
  g.y_stride = round_up(g.n, kColumns);
  for (int b = 0; b < blocks; b++) {
    const Range r = share(m, b, blocks, kRowGrain);
    g.m = static_cast<int>(r.end - r.begin);
    if (g.m > 0) kernels_.gemm(g);
    kernels_.quantize_by_row(g.y, g.y_stride, g.m, g.n, step.through(),
                             row_codes(step, to + r.begin));
    g.a += g.m * g.a_stride;
    g.row_sum += g.m;
    if (g.row_scale) g.row_scale += g.m;
    if (g.row_zero) g.row_zero += g.m;
  }
}

int64_t Engine::gather_scratch_bytes(int k) {
  const int64_t rows = gathered_rows(k);
  return aligned(rows * round_up(k, kDepthAlign)) + aligned(rows * 4);
}

// A convolution: neighbourhoods of codes are gathered for a block of rows, elements outside of the
// map with the code of 0, and multiplied while they are in the cache.
void Engine::gemm_gathered(const Step& step, GemmArgs g, const Segment& rows, int thread) {
  const Node& n = graph_[step.window];
  const Shapes& shapes = *plan().shapes;
  const Shape& map = shapes[n.in[0]];
  const Neighbourhoods windows = neighbourhoods_of(n, map, shapes[step.window]);
  const auto order = static_cast<ElementOrder>(n.whole(Attribute::kOrder));
  const Value& in = value(step.in[0]);
  const int block = gathered_rows(g.k);
  const int64_t stride = round_up(g.k, kDepthAlign);
  auto* const gathered = reinterpret_cast<uint8_t*>(scratch(thread));
  auto* const row_sums = reinterpret_cast<int32_t*>(scratch(thread) + aligned(block * stride));
  const uint8_t outside = at(plan().linears, step.linear).outside;
  const int m = g.m;
  for (int first = 0; first < m; first += block) {
    g.m = std::min(block, m - first);
    for (int i = 0; i < g.m; i++) {
      const int64_t row = rows.row + first + i, image = rows.image + row / step.rows;
      gather_codes(windows, order, codes(step.in[0], image * in.rows), in.stride, map.cols,
                   static_cast<int>(row % step.rows), outside, gathered + i * stride, stride);
    }
    kernels_.sum_rows(gathered, stride, g.m, g.k, row_sums);
    g.a = gathered;
    g.a_stride = stride;
    g.row_sum = row_sums;
    kernels_.gemm(g);
    if (g.codes) g.codes += g.m * g.code_stride;
    if (g.code_sum) g.code_sum += g.m;
    if (g.y) g.y += g.m * g.y_stride;
    if (g.residual) g.residual += g.m * g.y_stride;
  }
}

NormArgs Engine::norm_args(const Step& step) const {
  const Value& in = at(plan().values, step.in[0]);
  NormArgs args{};
  args.c = in.cols;
  args.x_stride = in.stride;
  args.gamma = step.gamma;
  args.beta = step.beta;
  args.eps = static_cast<float>(graph_[step.node].real(Attribute::kEpsilon));
  return args;
}

void Engine::norm_codes(const Step& step, int thread) {
  const int from = step.in[0];
  NormArgs args = norm_args(step);
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    const int64_t to = s.first(value(step.out));
    args.m = s.m;
    args.x = floats(from, s.first(value(from)));
    if (step.params.by_row()) return kernels_.layernorm_by_row(args, row_codes(step, to));
    kernels_.layernorm_codes(args, step.params.quantizer(), codes(step.out, to),
                             value(step.out).stride, sums(step.out, to));
  });
}

void Engine::norm_add(const Step& step, int thread) {
  const int from = step.in[0];
  NormArgs args = norm_args(step);
  args.residual_stride = value(step.residual).stride;
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    args.m = s.m;
    args.x = floats(from, s.first(value(from)));
    args.residual = floats(step.residual, s.first(value(step.residual)));
    kernels_.layernorm(args, floats(step.out, s.first(value(step.out))), value(step.out).stride);
  });
}

void Engine::quantize(const Step& step, int thread) {
  const int from = step.in[0];
  const Value &in = value(from), &out = value(step.out);
  const Node& n = graph_[step.node];
  ColumnArgs args{};
  args.c = out.cols;
  args.x_stride = in.stride;
  args.group = n.kind == NodeKind::kNorm ? n.whole(Attribute::kGroup, out.cols) : 0;
  args.weight = step.gamma;
  args.eps = static_cast<float>(n.real(Attribute::kEpsilon));
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    const int64_t to = s.first(out);
    const float* const x = floats(from, s.first(in)) + step.column_begin;
    if (step.params.by_row())
      return kernels_.quantize_by_row(x, in.stride, s.m, out.cols, step.through(),
                                      row_codes(step, to));
    if (step.columns < 0)
      return kernels_.quantize(x, in.stride, s.m, out.cols, step.params.quantizer(),
                               codes(step.out, to), out.stride, sums(step.out, to));
    if (step.params.by_head())
      return kernels_.quantize_heads(
          {s.m, count_of(step.params.heads), step.params.group, x, in.stride, step.params.bits,
           at(plan().columns, step.columns).from(0)},
          codes(step.out, to), out.stride);
    args.m = s.m;
    args.x = x;
    kernels_.quantize_columns(args, at(plan().columns, step.columns).from(0), codes(step.out, to),
                              out.stride);
  });
}

void Engine::finish(const Step& step, int thread) {
  const Value& v = value(step.out);
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    uint8_t* const first = codes(step.out, s.first(v));
    int32_t* const sum = sums(step.out, s.first(v));
    if (!step.levels.empty())
      return kernels_.map_rows(step.levels.data(), s.m, v.cols, first, v.stride, sum);
    for (int i = 0; v.cols < v.stride && i < s.m; i++)
      std::fill(first + i * v.stride + v.cols, first + (i + 1) * v.stride, uint8_t{0});
    kernels_.sum_rows(first, v.stride, s.m, v.cols, sum);
  });
}

// A node's own function, an image at a time.
void Engine::plain(const Step& step, int thread) {
  const Node& n = graph_[step.node];
  const Shapes& shapes = *plan().shapes;
  const Value& out = value(step.out);
  PlainInput in[kMostInputs];
  const auto count = step.in.size();
  Range r = rows_of(step, thread);
  while (r.begin < r.end) {
    const int64_t image = r.begin / step.rows, first = image * step.rows;
    const int64_t end = std::min(r.end, first + step.rows);
    for (size_t k = 0; k < count; k++) {
      const Value& x = value(step.in[k]);
      in[k] = {floats(step.in[k], x.constant ? 0 : image * x.rows), x.stride, &shapes[n.in[k]]};
    }
    run_plain({n, shapes[step.node], std::span(in, count), step.gamma, step.beta, kernels_,
               static_cast<int>(r.begin - first), static_cast<int>(end - first),
               floats(step.out, image * out.rows), out.stride});
    r.begin = end;
  }
}

void Engine::trace_step(const Step& step) {
  if (step.op == Op::kAttention) {
    trace_(graph_[graph_[step.node].in[0]].in[0], softmax_trace_);
    softmax_trace_ = {};
  }
  const Value& v = value(step.out);
  Tensor t({batch_, v.rows, v.cols});
  float* to = t.data.data();
  for (int64_t row = 0; row < int64_t{batch_} * v.rows; row++)
    for (int c = 0; c < v.cols; c++) {
      if (!v.codes) {
        *to++ = floats(step.out, row)[c];
        continue;
      }
      const UniformRange of = v.by_row ? UniformRange{*scales(step.out, row), *zeros(step.out, row)}
                                       : scale_of(step, c);
      *to++ = of.scale * static_cast<float>(codes(step.out, row)[c] - of.zero);
    }
  trace_(step.result, t);
}

// The range that the codes of a column written by a step stand for.
UniformRange Engine::scale_of(const Step& step, int column) const {
  const PlannedColumns* columns = step.linear >= 0    ? &at(plan().linears, step.linear)
                                  : step.columns >= 0 ? &at(plan().columns, step.columns)
                                                      : nullptr;
  if (columns)
    for (const ColumnCodes& part : columns->parts)
      if (column >= part.begin && column < part.end) return part.at_column(column);
  const int heads = std::max(1, count_of(step.params.heads));
  return step.params.of_head(column / (value(step.out).cols / heads));
}

}  // namespace vitrun
