// Malformed graphs: each file differs from a good one in one thing, has right checksums, and is
// refused with the file, the node and the reason before anything large is allocated. Below them,
// good graphs that once gave wrong results.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/files/qbin_testing.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VITRUN_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VITRUN_SANITIZED
#endif
#endif

namespace vitrun {
namespace {

using A = Attribute;
using K = NodeKind;
using Attributes = std::map<A, double>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// While it lives, the process may not grow by more than 256 MB; what asks for more gets
// std::bad_alloc, which is no Error. Sanitizers map memory of their own.
class MemoryLimit {
 public:
  MemoryLimit() {
#ifndef VITRUN_SANITIZED
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    limit.rlim_cur = std::min<rlim_t>(pages * 4096 + (256u << 20), before_.rlim_max);
    if (pages > 0) setrlimit(RLIMIT_AS, &limit);
#else
    getrlimit(RLIMIT_AS, &before_);
#endif
  }
  ~MemoryLimit() {
    setrlimit(RLIMIT_AS, &before_);
  }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

template <class T>
Buffer bytes_of(const std::vector<T>& v) {
  const auto* p = reinterpret_cast<const uint8_t*>(v.data());
  return {p, p + v.size() * sizeof(T)};
}

struct Blob {
  DType dtype;
  int bits;
  Dims dims;
  Buffer bytes;
};

struct Model {
  Graph graph;
  std::map<std::string, Blob> tensors;
  std::map<std::string, QbinValue> keys;
  int batch = 1;

  Node& node(const std::string& name) {
    const int i = graph.find(name);
    REQUIRE_MESSAGE(i >= 0, name);
    return graph[i];
  }
  double& attribute(const std::string& name, A a) { return node(name).attributes[a]; }

  // Appends a node that reads nodes of these names.
  void add(K kind, const std::string& name, const std::vector<std::string>& in,
           const Attributes& attributes = {}, const std::string& weight = "",
           const std::string& bias = "") {
    Node n;
    n.kind = kind;
    n.name = name;
    for (const std::string& i : in) n.in.push_back(graph.find(i));
    n.attributes = attributes;
    n.weight = weight;
    n.bias = bias;
    graph.nodes.push_back(std::move(n));
  }
  void quantize(const std::string& name, const std::string& in, Attributes attributes = {}) {
    attributes.insert({{A::kBits, 8}, {A::kScale, 0.02}, {A::kZero, 128}});
    add(K::kQuantize, name, {in}, attributes);
  }
  void floats(const std::string& name, const Dims& dims, float scale = 1) {
    std::vector<float> v(static_cast<size_t>(element_count(dims)));
    for (size_t i = 0; i < v.size(); i++)
      v[i] = scale * (static_cast<float>(i * 37 % 101) / 50 - 1);
    tensors[name] = {DType::kF32, 0, dims, bytes_of(v)};
  }
  void packed(const std::string& name, int n, int k) {
    const auto rows = static_cast<size_t>(n);
    std::vector<uint8_t> codes(rows * static_cast<size_t>(k));
    for (size_t i = 0; i < codes.size(); i++) codes[i] = static_cast<uint8_t>(i * 7 % 16);
    Buffer panels(static_cast<size_t>(pack_bytes(n, k, 4)));
    pack_codes(codes.data(), n, k, 4, panels.data());
    std::vector<int32_t> sums(static_cast<size_t>(round_up(n, kColumns)));
    sum_columns(codes.data(), n, k, 4, sums.data());
    sums.resize(rows);
    tensors[name] = {DType::kPacked, 4, {n, k}, panels};
    tensors[name + "_scale"] = {DType::kF32, 0, {n}, bytes_of(std::vector<float>(rows, 0.01f))};
    tensors[name + "_zero"] = {DType::kI8, 0, {n}, Buffer(rows)};
    tensors[name + "_sum"] = {DType::kI32, 0, {n}, bytes_of(sums)};
  }
  void linear(const std::string& name, const std::string& in, int n, int k) {
    packed(name + ".weight", n, k);
    floats(name + ".bias", {n});
    add(K::kLinear, name, {in}, {}, name + ".weight", name + ".bias");
  }
  void constant(const std::string& name, const Dims& dims) {
    floats(name, dims);
    add(K::kConst, name, {}, {}, name);
  }

  Buffer bytes() const {
    QbinWriter w;
    for (const auto& [key, value] : keys) w.set(key, value);
    w.add("main", graph);
    for (const auto& [name, b] : tensors) w.add(name, b.dtype, b.bits, b.dims, b.bytes);
    return w.serialize();
  }
};

// An image of 4 x 4, a row for each of its 4 patches, attention of 2 heads, the mean, 2 classes.
Model good() {
  Model m;
  m.keys = {{"model.arch", std::string("test")},
            {"preprocess.resize", std::string("bicubic")},
            {"preprocess.squash", int64_t{0}},
            {"preprocess.crop_pct", 0.9},
            {"preprocess.mean", std::vector<double>{.5, .5, .5}},
            {"preprocess.std", std::vector<double>{.5, .5, .5}},
            {"labels", std::vector<std::string>{"cat", "dog"}}};
  m.add(K::kInput, "image", {},
        {{A::kChannels, 3}, {A::kHeight, 4}, {A::kWidth, 4}, {A::kPlanar, 1}});
  m.add(K::kWindow, "patches", {"image"},
        {{A::kKernelHeight, 2}, {A::kKernelWidth, 2}, {A::kStride, 2}});
  m.quantize("pixels", "patches");
  m.linear("embed", "pixels", 8, 12);
  m.quantize("x", "embed");
  m.linear("qkv", "x", 24, 8);
  m.quantize("q", "qkv", {{A::kBegin, 0}, {A::kEnd, 8}});
  m.quantize("k", "qkv", {{A::kBegin, 8}, {A::kEnd, 16}});
  m.quantize("v", "qkv", {{A::kBegin, 16}, {A::kEnd, 24}});
  m.add(K::kScores, "scores", {"q", "k"}, {{A::kHeads, 2}, {A::kHeadDim, 4}, {A::kScale, 0.5}});
  m.add(K::kSoftmax, "softmax", {"scores"});
  m.add(K::kQuantize, "p", {"softmax"}, {{A::kBits, 8}, {A::kScale, 1}});
  m.add(K::kMix, "mix", {"p", "v"});
  m.quantize("mixed", "mix");
  m.linear("proj", "mixed", 8, 8);
  m.add(K::kAdd, "sum", {"embed", "proj"});
  m.add(K::kPool, "mean", {"sum"});
  m.quantize("mean8", "mean");
  m.linear("head", "mean8", 2, 8);
  m.graph.outputs = {{"logits", m.graph.find("head")}};
  return m;
}

std::string refusal(const Buffer& bytes, int batch = 1) {
  return error_of([&] {
    const Aligned copy(bytes);
    const QuantModel model(QbinFile::from_memory(copy.bytes(), "bad.qbin"));
    Engine engine(model.graph(), {.max_batch = batch});
  });
}

struct Row {
  std::string name;
  std::function<void(Model&)> edit;
  std::string expected;
  std::function<void(Buffer&)> forge = {};  // the file's bytes; its checksum is put right
};

void check_all(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    Model m = good();
    std::string error;
    {
      const MemoryLimit limit;
      // What the format itself refuses, the writer finds by the reader's checks.
      error = error_of([&] {
        if (row.edit) row.edit(m);
        Buffer bytes = m.bytes();
        if (row.forge) {
          row.forge(bytes);
          QbinHeader header;
          std::memcpy(&header, bytes.data(), sizeof header);
          header.checksum = qbin_checksum(std::span(bytes).first(header.head_size));
          std::memcpy(bytes.data(), &header, sizeof header);
        }
        const std::string found = refusal(bytes, m.batch);
        throw Error(found);
      });
    }
    CAPTURE(row.name);
    CAPTURE(error);
    const bool names_file = error.starts_with("bad.qbin: ") || error.starts_with(".qbin in memory");
    CHECK(names_file);
    CHECK_MESSAGE(contains(error, row.expected), row.expected);
    CHECK(error.size() < 400);
  }
  MESSAGE(rows.size() << " bad graphs refused");
}

// An edit of an attribute.
std::function<void(Model&)> set(const std::string& node, A a, double value) {
  return [=](Model& m) { m.attribute(node, a) = value; };
}
std::function<void(Model&)> reads(const std::string& node, std::vector<int> in) {
  return [=](Model& m) { m.node(node).in = in; };
}
std::function<void(Model&)> weighs(const std::string& node, const Dims& dims, bool bias = false) {
  return [=](Model& m) {
    m.floats("new", dims);
    (bias ? m.node(node).bias : m.node(node).weight) = "new";
  };
}

// Where a node's name stands in a file, as its own and not at the start of another's.
size_t place_of(const Buffer& bytes, const std::string& name) {
  std::string text = {static_cast<char>(name.size()), '\0'};
  text += name;
  const auto found = std::search(bytes.begin(), bytes.end(), text.begin(), text.end());
  REQUIRE(found != bytes.end());
  return static_cast<size_t>(found - bytes.begin()) + 2;
}
// A byte at some distance from the start of a name.
std::function<void(Buffer&)> byte_at(const std::string& name, int distance, uint8_t value) {
  return [=](Buffer& b) { b[place_of(b, name) + static_cast<size_t>(distance)] = value; };
}

}  // namespace

TEST_CASE("bad graphs: the good one") {
  CHECK(refusal(good().bytes()) == "no error");
}

TEST_CASE("bad graphs: nodes, inputs and outputs") {
  check_all({
      {"a cycle", reads("x", {7}), "quantize 'x': reads node 7, which does not come before it"},
      {"itself", reads("x", {4}), "quantize 'x': reads node 4, which does not come before it"},
      {"a dangling input", reads("x", {5000}), "quantize 'x': reads node 5000, which does not"},
      {"beyond all nodes", reads("x", {70000}), "'x': reads node 70000 of at most 65536"},
      {"no input", reads("x", {}), "quantize 'x': has 0 inputs, expected 1 to 1"},
      {"too many inputs", reads("x", {0, 1}), "quantize 'x': has 2 inputs, expected 1 to 1"},
      {"255 inputs", [](Model& m) { m.add(K::kConcat, "c", std::vector<std::string>(255, "sum")); },
       "concat 'c': has 255 inputs, expected 1 to 16"},
      {"too few inputs", reads("scores", {6}), "scores 'scores': has 1 inputs, expected 2 to 2"},
      {"a softmax of nothing", reads("softmax", {}), "softmax 'softmax': has 0 inputs"},
      {"an output that is no node", [](Model& m) { m.graph.outputs[0].node = 19; },
       "graph 'main': output 'logits' is node 19 of 19"},
      {"two outputs of one name",
       [](Model& m) {
         m.graph.outputs.push_back({"logits", 1});
       },
       "output 'logits' is there twice"},
      {"65 outputs",
       [](Model& m) {
         for (int i = 0; i < 64; i++) m.graph.outputs.push_back({cat("o", i), 0});
       },
       "graph 'main': expected at most 64 outputs, found 65"},
      {"no output", [](Model& m) { m.graph.outputs.clear(); }, "graph 'main' has no output"},
      {"no node", [](Model& m) { m.graph = {}; }, "graph 'main' has no image of 3 channels"},
      {"a million nodes",
       {},
       "graph 'main': expected at most 65536 nodes, found 1000000",
       [](Buffer& b) {
         const uint32_t count = 1000000;
         std::memcpy(&b[place_of(b, "main") + 4], &count, 4);
       }},
      {"more nodes than bytes",
       {},
       "graph 'main', node 19: expected a name",
       [](Buffer& b) {
         const uint32_t count = 60000;
         std::memcpy(&b[place_of(b, "main") + 4], &count, 4);
       }},
      {"no graph 'main'", {}, "it holds no graph 'main'", byte_at("main", 0, 'n')},
      {"no graph", {}, "graphs: ", [](Buffer& b) { b[56] = 0; }},
      {"17 graphs", {}, "expected at most 16 graphs, found 17", [](Buffer& b) { b[56] = 17; }},
      {"an unknown kind",
       {},
       "node 3: kind 18, this version knows those below 18",
       byte_at("embed", -8, kNodeKinds)},
      {"an unknown role",
       {},
       "node 3: role 17, this version knows those below 17",
       byte_at("embed", -7, kRoles)},
      {"an unknown attribute",
       {},
       "'patches': attribute 32, this version knows those below 32",
       byte_at("patches", 14, kAttributes)},
      {"an attribute twice", {}, "'patches': attributes do not ascend", byte_at("patches", 23, 4)},
      {"unknown flags", {}, "'patches': flags 64", byte_at("patches", 7, 64)},
      {"a name spelled out and not there", {}, "'patches': flags 2", byte_at("patches", 7, 2)},
      {"a name that is no text", {}, "the name is not UTF-8", byte_at("patches", 0, 0xff)},
      {"an empty name", {}, "expected a name of 1..256 bytes, found 0", byte_at("patches", -2, 0)},
  });
}

TEST_CASE("bad graphs: attributes") {
  check_all({
      {"not whole", set("patches", A::kStride, 1.5), "stride is 1.5, expected a whole number"},
      {"NaN", set("patches", A::kStride, kNan), "'patches': stride is NaN"},
      {"infinite", set("patches", A::kStride, INFINITY), "window 'patches': stride is inf"},
      {"beyond int", set("patches", A::kStride, 1e300), "window 'patches': stride is 1e+300"},
      {"an infinite scale", set("scores", A::kScale, INFINITY), "scores 'scores': scale is inf"},
      {"negative heads", set("scores", A::kHeads, -2), "scores 'scores': heads is -2"},
      {"no heads", set("scores", A::kHeads, 0), "scores 'scores': heads is 0"},
      {"head_dim 0", set("scores", A::kHeadDim, 0), "scores 'scores': head_dim is 0"},
      {"too many heads", set("scores", A::kHeads, 4096), "4096 heads of 4 columns do not fit 8"},
      {"heads behind the columns", set("scores", A::kKeyBegin, 1), "2 heads of 4 columns do not"},
      {"values behind the columns", set("mix", A::kValueBegin, 1), "2 heads of 4 columns do not"},
      {"window over the limit", set("scores", A::kWindow, 1025), "scores 'scores': window is 1025"},
      {"shift over the window",
       [](Model& m) {
         m.attribute("scores", A::kWindow) = 2;
         m.attribute("scores", A::kShift) = 2;
       },
       "scores 'scores': shift is 2, expected a whole number from 0 to 1"},
      {"causal of one half", set("softmax", A::kCausal, 0.5), "softmax 'softmax': causal is 0.5"},
      {"a stride of 0", set("patches", A::kStride, 0), "window 'patches': stride is 0"},
      {"padding over the kernel", set("patches", A::kPadding, 2), "window 'patches': padding is 2"},
      {"a huge kernel", set("patches", A::kKernelWidth, 1025), "kernel_width is 1025"},
      {"a kernel over the map", set("patches", A::kKernelWidth, 5),
       "a kernel of 2 x 5 on a map of"},
      {"an unknown order", set("patches", A::kOrder, 3), "window 'patches': order is 3"},
      {"an image not by channels", set("patches", A::kOrder, 1), "order is 1, that of an image is"},
      {"no channels", set("image", A::kChannels, 0), "input 'image': channels is 0"},
      {"a map of 0 rows", set("image", A::kHeight, 0), "input 'image': height is 0"},
      {"begin behind the end", set("q", A::kBegin, 8), "quantize 'q': end is 8"},
      {"end behind the columns", set("v", A::kEnd, 25), "quantize 'v': end is 25"},
      {"negative begin", set("q", A::kBegin, -1), "quantize 'q': begin is -1"},
      {"scale zero", set("x", A::kScale, 0), "quantize 'x': scale is 0, expected a positive"},
      {"negative scale", set("x", A::kScale, -1), "quantize 'x': scale is -1"},
      {"a scale below all floats", set("x", A::kScale, 1e-50), "quantize 'x': scale is 1e-50"},
      {"a zero point too high", set("x", A::kZero, 512), "quantize 'x': zero point is 512"},
      {"bits 2", set("x", A::kBits, 2), "quantize 'x': bits are 2"},
      {"bits 9", set("x", A::kBits, 9), "quantize 'x': bits are 9"},
      {"rate 0", set("p", A::kRate, 0), "quantize 'p': rate is 0"},
      {"twin 10", set("p", A::kTwin, 10), "quantize 'p': twin is 10"},
      {"pool behind the rows", set("mean", A::kBegin, 4), "pool 'mean': begin is 4"},
      {"alpha infinite", set("sum", A::kAlpha, INFINITY), "add 'sum': alpha is inf"},
      {"a negative limit",
       [](Model& m) {
         m.add(K::kAct, "a", {"sum"}, {{A::kLimit, -1}});
       },
       "act 'a': limit is -1"},
      {"an unknown activation",
       [](Model& m) {
         m.add(K::kAct, "a", {"sum"}, {{A::kType, 6}});
       },
       "act 'a': type is 6"},
      {"a group that does not fit",
       [](Model& m) {
         m.add(K::kNorm, "n", {"sum"}, {{A::kType, 2}, {A::kGroup, 3}});
       },
       "norm 'n': groups of 3 of 8 columns"},
      {"slice behind the rows",
       [](Model& m) {
         m.add(K::kSlice, "s", {"sum"}, {{A::kEnd, 5}});
       },
       "slice 's': end is 5"},
  });
}

TEST_CASE("bad graphs: shapes that do not fit") {
  check_all({
      {"window of no map",
       [](Model& m) {
         m.add(K::kWindow, "w", {"mean"}, {{A::kKernelHeight, 1}, {A::kKernelWidth, 1}});
       },
       "window 'w': its input is no map"},
      {"unwindow",
       [](Model& m) {
         m.add(K::kUnwindow, "u", {"sum"}, {{A::kKernelHeight, 3}, {A::kKernelWidth, 1}});
       },
       "unwindow 'u': 8 columns are no neighbourhoods of 3 x 1"},
      {"linear", reads("proj", {2}), "linear 'proj': 'proj.weight' is [8, 8], its input has 12"},
      {"a linear's bias", weighs("proj", {9}, true), "linear 'proj': 'new' is [9], expected [8]"},
      {"packed weight of another depth", [](Model& m) { m.packed("proj.weight", 8, 9); },
       "linear 'proj': 'proj.weight' is [8, 9], its input has 8 columns"},
      {"a weight of one dimension", weighs("proj", {8}), "linear 'proj': 'new' is [8], its input"},
      {"an image's weight",
       [](Model& m) {
         m.floats("new", {4});
         m.node("image").weight = m.node("image").bias = "new";
       },
       "input 'image': 'new' is [4], expected [3]"},
      {"a weight without a bias", weighs("image", {3}), "input 'image': has a weight without"},
      {"norm",
       [](Model& m) {
         m.floats("new", {7});
         m.add(K::kNorm, "n", {"sum"}, {}, "new", "new");
       },
       "norm 'n': 'new' is [7], expected [8]"},
      {"a layer norm without weight", [](Model& m) { m.add(K::kNorm, "n", {"sum"}); },
       "norm 'n': a layer norm needs a weight and a bias"},
      {"add",
       [](Model& m) {
         m.add(K::kAdd, "a", {"sum", "qkv"});
       },
       "add 'a': an operand of 4 x 24 does not fit one of 4 x 8"},
      {"add of more rows",
       [](Model& m) {
         m.add(K::kAdd, "a", {"mean", "sum"});
       },
       "add 'a': an operand of 4 x 8 does not fit one of 1 x 8"},
      {"mul",
       [](Model& m) {
         m.add(K::kMul, "a", {"sum", "head"});
       },
       "mul 'a': an operand of 1 x 2 does not fit one of 4 x 8"},
      {"concat of rows",
       [](Model& m) {
         m.add(K::kConcat, "c", {"sum", "qkv"});
       },
       "concat 'c': inputs of 4 x 8 and 4 x 24"},
      {"concat of columns",
       [](Model& m) {
         m.add(K::kConcat, "c", {"sum", "mean"}, {{A::kAxis, 1}});
       },
       "concat 'c': inputs of 4 x 8 and 1 x 8"},
      {"slice",
       [](Model& m) {
         m.add(K::kSlice, "s", {"mean"}, {{A::kBegin, 1}});
       },
       "slice 's': begin is 1"},
      {"resize of no map",
       [](Model& m) {
         m.add(K::kResize, "r", {"mean"}, {{A::kHeight, 2}, {A::kWidth, 2}});
       },
       "resize 'r': its input is no map"},
      {"pool of no map",
       [](Model& m) {
         m.add(K::kPool, "l", {"mean"}, {{A::kKernelHeight, 1}, {A::kKernelWidth, 1}});
       },
       "pool 'l': its input is no map"},
      {"scores of image", reads("scores", {0, 7}), "scores 'scores': reads an image as it is"},
      {"windows of no map",
       [](Model& m) {
         m.add(K::kSlice, "s", {"embed"}, {{A::kEnd, 3}});
         m.quantize("s8", "s");
         m.add(K::kScores, "t", {"s8", "s8"}, {{A::kHeads, 1}, {A::kHeadDim, 8}, {A::kWindow, 2}});
       },
       "scores 't': its input is no map"},
      {"softmax of no scores", reads("softmax", {8}), "softmax 'softmax': its input are no scores"},
      {"softmax's table without windows", weighs("softmax", {9, 2}),
       "softmax 'softmax': a table of relative positions without windows"},
      {"softmax's table",
       [](Model& m) {
         m.attribute("scores", A::kWindow) = 2;
         m.floats("new", {9, 3});
         m.node("softmax").weight = "new";
       },
       "softmax 'softmax': 'new' is [9, 3], expected [9, 2]"},
      {"softmax's bias",
       [](Model& m) {
         m.constant("b", {3, 4, 4});
         m.add(K::kSoftmax, "s", {"scores", "b"});
       },
       "softmax 's': a bias of 3 x 4 x 4 on scores of 2 x 4 x 4"},
      {"softmax's bias that is computed",
       [](Model& m) {
         m.add(K::kSoftmax, "s", {"scores", "sum"});
       },
       "softmax 's': its bias is no constant"},
      {"mix of no softmax", reads("mix", {6, 8}), "mix 'mix': its first input is no softmax"},
      {"mix of scores", reads("mix", {9, 8}), "mix 'mix': its first input is no softmax"},
      {"mix of codes of scores", reads("p", {9}), "quantize 'p': rounds scores before their"},
      {"mix of codes of codes",
       [](Model& m) {
         m.quantize("p2", "p");
         m.add(K::kMix, "mix2", {"p2", "v"});
       },
       "mix 'mix2': its first input is no softmax"},
      {"mix of a mix",
       [](Model& m) {
         m.add(K::kMix, "mix2", {"mixed", "v"});
       },
       "mix 'mix2': its first input is no softmax"},
      {"v of other rows",
       [](Model& m) {
         m.quantize("w", "mean");
         m.add(K::kMix, "mix2", {"p", "w"});
       },
       "mix 'mix2': v has 1 rows, k 4"},
      {"v of another map",
       [](Model& m) {
         for (const char* name : {"q", "k", "v"}) m.node(name).in = {m.graph.find("qkv")};
         m.attribute("scores", A::kWindow) = 2;
         m.constant("c", {4, 8});
         m.node("c").attributes = {{A::kHeight, 1}, {A::kWidth, 4}};
         m.quantize("w", "c");
         m.add(K::kMix, "mix2", {"p", "w"});
       },
       "mix 'mix2': v is another map than q and k"},
      {"some columns of a softmax", set("p", A::kEnd, 3), "quantize 'p': takes some columns"},
      {"no row for padding",
       [](Model& m) {
         m.attribute("scores", A::kWindow) = 3;
         m.attribute("image", A::kHeight) = m.attribute("image", A::kWidth) = 8;
       },
       "scores 'scores': the map is no multiple of the window and q and k have no row"},
      {"a row for padding without windows",
       [](Model& m) {
         m.attribute("qkv", A::kPadToWindow) = 3;
         m.attribute("image", A::kHeight) = m.attribute("image", A::kWidth) = 8;
       },
       "scores 'scores': q or k has a row for padding and there are no windows"},
      {"a row for padding in a norm",
       [](Model& m) {
         m.attribute("embed", A::kPadToWindow) = 3;
         m.attribute("image", A::kHeight) = m.attribute("image", A::kWidth) = 8;
         m.add(K::kAct, "a", {"embed"});
       },
       "reads a value with a row of padding, which only attention does"},
      {"rope's angles",
       [](Model& m) {
         m.constant("angles", {5, 4});
         m.add(K::kRope, "r", {"sum", "angles"}, {{A::kHeadDim, 4}});
       },
       "rope 'r': angles of 5 x 4 for 4 rows and heads of 4"},
      {"rope's heads",
       [](Model& m) {
         m.constant("angles", {4, 6});
         m.add(K::kRope, "r", {"sum", "angles"}, {{A::kHeadDim, 6}});
       },
       "rope 'r': 8 columns are no heads of 6"},
      {"act of scores", [](Model& m) { m.add(K::kAct, "a", {"scores"}); },
       "act 'a': reads scores of 2 groups"},
      {"act of an image", [](Model& m) { m.add(K::kAct, "a", {"image"}); },
       "act 'a': reads an image as it is, which only window does"},
      {"a constant's map",
       [](Model& m) {
         m.constant("c", {4, 8});
         m.node("c").attributes = {{A::kHeight, 3}, {A::kWidth, 1}};
       },
       "const 'c': its map of 3 x 1 has not its 4 rows"},
      {"a constant's map without width",
       [](Model& m) {
         m.constant("c", {4, 8});
         m.node("c").attributes = {{A::kHeight, 4}};
         m.quantize("c8", "c");
         m.packed("new", 8, 8);
         m.add(K::kLinear, "l", {"c8"}, {{A::kPadToWindow, 2}}, "new");
       },
       "const 'c': its map of 4 x 0 has not its 4 rows"},
      {"a constant of four dimensions",
       [](Model& m) {
         m.constant("c", {2, 2, 2, 2});
       },
       "const 'c': 'c' is [2, 2, 2, 2]"},
      {"a neighbourhood beside the map",
       [](Model& m) {
         m.add(K::kPool, "l", {"sum"},
               {{A::kKernelHeight, 2},
                {A::kKernelWidth, 2},
                {A::kStride, 4},
                {A::kPadding, 1},
                {A::kCeil, 1}});
       },
       "pool 'l': its last neighbourhood lies outside of a map of 2 x 2"},
      {"causal, other queries than keys",
       [](Model& m) {
         m.quantize("one", "mean");
         m.add(K::kScores, "t", {"one", "k"}, {{A::kHeads, 1}, {A::kHeadDim, 8}});
         m.add(K::kSoftmax, "s", {"t"}, {{A::kCausal, 1}});
       },
       "softmax 's': causal, with other queries than keys"},
      {"causal and not",
       [](Model& m) {
         m.add(K::kSoftmax, "s", {"scores"}, {{A::kCausal, 1}});
       },
       "softmax 'softmax': is not causal and another softmax of its scores is"},
  });
}

TEST_CASE("bad graphs: sizes") {
  const auto resized = [](Model& m, double side) {
    m.add(K::kResize, "big", {"sum"}, {{A::kHeight, side}, {A::kWidth, side}});
  };
  check_all({
      {"a value of petabytes",
       [=](Model& m) {
         resized(m, 4096);
         m.add(K::kWindow, "w", {"big"}, {{A::kKernelHeight, 64}, {A::kKernelWidth, 64}});
       },
       "window 'w': a value of 1 x 16265089 x 32768 is too large"},
      {"columns over all",
       [=](Model& m) {
         resized(m, 1024);
         m.add(K::kWindow, "w", {"big"}, {{A::kKernelHeight, 1024}, {A::kKernelWidth, 1024}});
         m.add(K::kWindow, "w2", {"w"}, {{A::kKernelHeight, 1}, {A::kKernelWidth, 1}});
         m.add(K::kConcat, "c", std::vector<std::string>(16, "w"), {{A::kAxis, 1}});
       },
       "concat 'c': a value of 1 x 1 x 134217728, expected 1 to 16777216 along each"},
      {"rows over all",
       [=](Model& m) {
         resized(m, 4096);
         m.add(K::kConcat, "c", std::vector<std::string>(16, "big"));
       },
       "concat 'c': a value of 1 x 268435456 x 8"},
      {"a map over all", [=](Model& m) { resized(m, 32768); },
       "resize 'big': a value of 1 x 1073741824 x 8"},
      {"a map over int",
       [=](Model& m) {
         resized(m, 4096);
         m.add(K::kUnwindow, "u", {"big"},
               {{A::kKernelHeight, 4}, {A::kKernelWidth, 2}, {A::kStride, 2}});
         m.add(K::kConcat, "c", {"u", "u"});
       },
       "unwindow 'u': a value of 1 x 67125248 x 1"},
      {"scores over all",
       [=](Model& m) {
         resized(m, 4096);
         m.quantize("big8", "big");
         m.add(K::kScores, "t", {"big8", "big8"}, {{A::kHeads, 1}, {A::kHeadDim, 8}});
       },
       "scores 't': a value of 1 x 16777216 x 16777216 is too large"},
      {"many large attentions",
       [=](Model& m) {
         resized(m, 4096);
         m.quantize("big8", "big");
         for (int i = 1; i <= 1000; i++)
           m.add(K::kScores, cat("t", i), {"q", "big8"},
                 {{A::kHeads, 1}, {A::kHeadDim, 8}, {A::kScale, i}});
       },
       "the windows of all attentions take more than 33554432 numbers"},
      {"windows too large",
       [=](Model& m) {
         resized(m, 128);
         m.quantize("big8", "big");
         m.add(K::kScores, "t", {"big8", "big8"},
               {{A::kHeads, 1}, {A::kHeadDim, 8}, {A::kWindow, 65}});
       },
       "scores 't': windows of 65 x 65"},
      {"more tokens than a product is deep",
       [=](Model& m) {
         resized(m, 129);
         m.quantize("big8", "big");
         m.add(K::kScores, "t", {"q", "big8"}, {{A::kHeads, 1}, {A::kHeadDim, 8}});
         m.add(K::kSoftmax, "s", {"t"});
         m.add(K::kQuantize, "s8", {"s"});
         m.add(K::kMix, "mix2", {"s8", "big8"});
         m.quantize("y", "mix2");
         m.packed("new", 8, 8);
         m.add(K::kLinear, "l", {"y"}, {}, "new");
         m.graph.outputs = {{"out", m.graph.size() - 1}};
         m.keys.erase("labels");
       },
       "graph 'main': mix 'mix2' has 16641 tokens, at most 16384"},
      {"buffers of many images",
       [=](Model& m) {
         resized(m, 4096);
         m.graph.outputs = {{"out", m.graph.size() - 1}};
         m.keys.erase("labels");
         m.batch = 4096;
       },
       "graph 'main': a value of 68719476736 rows is too large"},
      {"a depth over kMaxDepth",
       [](Model& m) {
         m.floats("new", {1, 16385});
         m.add(K::kConst, "c", {}, {}, "new");
         m.quantize("c8", "c");
         m.packed("w", 1, 16385);
         m.add(K::kLinear, "l", {"c8"}, {}, "w");
       },
       "'l' has depth 16385, at most 16384"},
      {"one weight for very many linears",
       [](Model& m) {
         m.packed("wide", 1 << 16, 8);
         for (int i = 0; i < 300; i++) m.add(K::kLinear, cat("l", i), {"x"}, {}, "wide");
       },
       "the linears have more than 4194304 columns"},
      {"a constant's dimensions overflow",
       [](Model& m) {
         m.tensors["new"] = {DType::kF32, 0, {int64_t{1} << 62, 16}, {}};
         m.add(K::kConst, "c", {}, {}, "new");
       },
       "tensor 'new': dimensions [4611686018427387904, 16] overflow"},
      {"a constant larger than the file",
       [](Model& m) {
         m.tensors["new"] = {DType::kF32, 0, {1 << 30, 1 << 20}, {}};
         m.add(K::kConst, "c", {}, {}, "new");
       },
       "tensor 'new': expected 4503599627370496 bytes for [1073741824, 1048576], found 0"},
  });
}

TEST_CASE("bad graphs: parameters") {
  const auto levels = [](std::vector<uint8_t> of) {
    return [of](Model& m) {
      m.tensors["levels"] = {DType::kU8, 0, {static_cast<int64_t>(of.size() / 2), 2}, of};
      m.node("x").weight = "levels";
    };
  };
  const auto ranges = [](const std::string& node, const std::vector<float>& of) {
    return [=](Model& m) {
      m.tensors["ranges"] = {
          DType::kF32, 0, {2, static_cast<int64_t>(of.size() / 2)}, bytes_of(of)};
      m.node(node).bias = "ranges";
    };
  };
  check_all({
      {"no packed weight", [](Model& m) { m.tensors.erase("proj.weight"); },
       "tensor 'proj.weight' is missing"},
      {"a linear of no weight", [](Model& m) { m.node("proj").weight = ""; },
       "linear 'proj': its parameter '' is not listed"},
      {"a weight in float",
       [](Model& m) {
         m.floats("proj.weight", {8, 8});
       },
       "tensor 'proj.weight' has the wrong type, expected packed codes"},
      {"no scale", [](Model& m) { m.tensors.erase("proj.weight_scale"); },
       "tensor 'proj.weight_scale' is missing"},
      {"scale zero",
       [](Model& m) { m.tensors["proj.weight_scale"].bytes = bytes_of(std::vector<float>(8)); },
       "tensor 'proj.weight_scale' holds 0 at 0"},
      {"sums of no codes",
       [](Model& m) { m.tensors["proj.weight_sum"].bytes = bytes_of(std::vector<int32_t>(8, 65)); },
       "tensor 'proj.weight_sum' holds 65 at 0, no sum of 8 codes of 4 bits"},
      {"a constant of no parameter", [](Model& m) { m.add(K::kConst, "c", {}); },
       "const 'c': its parameter '' is not listed"},
      {"a NaN",
       [](Model& m) { m.tensors["proj.bias"].bytes = bytes_of(std::vector<float>(8, NAN)); },
       "tensor 'proj.bias' holds nan"},
      {"levels that do not ascend", levels({0, 3, 5, 3}),
       "levels do not ascend from code 0 at run"},
      {"levels that begin late", levels({1, 3, 5, 9}), "quantize 'x': levels do not ascend"},
      {"codes that do not ascend", levels({0, 3, 0, 9}), "quantize 'x': levels do not ascend"},
      {"too many levels",
       [=](Model& m) {
         m.attribute("x", A::kBits) = 3;
         std::vector<uint8_t> nine;
         for (uint8_t i = 0; i < 9; i++) nine.insert(nine.end(), {i, i});
         levels(nine)(m);
       },
       "quantize 'x': 9 levels, 3 bits tell 8 apart"},
      {"levels of the wrong shape", weighs("x", {3, 3}), "quantize 'x': levels are [3, 3]"},
      {"a level of a half", weighs("x", {2, 2}), "quantize 'x': a level of -1"},
      {"ranges that do not fit", ranges("q", {1, 1, 1, 0, 0, 0}), "quantize 'q': 3 heads of 8"},
      {"ranges of other heads", ranges("q", {1, 1, 1, 1, 0, 0, 0, 0}),
       "graph 'main': quantize 'q': 4 ranges by head, which are not those of the 2 heads of 4"},
      {"a head's scale zero", ranges("q", {1, 0, 0, 0}), "quantize 'q': scale is 0"},
      {"ranges by head of a linear", ranges("x", {1, 1, 0, 0}), "'x' has no integer form"},
      {"levels of probabilities",
       [=](Model& m) {
         levels({0, 0, 9, 9})(m);
         std::swap(m.node("x").weight, m.node("p").weight);
       },
       "graph 'main': quantize 'p' has no integer form in this place"},
  });
}

TEST_CASE("bad graphs: no integer form") {
  check_all({
      {"a linear reads no codes", reads("head", {16}),
       "linear 'head' reads pool 'mean', expected codes of a quantize"},
      {"scores read no codes", reads("scores", {3, 7}), "scores 'scores' reads linear 'embed'"},
      {"mix reads no rounded softmax", reads("mix", {10, 8}), "mix 'mix' reads softmax 'softmax'"},
      {"mix reads a v that is not rounded",
       [](Model& m) {
         m.add(K::kMix, "mix2", {"p", "embed"});
       },
       "mix 'mix2' reads linear 'embed', expected codes of a quantize"},
      {"codes as an output",
       [](Model& m) {
         m.graph.outputs = {{"out", 4}};
         m.keys.erase("labels");
       },
       "graph 'main': quantize 'x' has no integer form in this place"},
      {"an image as an output",
       [](Model& m) {
         m.graph.outputs = {{"out", 0}};
         m.keys.erase("labels");
       },
       "graph 'main': input 'image' has no integer form in this place"},
      {"image of 4 channels",
       [](Model& m) {
         m.attribute("image", A::kChannels) = 4;
         m.packed("embed.weight", 8, 16);
       },
       "graph 'main' has no image of 3 channels as its input"},
      {"an image that is a map",
       [](Model& m) {
         m.attribute("image", A::kPlanar) = 0;
         m.node("pixels").in = {1};
       },
       "graph 'main' has no image of 3 channels as its input"},
      {"two inputs",
       [](Model& m) {
         m.add(K::kInput, "more", {}, {{A::kChannels, 1}, {A::kHeight, 900}, {A::kWidth, 900}});
       },
       "graph 'main' has several inputs, a run takes one"},
      {"too large an image", [](Model& m) { m.attribute("image", A::kHeight) = 2050; },
       "an image of 2050x4, expected 1..2048 along each side"},
      {"logits of several rows", [](Model& m) { m.graph.outputs[0].node = 15; },
       "output 'logits' has 4 rows, expected 1"},
      {"labels that do not match",
       [](Model& m) { m.keys["labels"] = std::vector<std::string>{"cat"}; },
       "1 labels for 2 classes"},
      {"0 has no code outside of a map",
       [](Model& m) {
         m.quantize("s8", "sum", {{A::kBits, 4}, {A::kZero, 16}});
         m.add(K::kWindow, "w", {"s8"}, {{A::kKernelHeight, 2}, {A::kKernelWidth, 2}});
         m.linear("conv", "w", 8, 32);
         m.graph.outputs = {{"out", m.graph.size() - 1}};
         m.keys.erase("labels");
       },
       "graph 'main': linear 'conv': 0 has no code, which elements outside of the map need"},
  });
}

// --- good graphs ---------------------------------------------------------------------------------

namespace {

// Two images in one run that computes all rows, and one at a time by three threads on another ISA.
void check_runs(const std::string& name, const std::function<void(Model&)>& edit) {
  Model m = good();
  m.keys.erase("labels");
  edit(m);
  m.graph.outputs = {{"out", m.graph.size() - 1}};
  const Aligned bytes(m.bytes());
  const QuantModel model(QbinFile::from_memory(bytes.bytes(), name));
  const Shape& image = (*model.graph().shapes)[0];
  const auto size = static_cast<size_t>(image.size());
  std::vector<float> images(2 * size);
  for (size_t i = 0; i < images.size(); i++) images[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
  Engine all(model.graph(), {.max_batch = 2, .all_rows = true, .kernels = find_kernels("scalar")});
  Engine one(model.graph(), {.threads = 3});
  const PlannedOutput& o = all.outputs()[0];
  const size_t count = static_cast<size_t>(o.rows) * static_cast<size_t>(o.cols);
  std::vector<float> expected(2 * count), found(2 * count);
  all.run(images.data(), 2, expected.data());
  one.run(images.data(), 1, found.data());
  one.run(images.data() + size, 1, found.data() + count);
  CAPTURE(name);
  CHECK(expected == found);
  // Several rows an image, without the rows that are not needed.
  Engine two(model.graph(), {.threads = 2, .max_batch = 2});
  two.run(images.data(), 2, found.data());
  CHECK(expected == found);
}

void first_rows(Model& m, int rows) {
  m.add(K::kSlice, "first", {m.graph.nodes.back().name}, {{A::kEnd, rows}});
}

// Attention of one head of 32 columns of "wide", with these attributes of the scores.
void wide_scores(Model& m, const Attributes& attributes) {
  m.linear("wide", "x", 32, 8);
  m.quantize("w", "wide");
  m.add(K::kScores, "t", {"w", "w"}, {{A::kHeads, 1}, {A::kHeadDim, 32}});
  for (const auto& [a, v] : attributes) m.attribute("t", a) = v;
}
void wide_mix(Model& m, const std::string& name) {
  m.add(K::kSoftmax, name + ".s", {"t"});
  m.add(K::kQuantize, name + ".p", {name + ".s"}, {{A::kBits, 8}});
  m.add(K::kMix, name + ".mix", {name + ".p", "w"});
  m.quantize(name + ".y", name + ".mix");
  m.linear(name, name + ".y", 8, 32);
}

void class_token(Model& m) {
  m.constant("token", {1, 8});
  m.constant("positions", {5, 8});
  m.linear("tokens", "pixels", 8, 12);
  m.add(K::kConcat, "rows", {"token", "tokens"});
  m.add(K::kAdd, "placed", {"rows", "positions"});
}

}  // namespace

TEST_CASE("graphs: rows that are not needed are not computed, the others are the same") {
  check_runs("the patches' first row", [](Model& m) {
    m.linear("tokens", "pixels", 8, 12);
    first_rows(m, 1);
  });
  for (int rows = 1; rows <= 5; rows++)
    check_runs(cat("a class token and patches, ", rows, " rows"), [=](Model& m) {
      class_token(m);
      first_rows(m, rows);
    });
  check_runs("a norm of all rows but one of an embedding", [](Model& m) {
    class_token(m);
    m.floats("new", {8});
    m.add(K::kNorm, "n", {"placed"}, {{A::kEpsilon, 1e-6}}, "new", "new");
    first_rows(m, 4);
    m.add(K::kSlice, "last", {"placed"}, {{A::kBegin, 1}});
    m.add(K::kAdd, "both", {"first", "last"});
  });
  check_runs("two uses of scores", [](Model& m) {
    wide_scores(m, {});
    wide_mix(m, "a");
    first_rows(m, 1);
    wide_mix(m, "b");
    m.add(K::kAdd, "both", {"b", "first"});
  });
  check_runs("one window, one row", [](Model& m) {
    wide_scores(m, {{A::kWindow, 2}});
    wide_mix(m, "a");
    first_rows(m, 1);
  });
  check_runs("windows, one row", [](Model& m) {
    m.attribute("image", A::kHeight) = m.attribute("image", A::kWidth) = 8;
    wide_scores(m, {{A::kWindow, 2}, {A::kShift, 1}});
    wide_mix(m, "a");
    first_rows(m, 1);
  });
}

TEST_CASE("graphs: q, k and v may have chosen levels") {
  check_runs("levels", [](Model& m) {
    m.tensors["levels"] = {DType::kU8, 0, {3, 2}, {0, 2, 100, 120, 140, 250}};
    m.linear("l", "x", 8, 8);
    m.add(K::kAdd, "a", {"l", "embed"});
    for (const char* name : {"q2", "k2", "v2"}) {
      m.quantize(name, "a", {{A::kBits, 4}});
      m.node(name).weight = "levels";
    }
    m.add(K::kScores, "t", {"q2", "k2"}, {{A::kHeads, 2}, {A::kHeadDim, 4}});
    m.add(K::kSoftmax, "s", {"t"});
    m.add(K::kQuantize, "s8", {"s"}, {{A::kBits, 8}});
    m.add(K::kMix, "m2", {"s8", "v2"});
    m.quantize("y", "m2");
    m.linear("out", "y", 8, 8);
  });
}

}  // namespace vitrun
