#include "runtime/float/reference.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/base/error.h"
#include "runtime/choose_kernels.h"

namespace vitrun {
namespace {

// What a node's function sees. Every function fills `y` [batch, groups * rows, cols].
struct Call {
  const Graph& graph;
  const Node& node;
  const Tensor* in[2];  // null where the node has no such input
  const Tensor& images;
  const Weights& weights;
  const Kernels& kernels;
  ThreadPool& pool;
  Tensor& y;

  int64_t batch() const { return images.dims[0]; }
  const float* param(const std::string& name) const {
    return name.empty() ? nullptr : weights.at(name).data.data();
  }
  const AttentionGeometry& geometry() const {
    return graph.attention[static_cast<size_t>(node.attention)];
  }
};

// Rows of the inner two dimensions of a value, all images together.
int64_t rows_of(const Tensor& t) {
  return t.dims[0] * t.dims[1];
}
int64_t cols_of(const Tensor& t) {
  return t.dims[2];
}

// What OpenBLAS makes of a row depends on the row's place among those its kernels take together, 4
// to 24 of them: shares of so many rows give the same on any number of threads.
constexpr int64_t kRowsTogether = 48;

template <class Body>  // body(begin, end) over a thread's share of `count`
void parallel(ThreadPool& pool, int64_t count, const Body& body, int64_t grain = 1) {
  pool.run([&](int thread) {
    const Range r = share(count, thread, pool.size(), grain);
    if (r.begin < r.end) body(r.begin, r.end);
  });
}

void patches(const Call& c) {
  const int64_t p = c.graph.config.patch, height = c.images.dims[2], width = c.images.dims[3];
  const int64_t grid = c.node.map_width, per_image = c.node.rows;
  parallel(c.pool, c.batch() * per_image, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t image = row / per_image, py = row % per_image / grid,
                    px = row % per_image % grid;
      float* out = c.y.data.data() + row * c.node.cols;
      for (int64_t i = 0; i < 3 * p; i++) {  // channel and row of the patch
        const int64_t channel = i / p, line = py * p + i % p;
        const float* src =
            c.images.data.data() + ((image * 3 + channel) * height + line) * width + px * p;
        out = std::copy(src, src + p, out);
        if (c.graph.config.pixel_patches) to_pixels(c.graph.config.preprocess, channel, out - p, p);
      }
    }
  });
}

// y[m, n] = x[m, k] W[n, k]^T + bias
void affine(const float* x, const float* w, const float* bias, int64_t m, int n, int k, float* y) {
  for (int64_t i = 0; i < m; i++) {
    if (bias)
      std::copy(bias, bias + n, y + i * n);
    else
      std::fill(y + i * n, y + (i + 1) * n, 0.f);
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), n, k, 1.f, x, k, w, k,
              1.f, y, n);
}

void linear(const Call& c) {
  const Tensor& x = *c.in[0];
  const int64_t tokens = x.dims[1];
  const int n = c.node.cols, k = static_cast<int>(cols_of(x));
  const float* w = c.param(c.node.weight);
  const float* bias = c.param(c.node.bias);
  const int64_t extra = c.node.pad_row;
  const auto product = [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one product per image where pad rows lie between the images
      const int64_t image = begin / tokens;
      const int64_t stop = extra ? std::min(end, (image + 1) * tokens) : end;
      affine(x.data.data() + begin * k, w, bias, stop - begin, n, k,
             c.y.data.data() + (begin + image * extra) * n);
      begin = stop;
    }
  };
  parallel(c.pool, rows_of(x), product, extra ? tokens : kRowsTogether);
  for (int64_t image = 0; extra && image < c.batch(); image++)
    if (bias) std::copy(bias, bias + n, c.y.data.data() + ((image + 1) * (tokens + 1) - 1) * n);
}

void tokens(const Call& c) {
  const ModelConfig& config = c.graph.config;
  const int64_t dim = c.node.cols, patches = c.in[0]->dims[1], prefix = c.node.rows - patches;
  const int64_t first_with_pos = config.pos_embed_has_prefix ? 0 : prefix;
  const float* pos = c.param(c.node.weight);
  for (int64_t image = 0; image < c.batch(); image++) {
    float* y = c.y.data.data() + image * c.node.size();
    if (prefix > 0) std::copy_n(c.param("cls_token"), dim, y);
    if (prefix > 1) std::copy_n(c.param("dist_token"), dim, y + dim);
    std::copy_n(c.in[0]->data.data() + image * patches * dim, patches * dim, y + prefix * dim);
    float* with_pos = y + first_with_pos * dim;
    for (int64_t i = 0; i < (c.node.rows - first_with_pos) * dim; i++) with_pos[i] += pos[i];
  }
}

void normalize_row(const float* x, const float* gamma, const float* beta, int64_t n, float eps,
                   float* y) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  const float rstd = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + eps));
  const float centre = static_cast<float>(mean);
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - centre) * rstd * gamma[i] + beta[i];
}

void layernorm(const Call& c) {
  const int64_t n = c.node.cols;
  const float *gamma = c.param(c.node.weight), *beta = c.param(c.node.bias);
  parallel(c.pool, rows_of(c.y), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * n; i < end * n; i += n)
      normalize_row(c.in[0]->data.data() + i, gamma, beta, n, c.graph.config.norm_eps,
                    c.y.data.data() + i);
  });
}

void layer_scale(const Call& c) {
  const float* gamma = c.param(c.node.weight);
  for (size_t i = 0; i < c.y.data.size(); i++)
    c.y.data[i] = c.in[0]->data[i] * gamma[i % static_cast<size_t>(c.node.cols)];
}

// Copies one head of a window from the qkv value of an image; part 0, 1, 2 is q, k, v.
void gather_head(const AttentionGeometry& g, const float* qkv, int window, int head, int part,
                 float* out) {
  const int64_t dim = int64_t{g.heads} * g.head_dim;
  for (int t = 0; t < g.tokens; t++) {
    const int64_t row = g.index[static_cast<size_t>(window * g.tokens + t)];
    out = std::copy_n(qkv + (row * 3 + part) * dim + head * g.head_dim, g.head_dim, out);
  }
}

// Calls body(image, group, window, head, scratch) for every head of every window, `floats` of
// scratch each thread.
template <class Body>
void for_each_head(const Call& c, int64_t floats, const Body& body) {
  const AttentionGeometry& g = c.geometry();
  const int64_t groups = int64_t{g.windows} * g.heads;
  parallel(c.pool, c.batch() * groups, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(floats));
    for (int64_t i = begin; i < end; i++) {
      const int window = static_cast<int>(i % groups / g.heads),
                head = static_cast<int>(i % g.heads);
      body(i / groups, i, window, head, scratch.data());
    }
  });
}

void scores(const Call& c) {
  const AttentionGeometry& g = c.geometry();
  const int t = g.tokens, d = g.head_dim;
  const int64_t per_image = c.in[0]->dims[1] * c.in[0]->dims[2];
  for_each_head(c, int64_t{2} * t * d,
                [&](int64_t image, int64_t group, int window, int head, float* q) {
                  float* k = q + t * d;
                  gather_head(g, c.in[0]->data.data() + image * per_image, window, head, 0, q);
                  gather_head(g, c.in[0]->data.data() + image * per_image, window, head, 1, k);
                  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, t, d, g.scale, q, d, k, d,
                              0.f, c.y.data.data() + group * t * t, t);
                });
}

// Bias and mask of row `a`, then softmax, of one head of one window.
void softmax_row(const Kernels& kernels, const AttentionGeometry& g, const float* table, int window,
                 int head, int a, const float* x, float* y) {
  const int t = g.tokens;
  const uint8_t* region = g.region.empty() ? nullptr : g.region.data() + window * t;
  float top = -INFINITY;
  for (int b = 0; b < t; b++) {
    y[b] = x[b];
    if (table) y[b] += table[g.bias_index[static_cast<size_t>(a * t + b)] * g.heads + head];
    if (region && region[a] != region[b]) y[b] -= 100;
    top = std::max(top, y[b]);
  }
  double sum = 0;
  for (int b = 0; b < t; b++) y[b] -= top;
  kernels.exp(y, t, y);
  for (int b = 0; b < t; b++) sum += y[b];
  const float scale = static_cast<float>(1 / sum);
  for (int b = 0; b < t; b++) y[b] *= scale;
}

void softmax(const Call& c) {
  const AttentionGeometry& g = c.geometry();
  const float* table = c.param(c.node.weight);
  for_each_head(c, 0, [&](int64_t, int64_t group, int window, int head, float*) {
    for (int a = 0; a < g.tokens; a++) {
      const int64_t at = (group * g.tokens + a) * g.tokens;
      softmax_row(c.kernels, g, table, window, head, a, c.in[0]->data.data() + at,
                  c.y.data.data() + at);
    }
  });
}

void mix(const Call& c) {
  const AttentionGeometry& g = c.geometry();
  const int t = g.tokens, d = g.head_dim;
  const int64_t dim = c.node.cols, qkv_size = c.in[1]->dims[1] * c.in[1]->dims[2];
  for_each_head(c, int64_t{2} * t * d,
                [&](int64_t image, int64_t group, int window, int head, float* v) {
                  float* out = v + t * d;
                  gather_head(g, c.in[1]->data.data() + image * qkv_size, window, head, 2, v);
                  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, d, t, 1.f,
                              c.in[0]->data.data() + group * t * t, t, v, d, 0.f, out, d);
                  for (int a = 0; a < t; a++) {
                    const int64_t row = g.index[static_cast<size_t>(window * t + a)];
                    if (row < c.node.rows)  // not padding
                      std::copy_n(out + a * d, d,
                                  c.y.data.data() + (image * c.node.rows + row) * dim + head * d);
                  }
                });
}

void gelu(const Call& c) {
  parallel(c.pool, static_cast<int64_t>(c.y.data.size()), [&](int64_t begin, int64_t end) {
    float* y = c.y.data.data();
    c.kernels.gelu(c.in[0]->data.data() + begin, end - begin, y + begin);
    if (c.node.limit < INFINITY)
      for (int64_t i = begin; i < end; i++) y[i] = std::min(y[i], c.node.limit);
  });
}

void add(const Call& c) {
  for (size_t i = 0; i < c.y.data.size(); i++)
    c.y.data[i] = c.node.alpha * (c.in[0]->data[i] + c.in[1]->data[i]);
}

void merge(const Call& c) {
  const int height = c.node.map_height, width = c.node.map_width;
  const int64_t dim = c.in[0]->dims[2];
  float* out = c.y.data.data();
  for (int64_t image = 0; image < c.batch(); image++)
    for (int y = 0; y < height; y += 2)
      for (int x = 0; x < width; x += 2)
        for (int i = 0; i < 4; i++, out += dim) {
          const int row = y + i % 2, col = x + i / 2;
          if (row < height &&
              col < width)  // an odd map is padded with zeros, which y already holds
            std::copy_n(c.in[0]->data.data() + ((image * height + row) * width + col) * dim, dim,
                        out);
        }
}

void select(const Call& c) {
  const int64_t dim = c.node.cols, tokens = c.in[0]->dims[1];
  for (int64_t image = 0; image < c.batch(); image++)
    std::copy_n(c.in[0]->data.data() + (image * tokens + c.node.select) * dim, dim,
                c.y.data.data() + image * dim);
}

void mean(const Call& c) {
  const int64_t dim = c.node.cols, tokens = c.in[0]->dims[1];
  for (int64_t i = 0; i < c.batch() * dim; i++) {
    double sum = 0;
    for (int64_t t = 0; t < tokens; t++)
      sum += c.in[0]->data[static_cast<size_t>((i / dim * tokens + t) * dim + i % dim)];
    c.y.data[static_cast<size_t>(i)] = static_cast<float>(sum / static_cast<double>(tokens));
  }
}

void forward(const Call& c) {
  switch (c.node.kind) {
    case NodeKind::kPatches:
      return patches(c);
    case NodeKind::kLinear:
      return linear(c);
    case NodeKind::kTokens:
      return tokens(c);
    case NodeKind::kLayerNorm:
      return layernorm(c);
    case NodeKind::kLayerScale:
      return layer_scale(c);
    case NodeKind::kScores:
      return scores(c);
    case NodeKind::kSoftmax:
      return softmax(c);
    case NodeKind::kMix:
      return mix(c);
    case NodeKind::kGelu:
      return gelu(c);
    case NodeKind::kAdd:
      return add(c);
    case NodeKind::kMerge:
      return merge(c);
    case NodeKind::kSelect:
      return select(c);
    case NodeKind::kMean:
      return mean(c);
  }
}

}  // namespace

Reference::Reference(const Graph& graph, const Weights& weights, int threads)
    : graph_(graph),
      weights_(weights),
      kernels_(choose_kernels()),
      last_use_(graph.nodes.size(), 0),
      pool_(threads) {
  openblas_set_num_threads(1);  // the pool splits the rows; OpenBLAS must not split them again
  for (size_t i = 0; i < graph.nodes.size(); i++)
    for (int in : graph.nodes[i].in)
      if (in >= 0) last_use_[static_cast<size_t>(in)] = static_cast<int>(i);
}

template <class Value>
Tensor Reference::evaluate(const Node& node, const Tensor& images, const Value& value) {
  Tensor y({images.dims[0], int64_t{node.groups} * node.rows, node.cols});
  auto input = [&](int i) { return node.in[i] < 0 ? nullptr : &value(node.in[i]); };
  forward({graph_, node, {input(0), input(1)}, images, weights_, kernels_, pool_, y});
  return y;
}

Tensor Reference::multiply(const Tensor& x, const Tensor& weight) {
  const int k = static_cast<int>(cols_of(x)), n = static_cast<int>(weight.dims[0]);
  Tensor y({x.dims[0], x.dims[1], n});
  const float* w = weight.data.data();
  const auto product = [&](int64_t begin, int64_t end) {
    affine(x.data.data() + begin * k, w, nullptr, end - begin, n, k, y.data.data() + begin * n);
  };
  parallel(pool_, rows_of(x), product, kRowsTogether);
  return y;
}

std::vector<Tensor> Reference::run_nodes(const Tensor& images, const Observer& observe,
                                         int keep_from) {
  const ModelConfig& config = graph_.config;
  const Dims want = {images.dims.empty() ? 1 : images.dims[0], 3, config.image_height,
                     config.image_width};
  if (images.dims != want || want[0] < 1)
    fail("the model takes images ", to_string({1, 3, want[2], want[3]}), ", got ",
         to_string(images.dims));
  std::vector<Tensor> values(graph_.nodes.size());
  for (size_t i = 0; i < values.size(); i++) {
    const Node& node = graph_.nodes[i];
    values[i] = evaluate(node, images,
                         [&](int in) -> const Tensor& { return values[static_cast<size_t>(in)]; });
    if (observe) observe(static_cast<int>(i), values[i]);
    for (int in : node.in)
      if (in >= 0 && in < keep_from && last_use_[static_cast<size_t>(in)] == static_cast<int>(i))
        values[static_cast<size_t>(in)] = {};
  }
  values.back().dims = {images.dims[0], config.num_classes};
  return values;
}

Tensor Reference::run_between(const Tensor& images, const std::vector<Tensor>& values,
                              const std::map<int, Tensor>& replaced, int to) {
  std::map<int, Tensor> changed;
  const auto find = [&](int node) -> const Tensor* {
    if (const auto found = replaced.find(node); found != replaced.end()) return &found->second;
    const auto found = changed.find(node);
    return found != changed.end() ? &found->second : nullptr;
  };
  std::vector<bool> needed(static_cast<size_t>(to) + 1);
  needed[static_cast<size_t>(to)] = true;
  for (int i = to; i >= 0; i--) {
    if (!needed[static_cast<size_t>(i)] || replaced.contains(i)) continue;
    for (int in : graph_.nodes[static_cast<size_t>(i)].in)
      if (in >= 0) needed[static_cast<size_t>(in)] = true;
  }
  for (int i = 0; i <= to; i++) {
    const Node& node = graph_.nodes[static_cast<size_t>(i)];
    if (!needed[static_cast<size_t>(i)] || replaced.contains(i)) continue;
    if (std::any_of(node.in, node.in + 2, [&](int in) { return in >= 0 && find(in); }))
      changed[i] = evaluate(node, images, [&](int in) -> const Tensor& {
        const Tensor* other = find(in);
        return other ? *other : values[static_cast<size_t>(in)];
      });
  }
  return std::move(changed.at(to));
}

Tensor Reference::run(const Tensor& images, const Observer& observe) {
  return std::move(run_nodes(images, observe, static_cast<int>(graph_.nodes.size())).back());
}

std::vector<Tensor> Reference::run_keeping(const Tensor& images, int first) {
  return run_nodes(images, {}, first);
}

}  // namespace vitrun
