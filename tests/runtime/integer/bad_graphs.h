// How the graphs of test_bad_graphs.cc and its neighbours are made: from a good one, by one change.
#pragma once

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "kernels/pack.h"
#include "kernels/registry.h"
#include "runtime/files/coded_weight.h"
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
  // Stores a weight that is packed as entropy-coded.
  void code(const std::string& name) {
    Blob& weight = tensors.at(name);
    const auto n = static_cast<int>(weight.dims[0]), k = static_cast<int>(weight.dims[1]);
    Buffer codes(static_cast<size_t>(n) * static_cast<size_t>(k));
    unpack_codes(weight.bytes.data(), n, k, weight.bits, codes.data());
    weight = {DType::kCoded, weight.bits, weight.dims, encode_weight(codes)};
    tensors[name + "_scale"] = {DType::kF32, 0, {1}, bytes_of(std::vector<float>{0.01f})};
    tensors.erase(name + "_zero");
    tensors.erase(name + "_sum");
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
inline Model good() {
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

inline std::string refusal(const Buffer& bytes, int batch = 1) {
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

inline void check_all(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    Model m = good();
    std::string error;
    {
      const MemoryLimit limit;
      // The writer finds what the format itself refuses, by the reader's checks.
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
inline std::function<void(Model&)> set(const std::string& node, A a, double value) {
  return [=](Model& m) { m.attribute(node, a) = value; };
}
inline std::function<void(Model&)> reads(const std::string& node, std::vector<int> in) {
  return [=](Model& m) { m.node(node).in = in; };
}
inline std::function<void(Model&)> weighs(const std::string& node, const Dims& dims,
                                          bool bias = false) {
  return [=](Model& m) {
    m.floats("new", dims);
    (bias ? m.node(node).bias : m.node(node).weight) = "new";
  };
}

// The place where a node's name stands in a file, as its own and not at the start of another's.
inline size_t place_of(const Buffer& bytes, const std::string& name) {
  std::string text = {static_cast<char>(name.size()), '\0'};
  text += name;
  const auto found = std::search(bytes.begin(), bytes.end(), text.begin(), text.end());
  REQUIRE(found != bytes.end());
  return static_cast<size_t>(found - bytes.begin()) + 2;
}
// A byte at some distance from the start of a name.
inline std::function<void(Buffer&)> byte_at(const std::string& name, int distance, uint8_t value) {
  return [=](Buffer& b) { b[place_of(b, name) + static_cast<size_t>(distance)] = value; };
}

}  // namespace vitrun
