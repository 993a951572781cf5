// The integer engine: against fake-quantized float with the same codes, and against itself over
// ISAs, threads and batches.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "kernels/registry.h"
#include "quant/pipeline.h"
#include "runtime/files/npy.h"
#include "runtime/float/fake_quant.h"
#include "runtime/float/reference.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

const std::string kModels = VITRUN_TEST_DIR "/golden/models/";
const char* const kNames[] = {
    "vit",           "vit_oblong",  "deit_distilled", "deit3",          "vit_avg",
    "vit_remainder", "hf_deit_one", "swin",           "swin_small_map", "swin_padded",
    "hf_swin",       "swinv2",      "swinv2_padded",  "swin_s3",        "hf_swin_oblong"};

// A quantized golden model; the .qbin's bytes must outlive it.
struct Fixture {
  Tensor images;
  std::unique_ptr<Aligned> bytes;
  std::unique_ptr<QuantModel> model;

  Fixture(FloatModel float_model, const std::string& name, const QuantizeOptions& options)
      : images(read_npy(kModels + name + ".input.npy")),
        bytes(std::make_unique<Aligned>(
            quantize_model(std::move(float_model), tensor_source(images), options)
                .file.serialize())),
        model(std::make_unique<QuantModel>(QbinFile::from_memory(bytes->bytes(), name))) {}

  Fixture(const std::string& name, int wbits, int abits, Method method = Method::kRepq,
          bool levels = false)
      : Fixture(load_float_model(kModels + name + ".safetensors"), name,
                {.method = method,
                 .weight_bits = wbits,
                 .activation_bits = abits,
                 .levels = levels,
                 .heads = levels}) {}

  std::vector<float> run(const EngineOptions& options) {
    Engine engine(model->graph(), options);
    const auto batch = static_cast<int>(images.dims[0]), classes = model->info().num_classes;
    std::vector<float> logits(static_cast<size_t>(batch * classes));
    const int64_t size = element_count(images.dims) / batch;
    for (int i = 0; i < batch; i += options.max_batch) {
      const int n = std::min(options.max_batch, batch - i);
      engine.run(images.data.data() + i * size, n, logits.data() + i * classes);
    }
    return logits;
  }
};

double largest(const Tensor& t) {
  double top = 0;
  for (float x : t.data) top = std::max(top, std::fabs(static_cast<double>(x)));
  return top;
}

// The nodes of other kinds than Quantize whose values the engine has as codes alone: the softmax,
// and Linears of q, k and v, whose columns are those of several Quantize nodes.
std::set<int> coded_nodes(const QuantGraph& model) {
  std::set<int> nodes;
  const Plan plan = make_plan(model, {.batch = 2, .all_rows = true});
  for (const Step& s : plan.steps) {
    if (s.op == Op::kAttention) nodes.insert(model.graph[model.graph[s.node].in[0]].in[0]);
    if (at(plan.values, s.out).codes && !model.graph.is(s.result, NodeKind::kQuantize))
      nodes.insert(s.result);
  }
  return nodes;
}

// Walks the float engine beside the integer engine's trace. At every value both have, the float
// one, quantized where the engine has codes, must agree; then it takes the engine's value, so that
// one code that float rounding moved over an edge does not hide what comes after.
struct Comparison {
  const QuantGraph& model;
  std::set<int> coded;
  std::map<int, Tensor> traced;
  double worst = 0;  // difference of floats, relative to the value's largest
  int64_t codes = 0, moved = 0;
  size_t compared = 0;

  void see(int node, Tensor& value) {
    auto found = traced.find(node);
    if (found == traced.end()) return;
    REQUIRE(found->second.data.size() == value.data.size());
    compared++;
    if (coded.contains(node)) round_to_codes(node, value);
    if (coded.contains(node) || model.graph.is(node, NodeKind::kQuantize))
      compare_codes(value, found->second);
    else
      compare_floats(value, found->second);
    value.data = found->second.data;
  }

  void round_to_codes(int node, Tensor& value) const {
    const int64_t cols = value.dims.back(), rows = element_count(value.dims) / cols;
    const std::vector<int> readers = model.graph.readers()[static_cast<size_t>(node)];
    for (int q : readers) {
      const Node& n = model.graph[q];
      REQUIRE(n.kind == NodeKind::kQuantize);
      const int begin = n.whole(Attribute::kBegin);
      fake_quantize(model.quantizer(q), is_softmax(model.graph, node), value.data.data(), rows,
                    cols, begin, begin + (*model.shapes)[q].cols);
    }
  }

  // Whether the values of all Quantize nodes were compared.
  bool all_codes_seen() const {
    for (int i = 0; i < model.graph.size(); i++)
      if (model.graph.is(i, NodeKind::kQuantize) && !traced.contains(i) &&
          !coded.contains(model.graph[i].in[0]))
        return false;
    return true;
  }

  void compare_floats(const Tensor& value, const Tensor& engine) {
    const double top = largest(value);
    for (size_t i = 0; i < value.data.size(); i++)
      worst = std::max(worst, std::fabs(static_cast<double>(value.data[i] - engine.data[i])) / top);
  }

  // Both are multiples of the scale (or logarithmic values): equal up to the last bits, or another
  // code.
  void compare_codes(const Tensor& value, const Tensor& engine) {
    for (size_t i = 0; i < value.data.size(); i++) {
      codes++;
      moved +=
          std::fabs(value.data[i] - engine.data[i]) > 1e-5f * std::fabs(value.data[i]) + 1e-12f;
    }
  }
};

void check_against_float(const Fixture& f) {
  const QuantGraph& model = f.model->graph();
  Comparison c{model, coded_nodes(model), {}};
  Engine engine(model, {.max_batch = 2, .all_rows = true, .kernels = find_kernels("scalar")});
  engine.set_trace([&](int node, const Tensor& value) { c.traced[node] = value; });
  std::vector<float> logits(static_cast<size_t>(2 * f.model->info().num_classes));
  engine.run(f.images.data.data(), 2, logits.data());

  const Weights weights = dequantize_weights(model);
  Reference reference(model.graph, weights, 1);
  reference.run(f.images, [&](int node, Tensor& value) { c.see(node, value); });
  CHECK(c.worst < 1e-4);
  CHECK(c.codes > 1000);
  // Codes move only where float rounding of about 1e-6 meets an edge.
  CHECK(static_cast<double>(c.moved) < 1e-3 * static_cast<double>(c.codes));
  CHECK(c.compared == c.traced.size());
  CHECK(c.all_codes_seen());
}

TEST_CASE("the integer engine equals fake-quantized float of the same codes") {
  struct Activations {
    int bits;
    Method method;
    bool levels;
  };
  for (const char* name : kNames)
    for (int wbits : {8, 4, 3})
      for (const Activations& a :
           {Activations{8, Method::kRepq, false}, Activations{4, Method::kRepq, false},
            Activations{6, Method::kRepq, false}, Activations{4, Method::kRepq, true},
            Activations{4, Method::kPtq4Vit, false}, Activations{8, Method::kPtq4Vit, false},
            Activations{5, Method::kApqVit, false}}) {
        const std::string model_name = name;
        CAPTURE(model_name);
        CAPTURE(wbits);
        CAPTURE(a.bits);
        CAPTURE(method_name(a.method));
        Fixture f(name, wbits, a.bits, a.method, a.levels);
        check_against_float(f);
      }
}

TEST_CASE("the same with outlier channels split") {
  for (const char* name : {"vit", "swin"}) {
    FloatModel model = load_float_model(kModels + name + ".safetensors");
    add_outlier(model, name == std::string("vit") ? "blocks.0" : "layers.0.blocks.0", 40);
    const int64_t hidden =
        model.graph.param(model.graph[model.graph.find(Role::kFc1)].bias)->dims[0];
    QuantizeOptions options;
    options.split = true;
    Fixture f(std::move(model), name, options);
    const int fc1 = f.model->graph().graph.find(Role::kFc1);  // of the first MLP
    REQUIRE(f.model->graph().linear(fc1).n > static_cast<int>(hidden) + 3);
    check_against_float(f);
    const std::vector<float> scalar = f.run({.kernels = find_kernels("scalar")});
    for (const Kernels* k : compiled_kernels())
      if (is_supported(*k)) CHECK(f.run({.threads = 2, .kernels = k}) == scalar);
  }
}

TEST_CASE("one result for every ISA, thread count and batch") {
  for (const char* name : kNames) {
    const std::string model_name = name;
    CAPTURE(model_name);
    const bool levels = model_name == "vit" || model_name == "swin_padded";
    const bool twin = model_name == "deit_distilled" || model_name == "swin";
    Fixture f(name, 4, levels ? 5 : 8, twin ? Method::kPtq4Vit : Method::kRepq, levels);
    const std::vector<float> expected =
        f.run({.threads = 1, .max_batch = 1, .kernels = find_kernels("scalar")});
    for (const Kernels* k : compiled_kernels()) {
      if (!is_supported(*k)) continue;
      const std::string isa = k->name;
      CAPTURE(isa);
      for (int threads : {1, 2, 3, 7})
        for (int batch : {1, 2}) {
          CAPTURE(threads);
          CAPTURE(batch);
          const auto got = f.run({.threads = threads, .max_batch = batch, .kernels = k});
          CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
        }
    }
  }
}

TEST_CASE("leaving out the rows that cannot reach the logits changes no bit") {
  for (const char* name : kNames) {
    Fixture f(name, 8, 8);
    const auto all = f.run({.all_rows = true}), needed = f.run({});
    CHECK(std::memcmp(all.data(), needed.data(), all.size() * sizeof(float)) == 0);
  }
}

// The values of the outputs named, for both images.
std::vector<Tensor> outputs_of(const Fixture& f, const std::vector<std::string>& names,
                               EngineOptions options) {
  options.outputs = names;
  options.max_batch = 2;
  Engine engine(f.model->graph(), options);
  std::vector<Tensor> values;
  std::vector<float*> pointers;
  REQUIRE(engine.outputs().size() == names.size());
  for (const PlannedOutput& o : engine.outputs()) values.emplace_back(Dims{2, o.rows, o.cols});
  for (Tensor& t : values) pointers.push_back(t.data.data());
  engine.run(f.images.data.data(), 2, pointers.data());
  return values;
}

TEST_CASE("outputs asked for together are those asked for alone, for every ISA") {
  for (const char* name : kNames) {
    const std::string model_name = name;
    CAPTURE(model_name);
    Fixture f(name, 4, 8);
    const QuantGraph& g = f.model->graph();
    std::vector<std::string> names;
    for (const Output& o : g.graph.outputs) names.push_back(o.name);
    CHECK(names == std::vector<std::string>{"logits", "embedding", "features"});
    const std::vector<Tensor> all = outputs_of(f, names, {.kernels = find_kernels("scalar")});
    CHECK(all[0].data == f.run({}));
    for (size_t i = 0; i < names.size(); i++) {
      const Shape& s = (*g.shapes)[g.graph.output(names[i])];
      CHECK(all[i].dims == Dims{2, s.rows, s.cols});
      CHECK(outputs_of(f, {names[i]}, {})[0].data == all[i].data);
    }
    for (const Kernels* k : compiled_kernels()) {
      if (!is_supported(*k)) continue;
      const std::vector<Tensor> got = outputs_of(f, names, {.threads = 3, .kernels = k});
      for (size_t i = 0; i < names.size(); i++) CHECK(got[i].data == all[i].data);
    }
  }
}

TEST_CASE("a choice that fails leaves the one before") {
  Fixture f("vit", 8, 8);
  Engine engine(f.model->graph(), {.max_batch = 2});
  std::vector<float> before(20), after(20);
  engine.run(f.images.data.data(), 2, before.data());
  CHECK(contains(error_of([&] { engine.select({}, {"boxes"}); }), "no output 'boxes'"));
  CHECK_THROWS_AS(engine.select({{7, 16}}, {}), Error);
  CHECK(engine.outputs().size() == 1);
  engine.run(f.images.data.data(), 2, after.data());
  CHECK(after == before);
}

TEST_CASE("logits of 8 bits stay near float") {
  for (const char* name : kNames) {
    const std::string model_name = name;
    CAPTURE(model_name);
    // Two images are few to draw the statistics of channels from: without the fold.
    Fixture f(name, 8, 8, Method::kLayerwise);
    const auto got = f.run({});
    const Tensor expected = read_npy(kModels + name + ".logits.npy");
    double error = 0, energy = 0;
    for (size_t i = 0; i < got.size(); i++) {
      error += std::pow(static_cast<double>(got[i] - expected.data[i]), 2);
      energy += std::pow(static_cast<double>(expected.data[i]), 2);
    }
    // log sqrt 2 alone rounds a probability by up to 19 %; SwinV2's factors of up to 100 leave a
    // row few of them.
    CHECK(std::sqrt(error / energy) < (model_name.starts_with("swinv2") ? 0.35 : 0.15));
  }
}

TEST_CASE("rows and columns that fill no patch are left out, as a convolution does") {
  const Fixture f("vit", 8, 8);  // 16 x 16, patches of 4
  Engine engine(f.model->graph(), {.max_batch = 2});
  const Tensor larger = read_npy(kModels + "vit_remainder.input.npy");  // [2, 3, 18, 19]
  Tensor cut({2, 3, 16, 16});
  for (size_t plane = 0; plane < 6; plane++)
    for (size_t y = 0; y < 16; y++)
      std::copy_n(larger.data.begin() + static_cast<std::ptrdiff_t>((plane * 18 + y) * 19), 16,
                  cut.data.begin() + static_cast<std::ptrdiff_t>((plane * 16 + y) * 16));
  std::vector<float> whole(20), part(20);
  float* out = part.data();
  engine.run(cut.data.data(), 2, &out);
  engine.select({{18, 19}}, {"logits"});
  out = whole.data();
  engine.run(larger.data.data(), 2, &out);
  CHECK(whole == part);
}

TEST_CASE("buffers are planned without overlap of living values") {
  Fixture f("swin_padded", 8, 8);
  const Plan plan = make_plan(f.model->graph(), {.batch = 3});
  int64_t sum = 0;
  for (const Value& v : plan.values)
    if (!v.constant) sum += int64_t{v.rows} * 3 * v.stride * (v.codes ? 1 : 4);
  CHECK(plan.arena_bytes < sum / 2);  // the plan reuses memory
}

}  // namespace
}  // namespace vitrun
