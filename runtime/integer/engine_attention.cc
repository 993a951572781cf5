// Attention in integers: K and V of a head of a window packed once, then a block of queries at a
// time, all in cache; one implementation for ViT and Swin.
#include <algorithm>

#include "kernels/pack.h"
#include "runtime/integer/engine.h"

namespace vitrun {

struct Engine::Head {
  int image, window, head;
};

// T tokens, d channels, B queries of a block.
struct Engine::HeadScratch {
  uint8_t* rows;  // [T, d32] codes gathered from token order; then [B, d32] to be scattered to it
  uint8_t *k_panels, *v_panels;
  int32_t *k_sum, *v_sum;  // [T16], [d16]
  int32_t* offset;         // [T16], what is added to the columns of Q K^T
  int32_t* scores;         // [B, T16]: Q K^T, then what softmax makes of it
  uint8_t* planes;         // [B, T32] or [2 B, T32]: the high bytes of all rows, then the low ones
  int32_t *hi_sum, *lo_sum;
  float* unit;   // of a row's probabilities
  int32_t* raw;  // [2 B, d16]

  // Places the buffers from `base` on (which may be null) and returns their bytes.
  int64_t place(std::byte* base, const PlannedAttention& p, const AttentionGeometry& g) {
    int64_t used = 0;
    auto take = [&](auto*& pointer, int64_t count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = base ? reinterpret_cast<T*>(base + used) : nullptr;
      used += aligned(count * static_cast<int64_t>(sizeof(T)));
    };
    const int tokens = g.tokens, d = g.head_dim;
    const int64_t t = tokens, t16 = round_up(tokens, kColumns), t32 = round_up(tokens, kDepthAlign);
    const int64_t d16 = round_up(d, kColumns), d32 = round_up(d, kDepthAlign), b = p.block;
    take(rows, std::max<int64_t>(t, b) * d32);
    take(k_panels, pack_bytes(tokens, d, 8));
    take(v_panels, pack_bytes(d, tokens, 8));
    take(k_sum, t16);
    take(v_sum, d16);
    take(offset, t16);
    take(scores, b * t16);
    take(planes, p.planes() * b * t32);
    take(hi_sum, b);
    take(lo_sum, b);
    take(unit, b);
    take(raw, p.planes() * b * d16);
    return used;
  }
};

int64_t Engine::head_scratch_bytes(const Plan& plan, const PlannedAttention& p) {
  return HeadScratch().place(nullptr, p, plan.geometry(p));
}

// Threads share the queries of all heads, so that three heads keep two threads busy; a head that
// two threads share is packed by both.
void Engine::attention(const Step& step, int thread) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  HeadScratch scratch;
  scratch.place(this->scratch(thread), p, g);
  Range r = share(int64_t{batch_} * g.windows * g.heads * p.queries, thread, pool_.size());
  while (r.begin < r.end) {
    const int64_t h = r.begin / p.queries, window = h / g.heads;
    const Head head = {.image = static_cast<int>(window / g.windows),
                       .window = static_cast<int>(window % g.windows),
                       .head = static_cast<int>(h % g.heads)};
    const int first = static_cast<int>(r.begin - h * p.queries);
    const int end = static_cast<int>(std::min<int64_t>(p.queries, r.end - h * p.queries));
    const int blocks = (end - first + p.block - 1) / p.block;
    pack_head(step, head, scratch);
    for (int b = 0; b < blocks; b++) {
      const Range rows = share(end - first, b, blocks);
      block(step, head, first + static_cast<int>(rows.begin),
            static_cast<int>(rows.end - rows.begin), scratch);
    }
    r.begin += end - first;
  }
}

// Rows of codes in the order of a window, `count` bytes each, 0 up to `stride`.
static void gather(const uint8_t* x, int64_t x_stride, const int32_t* index, int rows, int count,
                   uint8_t* to, int64_t stride) {
  for (int i = 0; i < rows; i++, to += stride) {
    std::copy_n(x + index[i] * x_stride, count, to);
    std::fill(to + count, to + stride, uint8_t{0});
  }
}

// Packs K and V. Of the product of q - z_q and k - z_k only what differs from column to column is
// kept: softmax does not see the rest.
void Engine::pack_head(const Step& step, const Head& head, HeadScratch& s) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  const int d = g.head_dim, t = g.tokens, t16 = round_up(t, kColumns);
  const int d32 = round_up(d, kDepthAlign);
  const int32_t* index = g.index.data() + int64_t{head.window} * t;
  // The head's columns of k or v, in the order of the window, and their stride.
  const auto operand = [&](int v, int column) -> std::pair<const uint8_t*, int64_t> {
    const int64_t first = value(v).constant ? 0 : int64_t{head.image} * value(v).rows;
    const uint8_t* x = codes(v, first) + column + head.head * d;
    if (p.in_place) return {x, value(v).stride};
    gather(x, value(v).stride, index, t, d, s.rows, d32);
    return {s.rows, d32};
  };
  const auto [k, k_stride] = operand(step.in[1], p.k_column);
  kernels_.pack_rows(k, k_stride, t, d, p.k.code_bits(), s.k_panels, s.k_sum);
  const auto [v, v_stride] = operand(step.in[2], p.v_column);
  kernels_.pack_columns(v, v_stride, t, d, p.v.code_bits(), s.v_panels, s.v_sum);
  const int32_t q_zero = p.q.of_head(head.head).zero;
  for (int i = 0; i < t16; i++) s.offset[i] = -q_zero * s.k_sum[i];
}

// Queries first .. first + queries of a packed head, the result into its columns of the output.
void Engine::block(const Step& step, const Head& head, int first, int queries, HeadScratch& s) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  const Value &in = value(step.in[0]), &out = value(step.out);
  const int d = g.head_dim, d32 = round_up(d, kDepthAlign);
  const uint8_t* q = codes(step.in[0], in.constant ? 0 : int64_t{head.image} * in.rows) +
                     p.q_column + head.head * d;
  if (p.in_place) {
    attend(p, head, first, queries, q + first * in.stride, in.stride, s);
  } else {
    for (int i = 0; i < queries; i++) {
      const int32_t row = g.query_row(head.window, first + i);
      gather(q, in.stride, &row, 1, d, s.rows + int64_t{i} * d32, d32);
    }
    attend(p, head, first, queries, s.rows, d32, s);
  }
  if (trace_) trace_softmax(step, head, first, queries, s);
  multiply_values(p, queries, s);
  if (!out.codes) return mix_floats(step, head, first, queries, s);
  uint8_t* const y = codes(step.out, int64_t{head.image} * out.rows) + head.head * d;
  if (p.in_place) return mix(step, head, queries, y + first * out.stride, out.stride, s);
  mix(step, head, queries, s.rows, d32, s);
  for (int i = 0; i < queries; i++)
    if (const int32_t row = g.query_row(head.window, first + i); row < out.rows)  // not padding
      std::copy_n(s.rows + int64_t{i} * d32, d, y + row * out.stride);
}

// Q K^T in integers, scale, bias, mask, softmax, codes.
void Engine::attend(const PlannedAttention& p, const Head& head, int first, int queries,
                    const uint8_t* q, int64_t q_stride, HeadScratch& s) {
  const AttentionGeometry& g = plan().geometry(p);
  const int t = g.tokens, t16 = round_up(t, kColumns);
  GemmArgs a{};
  a.m = queries;
  a.n = t;
  a.k = g.head_dim;
  a.a = q;
  a.a_stride = q_stride;
  a.panels = s.k_panels;
  a.bits = 8;
  a.range_bits = p.k.code_bits();
  a.a_bits = p.q.code_bits();
  a.epilogue = Epilogue::kInt32;
  a.raw = s.scores;
  a.raw_stride = t16;
  kernels_.gemm(a);

  SoftmaxArgs m{};
  m.m = queries;
  m.n = t;
  m.products = s.scores;
  m.product_stride = t16;
  m.offset = s.offset;
  m.unit = p.q.of_head(head.head).scale * p.k.of_head(head.head).scale * g.scale;
  const int64_t of_head = p.bias_by_head ? int64_t{head.head} * g.queries : 0;
  m.bias = p.bias.empty() ? nullptr : p.bias.data() + (of_head + first) * t;
  m.bias_stride = t;
  m.region = g.region.empty() ? nullptr : g.region.data() + int64_t{head.window} * t;
  m.row_region = m.region ? m.region + first : nullptr;
  m.codes = p.codes;
  m.steps = p.steps ? &*p.steps : nullptr;
  m.scale = p.probability.scale;
  m.bits = p.probability.bits;
  m.rate = p.probability.rate;
  m.table = p.table.data();
  m.plane_stride = round_up(t, kDepthAlign);
  m.hi = s.planes;
  m.lo = s.planes + queries * m.plane_stride;
  m.hi_sum = s.hi_sum;
  m.lo_sum = s.lo_sum;
  kernels_.softmax_codes(m);
  set_units(p, queries, s);
}

// Sets what one unit of each row of probabilities is worth.
void Engine::set_units(const PlannedAttention& p, int queries, HeadScratch& s) {
  std::fill_n(s.unit, queries, fixed_point_unit(p.probability));
  if (!p.probability.by_sum()) return;
  for (int i = 0; i < queries; i++) {
    const int64_t sum = p.planes() == 2 ? int64_t{256} * s.hi_sum[i] + s.lo_sum[i] : s.hi_sum[i];
    if (sum > 0) s.unit[i] = 1 / static_cast<float>(sum);
  }
}

// attn V: one product of all planes with V's panels.
void Engine::multiply_values(const PlannedAttention& p, int queries, HeadScratch& s) {
  const AttentionGeometry& g = plan().geometry(p);
  GemmArgs a{};
  a.m = p.planes() * queries;
  a.n = g.head_dim;
  a.k = g.tokens;
  a.a = s.planes;
  a.a_stride = round_up(g.tokens, kDepthAlign);
  a.panels = s.v_panels;
  a.bits = a.a_bits = 8;
  a.range_bits = p.v.code_bits();
  a.epilogue = Epilogue::kInt32;
  a.raw = s.raw;
  a.raw_stride = round_up(g.head_dim, kColumns);
  kernels_.gemm(a);
}

// The planes' products, put together in float and quantized.
void Engine::mix(const Step& step, const Head& head, int queries, uint8_t* y, int64_t y_stride,
                 HeadScratch& s) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  const int d16 = round_up(g.head_dim, kColumns);
  const UniformRange of_v = p.v.of_head(head.head);
  for (int i = 0; i < queries; i++) s.unit[i] *= of_v.scale;
  const bool two = p.planes() == 2;
  kernels_.combine_planes(s.raw, two ? s.raw + int64_t{queries} * d16 : nullptr, d16, s.hi_sum,
                          two ? s.lo_sum : nullptr, of_v.zero - (1 << (p.v.code_bits() - 1)),
                          s.unit, queries, g.head_dim, step.params.quantizer(), y, y_stride);
}

// The same in float.
void Engine::mix_floats(const Step& step, const Head& head, int first, int queries,
                        HeadScratch& s) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  const Value& out = value(step.out);
  const int64_t d16 = round_up(g.head_dim, kColumns);
  const UniformRange of_v = p.v.of_head(head.head);
  const int32_t zero = of_v.zero - (1 << (p.v.code_bits() - 1));
  for (int i = 0; i < queries; i++) s.unit[i] *= of_v.scale;
  const bool two = p.planes() == 2;
  const auto sum = [&](int i, int rows, int64_t row) {
    const int32_t *hi = s.raw + i * d16, *lo = two ? hi + queries * d16 : nullptr;
    const int32_t* lo_sum = two ? s.lo_sum + i : nullptr;
    float* y = floats(step.out, int64_t{head.image} * out.rows + row) + head.head * g.head_dim;
    kernels_.sum_planes(hi, lo, d16, s.hi_sum + i, lo_sum, zero, s.unit + i, rows, g.head_dim, y,
                        out.stride);
  };
  if (p.in_place) return sum(0, queries, first);
  for (int i = 0; i < queries; i++)
    if (const int32_t row = g.query_row(head.window, first + i); row < out.rows)  // not padding
      sum(i, 1, row);
}

void Engine::trace_softmax(const Step& step, const Head& head, int first, int queries,
                           const HeadScratch& s) {
  const PlannedAttention& p = at(plan().attentions, step.attention);
  const AttentionGeometry& g = plan().geometry(p);
  const int64_t t = g.tokens, groups = int64_t{g.windows} * g.heads;
  const int64_t t32 = round_up(g.tokens, kDepthAlign);
  if (softmax_trace_.data.empty()) softmax_trace_ = Tensor({batch_, groups * g.queries, t});
  const int64_t group = head.image * groups + head.window * g.heads + head.head;
  float* to = softmax_trace_.data.data() + (group * g.queries + first) * t;
  for (int64_t i = 0; i < queries; i++)
    for (int64_t j = 0; j < t; j++) {
      const int64_t at = i * t32 + j;
      const int value =
          p.planes() == 2 ? s.planes[at] * 256 + s.planes[at + queries * t32] : s.planes[at];
      to[i * t + j] = s.unit[i] * static_cast<float>(value);
    }
}

}  // namespace vitrun
