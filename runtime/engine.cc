#include "runtime/engine.h"

#include <algorithm>
#include <cstring>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "models/status.h"

namespace vitrun {
namespace {

constexpr int64_t kAlign = 64;

int64_t aligned(int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

const Kernels& choose(const Kernels* wanted) {
  const Kernels* k = wanted ? wanted : find_kernels(nullptr);
  if (!k) fail("VITRUN_ISA names kernels that this CPU does not have; it has: ", isa_names());
  return *k;
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

// One head of one window at a time: T tokens, d channels. K and V panels share their bytes.
struct Engine::HeadScratch {
  float* rows;          // [T, d16] gathered from, or to be scattered to, token order
  uint8_t* panels;      // K, then V
  int32_t* column_sum;  // [max(T, d)]
  uint8_t* q;           // [T, d32]
  int32_t* q_sum;       // [T]
  float* scores;        // [T, T16]
  float* scale;         // [T16], and the other per-column arrays of the QK^T product
  float* bias;
  int32_t *offset, *zero;
  uint8_t *hi, *lo;  // [T, T32]
  int32_t *hi_sum, *lo_sum;
  int32_t *raw_hi, *raw_lo;  // [T, d16]

  // Places the buffers from `base` on (which may be null) and returns their bytes.
  int64_t place(std::byte* base, int tokens, int d) {
    int64_t used = 0;
    auto take = [&](auto*& pointer, int64_t count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = reinterpret_cast<T*>(base + used);
      used += aligned(count * static_cast<int64_t>(sizeof(T)));
    };
    const int64_t t = tokens, t16 = round_up(tokens, kColumns), t32 = round_up(tokens, kDepthAlign);
    const int64_t d16 = round_up(d, kColumns), d32 = round_up(d, kDepthAlign);
    take(rows, t * d16);
    take(panels, std::max(pack_bytes(tokens, d, 8), pack_bytes(d, tokens, 8)));
    take(column_sum, std::max(t16, d16));
    take(q, t * d32);
    take(q_sum, t);
    take(scores, t * t16);
    take(scale, t16);
    take(bias, t16);
    take(offset, t16);
    take(zero, t16);
    take(hi, t * t32);
    take(lo, t * t32);
    take(hi_sum, t);
    take(lo_sum, t);
    take(raw_hi, t * d16);
    take(raw_lo, t * d16);
    return used;
  }
};

Engine::Engine(const QuantModel& model, const EngineOptions& options)
    : model_(model),
      kernels_(choose(options.kernels)),
      max_batch_(options.max_batch),
      pool_(options.threads),
      barrier_(options.threads) {
  if (max_batch_ < 1 || max_batch_ > 4096) fail("batch must be 1 to 4096, got ", max_batch_);
  plan_ = make_plan(model, max_batch_, options.all_rows);
  scratch_bytes_ = aligned(int64_t{model.graph().nodes[0].cols} * 4);
  for (const PlannedAttention& a : plan_.attentions) {
    HeadScratch scratch;
    scratch_bytes_ =
        std::max(scratch_bytes_, scratch.place(nullptr, a.geometry->tokens, a.geometry->head_dim));
  }
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

float* Engine::floats(int v, int64_t row) {
  const Value& x = value(v);
  float* base =
      x.constant ? plan_.constants.data() + x.offset : reinterpret_cast<float*>(arena_ + x.offset);
  return base + row * x.stride;
}

uint8_t* Engine::codes(int v, int64_t row) {
  return reinterpret_cast<uint8_t*>(arena_ + value(v).offset) + row * value(v).stride;
}

int32_t* Engine::sums(int v, int64_t row) {
  return reinterpret_cast<int32_t*>(arena_ + value(v).sums) + row;
}

std::byte* Engine::scratch(int thread) {
  return arena_ + plan_.arena_bytes + scratch_bytes_ * thread;
}

const float* Engine::param(const std::string& name) const {
  return model_.params().find(name)->second.data.data();
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
  for (const Step& step : plan_.steps) {
    if (step.sync) barrier_.wait();
    run_step(step, thread);
    if (trace_) trace_step(step);
  }
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

// Calls body(segment) for the thread's rows of a step. Images are joined into one segment where
// every value the step touches has the same rows.
template <class Body>
void Engine::for_rows(const Step& step, int thread, const Body& body) {
  bool joined = true;
  for (int v : {step.in, step.in2, step.out})
    if (v >= 0) joined &= value(v).rows == step.rows && !value(v).constant;
  Range r = share(int64_t{batch_} * step.rows, thread, pool_.size());
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
  for_rows(step, thread, [&](const Segment& s) {
    for (int64_t i = s.first(value(step.out)); i < s.first(value(step.out)) + s.m; i++) {
      const int64_t image = i / n.rows, y = i % n.rows / n.map_width * p,
                    x = i % n.rows % n.map_width * p;
      for (int64_t line = 0; line < 3 * p; line++) {
        const int64_t row = (image * 3 + line / p) * height + y + line % p;
        std::copy_n(images_ + row * width + x, p, patch + line * p);
      }
      kernels_.quantize(patch, n.cols, 1, n.cols, q, codes(step.out, i), value(step.out).stride,
                        sums(step.out, i));
    }
  });
}

void Engine::prefix(const Step& step, int thread) {
  if (thread != 0) return;
  const Value& out = value(step.out);
  for (int image = 0; image < batch_; image++)
    std::copy_n(floats(step.in, 0), step.rows * out.stride,
                floats(step.out, int64_t{image} * out.rows + step.out_first));
}

void Engine::gemm(const Step& step, int thread) {
  const PlannedLinear& linear = plan_.linears[static_cast<size_t>(step.linear)];
  const QuantLinear& w = *linear.weight;
  const Value &in = value(step.in), &out = value(step.out);
  const int c = step.column_begin;
  GemmArgs g{};
  g.n = step.column_end - c;
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
  for_rows(step, thread, [&](const Segment& s) {
    const int64_t from = s.first(in), to = s.first(out) + step.out_first;
    g.m = s.m;
    g.a = codes(step.in, from);
    g.a_stride = in.stride;
    g.row_sum = sums(step.in, from);
    if (step.epilogue == Epilogue::kGeluCodes) {
      g.codes = codes(step.out, to);
      g.code_stride = out.stride;
      g.code_sum = sums(step.out, to);
    } else {
      g.y = floats(step.out, to) + c;
      g.y_stride = out.stride;
    }
    if (step.in2 >= 0) g.residual = floats(step.in2, s.first(value(step.in2)));
    kernels_.gemm(g);
  });
}

void Engine::norm(const Step& step, int thread) {
  const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
  const Value& in = value(step.in);
  NormArgs args{};
  args.c = n.cols;
  args.x_stride = in.stride;
  args.gamma = param(n.weight);
  args.beta = param(n.bias);
  args.eps = model_.config().norm_eps;
  for_rows(step, thread, [&](const Segment& s) {
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
  for_rows(step, thread, [&](const Segment& s) {
    const int64_t to = s.first(out);
    kernels_.quantize(floats(step.in, s.first(in)), in.stride, s.m, in.cols, step.site.quantizer(),
                      codes(step.out, to), out.stride, sums(step.out, to));
  });
}

void Engine::attention(const Step& step, int thread) {
  const PlannedAttention& p = plan_.attentions[static_cast<size_t>(step.attention)];
  const AttentionGeometry& g = *p.geometry;
  HeadScratch scratch;
  scratch.place(this->scratch(thread), g.tokens, g.head_dim);
  const int64_t per_image = int64_t{g.windows} * g.heads;
  const Range r = share(batch_ * per_image, thread, pool_.size());
  for (int64_t i = r.begin; i < r.end; i++) {
    const int window = static_cast<int>(i % per_image) / g.heads;
    head(step, static_cast<int>(i / per_image), window, static_cast<int>(i % g.heads), scratch);
  }
}

// Attention of one head: Q, K, V from the qkv value, the result into its columns of the output.
void Engine::head(const Step& step, int image, int window, int head, HeadScratch& s) {
  const PlannedAttention& p = plan_.attentions[static_cast<size_t>(step.attention)];
  const AttentionGeometry& g = *p.geometry;
  const Value &in = value(step.in), &out = value(step.out);
  const int d = g.head_dim, t = g.tokens, d16 = round_up(d, kColumns);
  const int32_t* index = g.index.data() + int64_t{window} * t;
  struct Part {
    const float* x;
    int64_t stride;
  };
  auto part = [&](int which) -> Part {  // rows of q, k or v in the order of the window
    const float* x = floats(step.in, int64_t{image} * in.rows) + (which * g.heads + head) * d;
    if (p.in_place) return {x, in.stride};
    for (int i = 0; i < t; i++) std::copy_n(x + index[i] * in.stride, d, s.rows + int64_t{i} * d16);
    return {s.rows, d16};
  };
  const Part q = part(0);
  kernels_.quantize(q.x, q.stride, p.queries, d, p.q.quantizer(), s.q, round_up(d, kDepthAlign),
                    s.q_sum);
  const Part k = part(1);
  kernels_.pack_rows(k.x, k.stride, t, d, p.k.quantizer(), s.panels, s.column_sum);
  attend(p, window, head, s);
  if (trace_) trace_softmax(step, image, window, head, s);
  const Part v = part(2);
  kernels_.pack_columns(v.x, v.stride, t, d, p.v.quantizer(), s.panels, s.column_sum);
  float* y = p.in_place ? floats(step.out, int64_t{image} * out.rows) + head * d : s.rows;
  mix(p, s, y, p.in_place ? out.stride : d16);
  if (p.in_place) return;
  for (int i = 0; i < p.queries; i++)
    if (index[i] < out.rows)  // not padding
      std::copy_n(s.rows + int64_t{i} * d16, d,
                  floats(step.out, int64_t{image} * out.rows + index[i]) + head * d);
}

// Q K^T in integers, scale, bias, mask, softmax, log sqrt 2 codes as two planes.
void Engine::attend(const PlannedAttention& p, int window, int head, HeadScratch& s) {
  const AttentionGeometry& g = *p.geometry;
  const int t = g.tokens, t16 = round_up(t, kColumns);
  const int32_t k_zero = p.k.zero - (1 << (p.k.bits - 1));
  std::fill_n(s.scale, t16, p.q.scale * p.k.scale * g.scale);
  std::fill_n(s.zero, t16, k_zero);
  std::fill_n(s.bias, t16, 0.f);
  for (int i = 0; i < t16; i++) s.offset[i] = p.q.zero * (g.head_dim * k_zero - s.column_sum[i]);
  GemmArgs a{};
  a.m = p.queries;
  a.n = t;
  a.k = g.head_dim;
  a.a = s.q;
  a.a_stride = round_up(g.head_dim, kDepthAlign);
  a.row_sum = s.q_sum;
  a.panels = s.panels;
  a.bits = 8;
  a.a_bits = p.q.bits;
  a.scale = s.scale;
  a.offset = s.offset;
  a.zero = s.zero;
  a.bias = s.bias;
  a.epilogue = Epilogue::kFloat;
  a.y = s.scores;
  a.y_stride = t16;
  kernels_.gemm(a);

  SoftmaxArgs m{};
  m.m = p.queries;
  m.n = t;
  m.scores = s.scores;
  m.score_stride = t16;
  m.bias = p.bias.empty() ? nullptr : p.bias.data() + int64_t{head} * t * t;
  m.bias_stride = t;
  m.region = m.row_region = g.region.empty() ? nullptr : g.region.data() + int64_t{window} * t;
  m.scale = p.probability.scale;
  m.bits = p.probability.bits;
  m.table = p.table.data();
  m.hi = s.hi;
  m.lo = s.lo;
  m.plane_stride = round_up(t, kDepthAlign);
  m.hi_sum = s.hi_sum;
  m.lo_sum = s.lo_sum;
  kernels_.softmax_codes(m);
}

// attn V: the two planes' products with V's panels, put together in float.
void Engine::mix(const PlannedAttention& p, HeadScratch& s, float* y, int64_t y_stride) {
  const AttentionGeometry& g = *p.geometry;
  const int d16 = round_up(g.head_dim, kColumns);
  GemmArgs a{};
  a.m = p.queries;
  a.n = g.head_dim;
  a.k = g.tokens;
  a.a_stride = round_up(g.tokens, kDepthAlign);
  a.panels = s.panels;
  a.bits = a.a_bits = 8;
  a.epilogue = Epilogue::kInt32;
  a.raw_stride = d16;
  a.a = s.hi;
  a.raw = s.raw_hi;
  kernels_.gemm(a);
  a.a = s.lo;
  a.raw = s.raw_lo;
  kernels_.gemm(a);
  kernels_.combine_planes(
      s.raw_hi, s.raw_lo, d16, s.hi_sum, s.lo_sum, p.v.zero - (1 << (p.v.bits - 1)),
      p.v.scale * (p.probability.scale / 65535), p.queries, g.head_dim, y, y_stride);
}

void Engine::merge(const Step& step, int thread) {
  const Node& n = model_.graph().nodes[static_cast<size_t>(step.node)];
  const Value &in = value(step.in), &out = value(step.out);
  const int width = (n.map_width + 1) / 2;
  for_rows(step, thread, [&](const Segment& s) {
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
  for_rows(step, thread, [&](const Segment& s) {
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
    for (int c = 0; c < v.cols; c++)
      *to++ = v.codes
                  ? step.site.scale * static_cast<float>(codes(step.out, row)[c] - step.site.zero)
                  : floats(step.out, row)[c];
  trace_(step.result, t);
}

void Engine::trace_softmax(const Step& step, int image, int window, int head,
                           const HeadScratch& s) {
  const PlannedAttention& p = plan_.attentions[static_cast<size_t>(step.attention)];
  const AttentionGeometry& g = *p.geometry;
  const int64_t t = g.tokens, groups = int64_t{g.windows} * g.heads;
  if (softmax_trace_.data.empty()) softmax_trace_ = Tensor({batch_, groups * t, t});
  float* to = softmax_trace_.data.data() + (image * groups + window * g.heads + head) * t * t;
  for (int64_t i = 0; i < p.queries; i++)
    for (int64_t j = 0; j < t; j++) {
      const int64_t at = i * round_up(g.tokens, kDepthAlign) + j;
      to[i * t + j] = p.probability.scale * static_cast<float>(s.hi[at] * 256 + s.lo[at]) / 65535;
    }
}

}  // namespace vitrun
