// Fuzz target: a graph drawn from the bytes, its attributes and parameters near sane ones, goes
// through a .qbin into an engine. What is accepted must run, and give the same bits with another
// ISA, thread count, batch and set of rows.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "runtime/integer/engine.h"
#include "tests/fuzz/fuzz_target.h"

namespace vitrun {
namespace {

using A = Attribute;
using K = NodeKind;

constexpr int64_t kMostBytes = 2 << 20;  // of an engine's buffers
constexpr int kMostNodes = 40;

class Draw {
 public:
  explicit Draw(Choices& choices) : c_(choices), state_(choices.number<uint32_t>() * 2 + 1) {}

  void build() {
    image();
    patches();
    for (int left = c_.between(1, 8); left > 0 && graph_.size() < kMostNodes; left--) piece();
    for (int left = c_.between(1, 3); left > 0; left--)
      graph_.outputs.push_back({cat("out", left), output()});
    if (shape(graph_.outputs.back().node).rows == 1 || rarely())
      graph_.outputs.back().name = "logits";
  }

  std::vector<uint8_t> file() const {
    QbinWriter w;
    w.set("model.arch", std::string("fuzz"));
    w.set("preprocess.resize", std::string("bicubic"));
    w.set("preprocess.squash", int64_t{0});
    w.set("preprocess.crop_pct", 0.9);
    w.set("preprocess.mean", std::vector<double>{.5, .5, .5});
    w.set("preprocess.std", std::vector<double>{.5, .5, .5});
    w.add("main", graph_);
    for (const auto& t : tensors_) w.add(t.name, t.dtype, t.bits, t.dims, t.bytes);
    return w.serialize();
  }

 private:
  struct Blob {
    std::string name;
    DType dtype;
    int bits;
    Dims dims;
    std::vector<uint8_t> bytes;
  };

  bool rarely() { return c_.below(24) == 23; }
  // Mostly x.
  int near(int x) { return rarely() ? c_.between(0, 9) - 1 : x; }
  uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33);
  }
  float real(float scale) { return scale * (static_cast<float>(next() % 2001) / 1000 - 1); }

  int count() const { return graph_.size(); }
  int any() { return c_.below(count()); }
  // Mostly a node whose value is floats, from the last one, or from some before it, backwards.
  int floats_at(int node) {
    while (node > 0 && !rarely() &&
           (graph_.is(node, K::kQuantize) || graph_.is(node, K::kScores) ||
            graph_.is(node, K::kSoftmax) || graph_.is(node, K::kConst)))
      node--;
    return std::max(node, 0);
  }
  int recent() { return floats_at(count() - 1 - (c_.below(3) ? 0 : c_.below(5))); }
  int output() { return floats_at(c_.below(3) ? count() - 1 : any()); }
  const Shape& shape(int i) {
    shapes_ = infer_shapes(graph_);
    return shapes_[i];
  }

  // A node that infer_shapes() mostly accepts; else it goes again, but now and then. Returns its
  // number, or -1.
  int add(K kind, std::vector<int> in, std::map<A, double> attributes, std::string weight = "",
          std::string bias = "") {
    Node n;
    n.kind = kind;
    n.name = cat("n", count());
    n.in = std::move(in);
    for (int i : n.in)
      if (i < 0) throw Error("no input");
    n.attributes = std::move(attributes);
    if (rarely()) n.attributes[static_cast<A>(c_.below(kAttributes))] = c_.below(20);
    if (rarely() && !n.attributes.empty()) n.attributes.begin()->second += c_.between(-2, 2);
    if (rarely() && !n.in.empty()) n.in.back() = any();
    n.weight = std::move(weight);
    n.bias = std::move(bias);
    graph_.nodes.push_back(std::move(n));
    try {
      infer_shapes(graph_);
    } catch (const Error&) {
      if (c_.below(200) != 199) {
        graph_.nodes.pop_back();
        throw;
      }
    }
    return count() - 1;
  }

  std::string blob(DType dtype, int bits, Dims dims, std::vector<uint8_t> bytes,
                   const std::string& suffix = "") {
    const std::string name = cat("t", graph_.nodes.size(), ".", tensors_.size()) + suffix;
    graph_.params.push_back({name, dims});
    tensors_.push_back({name, dtype, bits, std::move(dims), std::move(bytes)});
    return name;
  }
  template <class T>
  static std::vector<uint8_t> bytes_of(const std::vector<T>& v) {
    const auto* p = reinterpret_cast<const uint8_t*>(v.data());
    return {p, p + v.size() * sizeof(T)};
  }
  std::string floats(Dims dims, float scale, float offset = 0) {
    if (rarely()) dims[0]++;
    std::vector<float> v(static_cast<size_t>(element_count(dims)));
    for (float& x : v) x = real(scale) + offset;
    return blob(DType::kF32, 0, dims, bytes_of(v));
  }
  std::string packed(int n, int k) {
    const int bits = c_.between(kMinBits, kMaxBits);
    std::vector<uint8_t> codes(static_cast<size_t>(n) * static_cast<size_t>(k));
    for (uint8_t& code : codes) code = static_cast<uint8_t>(next() & ((1u << bits) - 1));
    std::vector<uint8_t> panels(static_cast<size_t>(pack_bytes(n, k, bits)));
    pack_codes(codes.data(), n, k, bits, panels.data());
    std::vector<int32_t> sums(static_cast<size_t>(round_up(n, kColumns)));
    sum_columns(codes.data(), n, k, bits, sums.data());
    sums.resize(static_cast<size_t>(n));
    std::vector<float> scale(static_cast<size_t>(n));
    for (float& s : scale) s = 0.01f * static_cast<float>(1 + next() % 9);
    std::vector<int8_t> zero(static_cast<size_t>(n));
    for (int8_t& z : zero) z = static_cast<int8_t>(next() % 9) - 4;
    const std::string name = blob(DType::kPacked, bits, {n, k}, panels);
    const auto beside = [&](const char* suffix, DType dtype, std::vector<uint8_t> bytes) {
      tensors_.push_back({name + suffix, dtype, 0, {n}, std::move(bytes)});
    };
    beside("_scale", DType::kF32, bytes_of(scale));
    beside("_zero", DType::kI8, bytes_of(zero));
    beside("_sum", DType::kI32, bytes_of(sums));
    return name;
  }

  int image() {
    const int height = c_.between(1, 9), width = c_.between(1, 9);
    const bool scaled = c_.below(4) == 0;
    return add(K::kInput, {},
               {{A::kChannels, near(3)}, {A::kHeight, height}, {A::kWidth, width}, {A::kPlanar, 1}},
               scaled ? floats({3}, 1) : "", scaled ? floats({3}, 1) : "");
  }
  int quantize(int x, int begin = -1, int end = -1, int heads = 0) {
    std::map<A, double> a = {{A::kBits, c_.between(3, 8)},
                             {A::kScale, 0.001 * (1 + c_.below(200))},
                             {A::kZero, c_.below(4) ? c_.below(8) : c_.between(-200, 55)}};
    if (begin >= 0) a[A::kBegin] = begin, a[A::kEnd] = end;
    if (rarely()) a[A::kScale] = std::ldexp(1.0, c_.between(-120, 120));
    std::string weight, bias;
    if (c_.below(8) == 0) {
      const int bits = static_cast<int>(a[A::kBits]), runs = c_.between(1, (1 << bits) - 1);
      std::vector<uint8_t> levels;
      for (int i = 0, first = 0, level = 0; i < runs && first < 256 && level < 256; i++) {
        levels.push_back(static_cast<uint8_t>(first));
        levels.push_back(static_cast<uint8_t>(level));
        first += 1 + static_cast<int>(next() % 40), level += 1 + static_cast<int>(next() % 40);
      }
      const auto rows = static_cast<int64_t>(levels.size() / 2);
      weight = blob(DType::kU8, 0, {rows, 2}, levels);
    } else if (heads > 0 && c_.below(3) == 0) {
      std::vector<float> ranges;
      heads = std::max(near(heads), 1);
      for (int h = 0; h < heads; h++) ranges.push_back(0.01f * static_cast<float>(1 + next() % 50));
      for (int h = 0; h < heads; h++) ranges.push_back(static_cast<float>(next() % 16));
      bias = blob(DType::kF32, 0, {2, heads}, bytes_of(ranges));
    }
    return add(K::kQuantize, {x}, a, weight, bias);
  }
  int linear(int x, int cols, int window = 0) {
    std::map<A, double> a;
    if (window) a[A::kPadToWindow] = window;
    const std::string weight = packed(std::max(1, near(cols)), shape(x).cols);
    return add(K::kLinear, {x}, a, weight, c_.below(4) ? floats({cols}, 1) : "");
  }
  int some_cols() { return c_.below(3) ? 1 << c_.between(0, 5) : c_.between(1, 40); }

  int window(int x, int order) {
    const int kernel = c_.between(1, 4);
    return add(K::kWindow, {x},
               {{A::kKernelHeight, near(kernel)},
                {A::kKernelWidth, near(c_.below(4) ? kernel : c_.between(1, 4))},
                {A::kStride, c_.between(1, 4)},
                {A::kPadding, c_.below(kernel)},
                {A::kCeil, c_.below(2)},
                {A::kOrder, near(order)}});
  }
  void patches() {
    const int x = linear(quantize(window(0, 0)), some_cols());
    if (c_.below(2)) return;
    const Shape s = shape(x);
    const auto constant = [&](int rows) {
      return add(K::kConst, {}, {}, floats({1, rows, s.cols}, 1));
    };
    const int prefix = c_.below(3);
    if (c_.below(2)) {
      const int all = prefix ? add(K::kConcat, {constant(prefix), x}, {}) : x;
      add(K::kAdd, {all, constant(s.rows + prefix)}, {});
    } else {
      const int sum = add(K::kAdd, {x, constant(s.rows)}, {});
      if (prefix) add(K::kConcat, {constant(prefix), sum}, {});
    }
  }
  void attention() {
    const int x = quantize(recent());
    const Shape s = shape(x);
    const int heads = c_.between(1, 3), dim = c_.below(3) ? 1 << c_.between(0, 5) : 32;
    const int window = s.height > 0 && c_.below(2) ? c_.between(1, 4) : 0;
    const int cols = heads * dim;
    const bool fused = c_.below(4) > 0;
    int q, k, v;
    if (fused) {
      const int qkv = linear(x, 3 * cols, window);
      q = quantize(qkv, 0, cols, heads);
      k = quantize(qkv, cols, 2 * cols, heads);
      v = quantize(qkv, 2 * cols, near(3 * cols), heads);
    } else {
      q = quantize(linear(x, cols, window), -1, -1, heads);
      k = quantize(linear(c_.below(2) ? x : quantize(any()), cols, window), -1, -1, heads);
      v = c_.below(4) ? quantize(linear(x, cols, window), -1, -1, heads) : k;
    }
    std::map<A, double> a = {
        {A::kHeads, near(heads)}, {A::kHeadDim, near(dim)}, {A::kScale, 0.1 * c_.between(1, 9)}};
    if (window) a[A::kWindow] = window, a[A::kShift] = c_.below(window);
    const int scores = add(K::kScores, {q, k}, a);
    attend(scores, v, heads);
    if (c_.below(6) == 0) attend(scores, v, heads);
  }
  void attend(int scores, int v, int heads) {
    const Shape s = shape(scores);
    std::map<A, double> a;
    if (c_.below(6) == 0) a[A::kCausal] = 1;
    std::string table;
    std::vector<int> in = {scores};
    const AttentionGeometry& g = shapes_.geometry(scores);
    if (!g.whole() && c_.below(2))
      table = floats({(2 * g.height - 1) * (2 * g.width - 1), heads}, 1);
    else if (g.whole() && c_.below(4) == 0)
      in.push_back(add(K::kConst, {}, {}, floats({c_.below(2) ? 1 : s.groups, s.rows, s.cols}, 1)));
    const int softmax = add(K::kSoftmax, in, a, table);
    std::map<A, double> p = {{A::kBits, c_.between(3, 8)}, {A::kScale, 0.1 * c_.between(1, 10)}};
    if (c_.below(3) == 0) p[A::kTwin] = c_.between(CodeParams::kCarriedCodes, 4);
    if (c_.below(3) == 0) p[A::kRate] = 0.5 * c_.between(1, 7);
    if (c_.below(4) == 0) p[A::kScale] = 0.002 * c_.between(1, 10);
    const int mixed = add(K::kMix, {add(K::kQuantize, {softmax}, p), v}, {});
    residual(linear(quantize(mixed), some_cols()));
  }
  // Adds a value of the same shape, if there is one.
  void residual(int x) {
    const Shape s = shape(x);
    const int first = c_.below(count());
    for (int i = first; i < first + count(); i++) {
      const Shape o = shapes_[i % count()];
      if (i % count() != x && o.size() == s.size() && o.rows == s.rows && c_.below(3)) {
        add(K::kAdd, c_.below(2) ? std::vector{x, i % count()} : std::vector{i % count(), x}, {});
        return;
      }
    }
  }
  void piece() {
    try {
      draw_piece();
    } catch (const Error&) {
    }
  }
  void draw_piece() {
    const int x = recent();
    const Shape s = shape(x);
    switch (c_.below(16)) {
      case 0:
      case 1:
        return attention();
      case 2:
        return residual(linear(quantize(x), c_.below(2) ? s.cols : some_cols()));
      case 3: {
        const int fc1 = linear(quantize(x), some_cols());
        const int act = add(K::kAct, {fc1}, {{A::kType, c_.below(2) ? 0 : c_.below(6)}});
        return residual(linear(quantize(act), s.cols));
      }
      case 4:
        residual(linear(window(quantize(x), c_.below(3)), some_cols()));
        return;
      case 5: {
        const int type = c_.below(2) ? 0 : c_.below(3);
        const int n = add(K::kNorm, {x}, {{A::kType, type}, {A::kEpsilon, 1e-5 * c_.below(3)}},
                          type == 0 || c_.below(2) ? floats({s.cols}, 1, 1) : "",
                          type == 0 || c_.below(2) ? floats({s.cols}, 1) : "");
        if (c_.below(2)) linear(quantize(n), some_cols());
        return;
      }
      case 6:
        add(K::kAct, {x}, {{A::kType, c_.below(6)}, {A::kLimit, c_.below(7)}});
        return;
      case 7:
        add(c_.below(2) ? K::kMul : K::kAdd, {x, c_.below(2) ? any() : x}, {});
        return;
      case 8: {
        std::vector<int> in = {x};
        for (int left = c_.below(4); left > 0; left--) in.push_back(c_.below(2) ? any() : x);
        add(K::kConcat, in, {{A::kAxis, c_.below(2)}});
        return;
      }
      case 9: {
        const bool columns = c_.below(3) == 0;
        const int length = std::max(1, columns ? s.cols : s.rows),
                  begin = c_.below(std::min(length, 200));
        add(K::kSlice, {x},
            {{A::kAxis, columns},
             {A::kBegin, begin},
             {A::kEnd, near(begin + 1 + c_.below(std::min(length - begin, 200)))}});
        return;
      }
      case 10:
        add(K::kResize, {x},
            {{A::kType, c_.below(2)},
             {A::kHeight, c_.between(1, 9)},
             {A::kWidth, c_.between(1, 9)}});
        return;
      case 11:
        if (c_.below(2)) {
          add(K::kPool, {x}, {{A::kType, c_.below(2)}, {A::kBegin, c_.below(3)}});
        } else {
          const int kernel = c_.between(1, 4);
          add(K::kPool, {x},
              {{A::kType, c_.below(2)},
               {A::kKernelHeight, kernel},
               {A::kKernelWidth, near(kernel)},
               {A::kStride, c_.between(1, 4)},
               {A::kPadding, c_.below(kernel)},
               {A::kCeil, c_.below(2)}});
        }
        return;
      case 12: {
        const int kernel = c_.between(1, 3), channels = c_.between(1, 8);
        const int wide = linear(quantize(x), kernel * kernel * channels);
        add(K::kUnwindow, {wide},
            {{A::kKernelHeight, kernel},
             {A::kKernelWidth, kernel},
             {A::kStride, c_.between(1, kernel)},
             {A::kPadding, c_.below((kernel + 1) / 2)}},
            "", c_.below(2) ? floats({channels}, 1) : "");
        return;
      }
      case 13: {
        const int dim = 2 * c_.between(1, 4), rows = std::max(1, s.rows - c_.below(2));
        const int angles = add(K::kConst, {}, {}, floats({rows, dim}, 1));
        add(K::kRope, {x, angles},
            {{A::kHeadDim, dim}, {A::kType, c_.below(2)}, {A::kEnd, s.cols / dim * dim}});
        return;
      }
      case 14:
        window(x, c_.below(3));
        return;
      default: {
        std::vector<int> in;
        for (int left = c_.below(3); left > 0; left--) in.push_back(any());
        std::map<A, double> a;
        for (int left = c_.below(5); left > 0; left--)
          a[static_cast<A>(c_.below(kAttributes))] = c_.between(-1, 8) * (rarely() ? 0.5 : 1.0);
        add(static_cast<K>(c_.below(kNodeKinds)), in, a,
            c_.below(2) && !graph_.params.empty()
                ? at(graph_.params, c_.below(std::min(count_of(graph_.params), 200))).name
                : "");
      }
    }
  }

  Choices& c_;
  uint64_t state_;
  Graph graph_;
  Shapes shapes_;
  std::vector<Blob> tensors_;
};

class AlignedCopy {
 public:
  explicit AlignedCopy(const std::vector<uint8_t>& bytes) : size_(bytes.size()) {
    data_ = static_cast<uint8_t*>(::operator new (size_, std::align_val_t{64}));
    std::copy(bytes.begin(), bytes.end(), data_);
  }
  ~AlignedCopy() { ::operator delete (data_, std::align_val_t{64}); }
  AlignedCopy(const AlignedCopy&) = delete;
  AlignedCopy& operator=(const AlignedCopy&) = delete;
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  uint8_t* data_;
  size_t size_;
};

using Values = std::vector<std::vector<float>>;  // of the outputs, for all images

Values run(const QuantGraph& graph, EngineOptions options, const std::vector<float>& images,
           int batch) {
  options.max_batch = batch;
  Engine engine(graph, options);
  Values all;
  const auto image = images.size() / 2;  // of two images
  std::vector<std::vector<float>> part;
  std::vector<float*> pointers;
  for (const PlannedOutput& o : engine.outputs()) {
    part.emplace_back(static_cast<size_t>(batch) * static_cast<size_t>(o.rows) *
                      static_cast<size_t>(o.cols));
    pointers.push_back(part.back().data());
    all.emplace_back();
  }
  for (int first = 0; first < 2; first += batch) {
    const std::vector<float> input(images.begin() + static_cast<int64_t>(image) * first,
                                   images.begin() + static_cast<int64_t>(image) * (first + batch));
    engine.run(input.data(), batch, pointers.data());
    for (size_t o = 0; o < part.size(); o++)
      all[o].insert(all[o].end(), part[o].begin(), part[o].end());
  }
  return all;
}

bool same(const Values& a, const Values& b) {
  for (size_t o = 0; o < a.size(); o++)
    for (size_t i = 0; i < a[o].size(); i++)
      if (std::bit_cast<uint32_t>(a[o][i]) != std::bit_cast<uint32_t>(b[o][i]) &&
          !(std::isnan(a[o][i]) && std::isnan(b[o][i])))
        return false;
  return true;
}

void run_output(const QuantGraph& graph, const std::vector<std::string>& names,
                const std::vector<float>& images, bool all_rows) {
  try {
    const Plan plan = make_plan(graph, {{}, names, 2, all_rows});
    if (plan.arena_bytes > kMostBytes) return;
  } catch (const Error&) {
    return;
  }
  EngineOptions one, two;
  one.outputs = two.outputs = names;
  one.kernels = find_kernels("scalar");
  two.threads = 3;
  two.all_rows = all_rows;
  const Values expected = run(graph, one, images, 2), found = run(graph, two, images, 1);
  FUZZ_CHECK(same(expected, found));
  one.kernels = nullptr;
  one.threads = 2;
  FUZZ_CHECK(same(expected, run(graph, one, images, 2)));
}

}  // namespace

void fuzz_target(std::span<const uint8_t> bytes) {
  Choices choices(bytes);
  Draw draw(choices);
  const bool all_rows = choices.below(4) == 0;
  draw.build();
  const AlignedCopy file(draw.file());
  const QuantModel model(QbinFile::from_memory(file.bytes(), "fuzz"));
  const Shape& image = (*model.graph().shapes)[model.graph().graph.find(NodeKind::kInput)];
  std::vector<float> images(2 * static_cast<size_t>(image.size()));
  for (size_t i = 0; i < images.size(); i++)
    images[i] = static_cast<float>((i * 37 + 11) % 101) / 50 - 1;
  std::vector<std::string> names;
  for (const Output& o : model.graph().graph.outputs) {
    run_output(model.graph(), {o.name}, images, all_rows);
    names.push_back(o.name);
  }
  if (names.size() > 1) run_output(model.graph(), names, images, all_rows);
}

}  // namespace vitrun
