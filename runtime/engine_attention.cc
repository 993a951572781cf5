// Attention in integers, a head of a window at a time, all in cache: one implementation for ViT and
// Swin.
#include <algorithm>

#include "kernels/pack.h"
#include "runtime/engine.h"

namespace vitrun {

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
  uint8_t* planes;  // [2 T, T32]: the high bytes of all rows, then the low ones
  int32_t *hi_sum, *lo_sum;
  int32_t* raw;  // [2 T, d16]

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
    take(planes, 2 * t * t32);
    take(hi_sum, t);
    take(lo_sum, t);
    take(raw, 2 * t * d16);
    return used;
  }
};

int64_t Engine::head_scratch_bytes(const AttentionGeometry& g) {
  return HeadScratch().place(nullptr, g.tokens, g.head_dim);
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
  a.range_bits = p.k.bits;
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
  m.plane_stride = round_up(t, kDepthAlign);
  m.hi = s.planes;
  m.lo = s.planes + p.queries * m.plane_stride;
  m.hi_sum = s.hi_sum;
  m.lo_sum = s.lo_sum;
  kernels_.softmax_codes(m);
}

// attn V: one product of both planes with V's panels, put together in float.
void Engine::mix(const PlannedAttention& p, HeadScratch& s, float* y, int64_t y_stride) {
  const AttentionGeometry& g = *p.geometry;
  const int d16 = round_up(g.head_dim, kColumns);
  GemmArgs a{};
  a.m = 2 * p.queries;
  a.n = g.head_dim;
  a.k = g.tokens;
  a.a = s.planes;
  a.a_stride = round_up(g.tokens, kDepthAlign);
  a.panels = s.panels;
  a.bits = a.a_bits = 8;
  a.range_bits = p.v.bits;
  a.epilogue = Epilogue::kInt32;
  a.raw = s.raw;
  a.raw_stride = d16;
  kernels_.gemm(a);
  kernels_.combine_planes(s.raw, s.raw + int64_t{p.queries} * d16, d16, s.hi_sum, s.lo_sum,
                          p.v.zero - (1 << (p.v.bits - 1)),
                          p.v.scale * (p.probability.scale / 65535), p.queries, g.head_dim, y,
                          y_stride);
}

void Engine::trace_softmax(const Step& step, int image, int window, int head,
                           const HeadScratch& s) {
  const PlannedAttention& p = plan_.attentions[static_cast<size_t>(step.attention)];
  const AttentionGeometry& g = *p.geometry;
  const int64_t t = g.tokens, groups = int64_t{g.windows} * g.heads;
  const int64_t t32 = round_up(g.tokens, kDepthAlign);
  if (softmax_trace_.data.empty()) softmax_trace_ = Tensor({batch_, groups * t, t});
  float* to = softmax_trace_.data.data() + (image * groups + window * g.heads + head) * t * t;
  for (int64_t i = 0; i < p.queries; i++)
    for (int64_t j = 0; j < t; j++) {
      const int64_t at = i * t32 + j;
      to[i * t + j] = p.probability.scale *
                      static_cast<float>(s.planes[at] * 256 + s.planes[at + p.queries * t32]) /
                      65535;
    }
}

}  // namespace vitrun
