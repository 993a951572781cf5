#include "runtime/integer/engine.h"

#include <algorithm>
#include <chrono>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

// Rows row .. row + m - 1 of an image; in values of equal rows they may run on into the next
// images.
struct Engine::Segment {
  int image = 0;
  int64_t row = 0;
  int m = 0;

  int64_t first(const Value& v) const { return v.constant ? row : int64_t{image} * v.rows + row; }
};

Engine::Engine(const QuantModel& model, const EngineOptions& options)
    : model_(model),
      kernels_(options.kernels ? *options.kernels : choose_kernels()),
      max_batch_(options.max_batch),
      pool_(options.threads),
      barrier_(options.threads) {
  if (max_batch_ < 1 || max_batch_ > 4096) fail("batch must be 1 to 4096, got ", max_batch_);
  plan_ = make_plan(model, max_batch_, options.all_rows);
  // A patch; the row sums of a Linear whose columns threads share.
  scratch_bytes_ =
      aligned(std::max(int64_t{model.graph().nodes[0].cols}, int64_t{max_batch_} * kFewRows) * 4);
  for (const PlannedAttention& a : plan_.attentions)
    scratch_bytes_ = std::max(scratch_bytes_, head_scratch_bytes(a));
  memory_.resize(static_cast<size_t>(buffer_bytes() + kAlign));
  const auto address = reinterpret_cast<uintptr_t>(memory_.data());
  arena_ =
      memory_.data() + (aligned(static_cast<int64_t>(address)) - static_cast<int64_t>(address));
}

int64_t Engine::buffer_bytes() const {
  return plan_.arena_bytes + scratch_bytes_ * pool_.size();
}

void Engine::set_trace(Trace trace) {
  if (threads() != 1) fail("tracing needs one thread");
  trace_ = std::move(trace);
}

std::byte* Engine::bytes(const Value& v) {
  return (v.constant ? plan_.constants.data() : arena_) + v.offset;
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

std::byte* Engine::scratch(int thread) {
  return arena_ + plan_.arena_bytes + scratch_bytes_ * thread;
}

void Engine::run(const float* images, int batch, float* logits) noexcept {
  images_ = images;
  batch_ = batch;
  pool_.run([this](int thread) { run_steps(thread); });
  const int classes = model_.config().num_classes;
  for (int i = 0; i < batch; i++)
    std::copy_n(floats(plan_.logits, i), classes, logits + int64_t{i} * classes);
}

void Engine::run_steps(int thread) {
  const bool timed = profiling_ && thread == 0;
  for (const Step& step : plan_.steps) {
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
    case Op::kPatches:
      return patches(step, thread);
    case Op::kPrefix:
      return prefix(step, thread);
    case Op::kGemm:
      return gemm(step, thread);
    case Op::kNorm:
    case Op::kNormCodes:
      return norm(step, thread);
    case Op::kQuantize:
      return quantize(step, thread);
    case Op::kAttention:
      return attention(step, thread);
    case Op::kFinish:
      return finish(step, thread);
    case Op::kMerge:
      return merge(step, thread);
    case Op::kSelect:
      return select(step, thread);
    case Op::kMean:
      return mean(step, thread);
    case Op::kAdd:
      return add(step, thread);
  }
}

// A thread's share of a step's rows, counted over all images.
Range Engine::rows_of(const Step& step, int thread) const {
  return share(int64_t{batch_} * step.rows, thread, pool_.size());
}

// Calls body(segment) for rows of a step. Images are joined into one segment where every value the
// step touches has the same rows.
template <class Body>
void Engine::for_rows(const Step& step, Range r, const Body& body) {
  bool joined = true;
  for (int v : {step.in, step.in2, step.out})
    if (v >= 0) joined &= value(v).rows == step.rows && !value(v).constant;
  while (r.begin < r.end) {
    const int image = joined ? 0 : static_cast<int>(r.begin / step.rows);
    const int64_t end = joined ? r.end : std::min(r.end, int64_t{image + 1} * step.rows);
    body(Segment{image, r.begin - int64_t{image} * step.rows, static_cast<int>(end - r.begin)});
    r.begin = end;
  }
}

// Gathers a patch at a time, its elements in the order of the weight's, and quantizes it.
void Engine::patches(const Step& step, int thread) {
  const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
  const ModelConfig& c = model_.config();
  const int64_t p = c.patch, height = c.image_height, width = c.image_width;
  const Quantizer q = step.site.quantizer();
  float* const patch = reinterpret_cast<float*>(scratch(thread));
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    for (int64_t i = s.first(value(step.out)); i < s.first(value(step.out)) + s.m; i++) {
      const int64_t image = i / n.rows, y = i % n.rows / n.map_width * p,
                    x = i % n.rows % n.map_width * p;
      for (int64_t line = 0; line < 3 * p; line++) {
        const int64_t row = (image * 3 + line / p) * height + y + line % p;
        std::copy_n(images_ + row * width + x, p, patch + line * p);
        if (c.pixel_patches) to_pixels(c.preprocess, line / p, patch + line * p, p);
      }
      kernels_.quantize(patch, n.cols, 1, n.cols, q, codes(step.out, i), value(step.out).stride,
                        sums(step.out, i));
    }
  });
}

void Engine::prefix(const Step& step, int thread) {
  if (thread != 0) return;
  const Value &in = value(step.in), &out = value(step.out);
  for (int image = 0; image < batch_; image++) {
    const int64_t row = int64_t{image} * out.rows + step.out_first;
    if (out.codes)
      std::copy_n(codes(step.in, 0), step.rows * in.stride, codes(step.out, row));
    else
      std::copy_n(floats(step.in, 0), step.rows * in.stride, floats(step.out, row));
  }
}

void Engine::gemm(const Step& step, int thread) {
  const PlannedLinear& linear = plan_.linears[static_cast<size_t>(step.linear)];
  const QuantLinear& w = *linear.weight;
  const Value &in = value(step.in), &out = value(step.out);
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
  g.quantizer = step.site.quantizer();
  if (step.epilogue == Epilogue::kCodes) {
    g.quantizers = {linear.inv_scale.data() + c, linear.low.data() + c, linear.high.data() + c,
                    linear.code_zero.data() + c};
  }
  for_rows(step, rows, [&](const Segment& s) {
    const int64_t from = s.first(in), to = s.first(out) + step.out_first;
    g.m = s.m;
    g.a = codes(step.in, from);
    g.a_stride = in.stride;
    g.row_sum = sums(step.in, from);
    if (out.codes) {
      g.codes = codes(step.out, to) + c;
      g.code_stride = out.stride;
      g.code_sum =
          step.by_columns ? reinterpret_cast<int32_t*>(scratch(thread)) : sums(step.out, to);
    } else {
      g.y = floats(step.out, to) + c;
      g.y_stride = out.stride;
    }
    if (step.in2 >= 0) g.residual = floats(step.in2, s.first(value(step.in2))) + c;
    kernels_.gemm(g);
  });
}

void Engine::norm(const Step& step, int thread) {
  const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
  const Value& in = value(step.in);
  NormArgs args{};
  args.c = n.cols;
  args.x_stride = in.stride;
  args.gamma = step.gamma;
  args.beta = step.beta;
  args.eps = model_.config().norm_eps;
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    const int64_t to = s.first(value(step.out));
    args.m = s.m;
    args.x = floats(step.in, s.first(in));
    if (step.op == Op::kNorm)
      kernels_.layernorm(args, floats(step.out, to), value(step.out).stride);
    else
      kernels_.layernorm_codes(args, step.site.quantizer(), codes(step.out, to),
                               value(step.out).stride, sums(step.out, to));
  });
}

void Engine::quantize(const Step& step, int thread) {
  const Value &in = value(step.in), &out = value(step.out);
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    const int64_t to = s.first(out);
    kernels_.quantize(floats(step.in, s.first(in)), in.stride, s.m, in.cols, step.site.quantizer(),
                      codes(step.out, to), out.stride, sums(step.out, to));
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

void Engine::merge(const Step& step, int thread) {
  const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
  const Value &in = value(step.in), &out = value(step.out);
  const int width = (n.map_width + 1) / 2;
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    for (int64_t i = s.first(out); i < s.first(out) + s.m; i++) {
      const int64_t image = i / n.rows, y = i % n.rows / width * 2, x = i % n.rows % width * 2;
      float* to = floats(step.out, i);
      for (int j = 0; j < 4; j++, to += in.cols) {
        const int64_t row = y + j % 2, col = x + j / 2;
        if (row < n.map_height && col < n.map_width)
          std::copy_n(floats(step.in, image * in.rows + row * n.map_width + col), in.cols, to);
        else
          std::fill_n(to, in.cols, 0.f);  // an odd map is padded with zeros
      }
    }
  });
}

void Engine::select(const Step& step, int thread) {
  const int token = model_.graph().nodes[static_cast<size_t>(step.node)].select;
  const Range r = share(batch_, thread, pool_.size());
  for (int64_t i = r.begin; i < r.end; i++)
    std::copy_n(floats(step.in, i * value(step.in).rows + token), value(step.in).cols,
                floats(step.out, i));
}

void Engine::mean(const Step& step, int thread) {
  const Value& in = value(step.in);
  const Range r = share(batch_, thread, pool_.size());
  for (int64_t i = r.begin; i < r.end; i++) {
    float* out = floats(step.out, i);
    std::copy_n(floats(step.in, i * in.rows), in.cols, out);
    for (int row = 1; row < in.rows; row++) {
      const float* x = floats(step.in, i * in.rows + row);
      for (int c = 0; c < in.cols; c++) out[c] += x[c];
    }
    for (int c = 0; c < in.cols; c++) out[c] /= static_cast<float>(in.rows);
  }
}

void Engine::add(const Step& step, int thread) {
  const float alpha = model_.graph().nodes[static_cast<size_t>(step.node)].alpha;
  for_rows(step, rows_of(step, thread), [&](const Segment& s) {
    for (int i = 0; i < s.m; i++) {
      const float* a = floats(step.in, s.first(value(step.in)) + i);
      const float* b = floats(step.in2, s.first(value(step.in2)) + i);
      float* y = floats(step.out, s.first(value(step.out)) + i);
      for (int c = 0; c < value(step.out).cols; c++) y[c] = alpha * (a[c] + b[c]);
    }
  });
}

void Engine::trace_step(const Step& step) {
  if (step.op == Op::kAttention) {
    const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
    trace_(n.in[0], softmax_trace_);
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
      const UniformRange of = scale_of(step, c);
      *to++ = of.scale * static_cast<float>(codes(step.out, row)[c] - of.zero);
    }
  trace_(step.result, t);
}

// What the codes that a step writes stand for in a column.
UniformRange Engine::scale_of(const Step& step, int column) const {
  if (step.linear >= 0)
    if (const auto& parts = plan_.linears[static_cast<size_t>(step.linear)].parts; !parts.empty()) {
      const int dim = value(step.out).cols / 3;
      const SiteParams& part = parts[static_cast<size_t>(column / dim)];
      const int heads = std::max(static_cast<int>(part.heads.size()), 1);
      return part.of_head(column % dim / (dim / heads));
    }
  return {step.site.scale, step.site.zero};
}

}  // namespace vitrun
