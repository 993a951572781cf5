// The integer engine on hand-made graphs: against the float engine on the same quantized graph, and
// against itself over ISAs, threads, batches, outputs and sizes.
#include <doctest/doctest.h>

#include "kernels/registry.h"
#include "tests/runtime/integer/allocations.h"
#include "tests/runtime/integer/compare_engines.h"

namespace vitrun {
namespace {

TEST_CASE("the integer engine equals the float engine on the quantized graph") {
  int64_t codes = 0, moved = 0;
  for (const std::string& name : hand_made_names())
    for (int weight_bits : {8, 4})
      for (int bits : {8, 4}) {
        CAPTURE(name);
        CAPTURE(weight_bits);
        CAPTURE(bits);
        const Comparison c = compare(QuantizedCase(name, weight_bits, bits));
        CHECK(c.agrees());
        CHECK(c.codes > 0);
        CHECK(c.floats > 0);
        codes += c.codes;
        moved += c.moved;
      }
  CHECK(codes > 20000);
  CHECK(moved * 1000 < codes);
}

// A code of 8 bits is within 1/510 of its range, and so few products hardly average that: two or
// three Linears behind each other stay within some hundredths. Log codes round a probability by up
// to 2^(1/4) - 1 = 19 %.
TEST_CASE("8-bit codes stay near the float model's outputs") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const QuantizedCase q(name, 8, 8);
    const bool attends = q.h.graph.find(NodeKind::kSoftmax) >= 0;
    const Results got = run_engine(*q.model, {.outputs = q.output_names()}, q.h.input);
    for (size_t i = 0; i < got.size(); i++)
      CHECK(difference_of(got[i], q.h.outputs[i].data) < (attends ? 0.19 : 0.04));
  }
}

// Three items, so that a batch of two leaves a rest.
Tensor three_of(const Tensor& two) {
  Tensor three = two;
  three.dims[0] = 3;
  const size_t size = two.data.size() / 2;
  for (size_t i = 0; i < size; i++) three.data.push_back(two.data[size - 1 - i]);
  return three;
}

TEST_CASE("one result for every ISA, thread count and batch, on graphs of every kind") {
  for (const std::string& name : hand_made_names()) {
    CAPTURE(name);
    const QuantizedCase q(name, 4, 8);
    const Tensor input = three_of(q.h.input);
    const Results expected = run_engine(
        *q.model, {.kernels = find_kernels("scalar"), .outputs = q.output_names()}, input);
    const Results all_rows =
        run_engine(*q.model, {.all_rows = true, .outputs = q.output_names()}, input);
    CHECK(same_bits(all_rows, expected));
    for (const Kernels* k : compiled_kernels()) {
      if (!is_supported(*k)) continue;
      const std::string isa = k->name;
      CAPTURE(isa);
      for (int threads : {1, 2, 3})
        for (int batch : {1, 2, 3}) {
          CAPTURE(threads);
          CAPTURE(batch);
          CHECK(same_bits(run_engine(*q.model,
                                     {.threads = threads,
                                      .max_batch = batch,
                                      .kernels = k,
                                      .outputs = q.output_names()},
                                     input),
                          expected));
        }
    }
  }
}

TEST_CASE("outputs by name: every subset, in any order, gives what all of them give") {
  for (const std::string name : {"outputs3", "sizes", "add_linears"}) {
    CAPTURE(name);
    const QuantizedCase q(name, 8, 8);
    const std::vector<std::string> names = q.output_names();
    const Results all = run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input);
    Engine engine(*q.model, {.threads = 2, .max_batch = 2});
    for (size_t subset = 1; subset < size_t{1} << names.size(); subset++)
      for (bool reversed : {false, true}) {
        std::vector<std::string> some;
        Results expected;
        for (size_t k = 0; k < names.size(); k++) {
          const size_t i = reversed ? names.size() - 1 - k : k;
          if (!(subset >> i & 1)) continue;
          some.push_back(names[i]);
          expected.push_back(all[i]);
        }
        engine.select({}, some);
        CHECK(same_bits(run_engine(engine, q.h.input), expected));
        for (size_t k = 0; k < some.size(); k++) CHECK(engine.outputs()[k].name == some[k]);
      }
    CHECK(contains(error_of([&] { engine.select({}, {"none"}); }), "no output 'none'"));
  }
}

TEST_CASE("two sizes in turn equal engines of their own, and allocate nothing once each is known") {
  const QuantizedCase q("sizes", 8, 8);
  const HandMade other = hand_made_graph("sizes_other");
  const std::vector<std::string> names = q.output_names();
  const std::vector<MapSize> sizes[] = {{{8, 10}}, {{12, 7}}};
  const Tensor* const inputs[] = {&q.h.input, &other.input};
  CHECK(compare(q, other.input).agrees());
  for (int threads : {1, 2}) {
    Engine engine(*q.model, {.threads = threads, .max_batch = 2, .outputs = names});
    Results fresh[2];
    for (int i : {0, 1}) {
      fresh[i] =
          run_engine(*q.model, {.max_batch = 2, .sizes = sizes[i], .outputs = names}, *inputs[i]);
      const int64_t bytes = engine.bytes_for(sizes[i], names);
      engine.select(sizes[i], names);
      CHECK(engine.buffer_bytes() == bytes);
      CHECK(same_bits(run_engine(engine, *inputs[i]), fresh[i]));
    }
    std::vector<float> map(fresh[0][0].size() + fresh[1][0].size()), mean(6);
    float* const to[] = {map.data(), mean.data()};
    const int64_t before = allocation_count();
    for (int round = 0; round < 3; round++)
      for (int i : {0, 1}) {
        engine.select(sizes[i], names);
        engine.run(inputs[i]->data.data(), 2, to);
      }
    CHECK(allocation_count() == before);
    CHECK(std::equal(fresh[1][0].begin(), fresh[1][0].end(), map.begin()));
    CHECK(std::equal(fresh[1][1].begin(), fresh[1][1].end(), mean.begin()));
  }
  Engine engine(*q.model, {.max_batch = 2, .outputs = names});
  CHECK(error_of([&] { engine.select({{0, 7}}, names); }) != "no error");
  CHECK(same_bits(run_engine(engine, q.h.input),
                  run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input)));
}

TEST_CASE("an engine that finds no memory for another choice goes on with the one it has") {
  const QuantizedCase q("sizes", 8, 8);
  const HandMade other = hand_made_graph("sizes_other");
  const std::vector<std::string> names = q.output_names();
  const Results expected = run_engine(*q.model, {.max_batch = 2, .outputs = names}, q.h.input);
  Engine engine(*q.model, {.threads = 2, .max_batch = 2, .outputs = names});
  const std::vector<MapSize> larger = {{60, 70}};
  int failures = 0;
  for (bool failed = true; failed; failures += failed) {
    fail_allocation_in(failures);
    try {
      engine.select(larger, names);
      failed = false;
    } catch (const std::bad_alloc&) {
    }
    fail_allocation_in(-1);
    if (failed) CHECK(same_bits(run_engine(engine, q.h.input), expected));
  }
  CHECK(failures > 20);
  CHECK(engine.buffer_bytes() == engine.bytes_for(larger, names));
  engine.select({{12, 7}}, names);
  CHECK(same_bits(
      run_engine(engine, other.input),
      run_engine(*q.model, {.max_batch = 2, .sizes = {{12, 7}}, .outputs = names}, other.input)));
}

TEST_CASE("readers of one value may have scales of their own") {
  for (const std::string name : {"two_readers", "swiglu", "attention_bias", "attention_cross",
                                 "rope_half", "add_linears", "concat_columns"}) {
    CAPTURE(name);
    const QuantizedCase q(name, 8, 8, widen_second);
    const Comparison c = compare(q);
    CHECK(c.agrees());
    const Results expected = run_engine(*q.model, {.kernels = find_kernels("scalar")}, q.h.input);
    CHECK(same_bits(run_engine(*q.model, {.threads = 3}, q.h.input), expected));
  }
}

// Checks that every ISA gives what the scalar kernels do, on one thread and on three; returns that.
Results check_every_isa(const QuantizedCase& q) {
  const Results expected = run_engine(*q.model, {.kernels = find_kernels("scalar")}, q.h.input);
  for (const Kernels* k : compiled_kernels())
    if (is_supported(*k))
      for (int threads : {1, 3}) {
        CAPTURE(std::string(k->name));
        CHECK(same_bits(run_engine(*q.model, {.threads = threads, .kernels = k}, q.h.input),
                        expected));
      }
  return expected;
}

// q, k and v get a range for each of the two heads.
void by_head(const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
  for (size_t s = 0; s < sites.size(); s++)
    if (sites[s].name.find(".matmul") != std::string::npos)
      ranges[s].heads = {ranges[s].range, {ranges[s].range.scale * 0.8f, ranges[s].range.zero + 3}};
}

TEST_CASE("ranges by head, of a Linear's columns and of values that are rotated first") {
  for (const std::string name :
       {"attention_bias", "attention_shifted", "rope_half", "rope_neighbours"}) {
    CAPTURE(name);
    const QuantizedCase q(name, 8, 8, by_head);
    int64_t with_heads = 0;
    for (int i = 0; i < q.model->graph.size(); i++)
      if (q.model->graph.is(i, NodeKind::kQuantize))
        with_heads += !q.model->quantizer(i).heads.empty();
    CHECK(with_heads == 3);
    check_every_isa(q);
    CHECK(compare(q).agrees());
  }
}

TEST_CASE("rows with ranges of their own, of 8 bits and of groups; heads in groups") {
  for (int bits : {8, 6, 4})
    for (const std::string name :
         {"gelu", "norm_layer", "norm_rms", "swiglu", "attention_bias", "attention_shifted",
          "attention_causal", "attention_cross", "rope_half", "attention_cosines", "two_readers",
          "add_linears"}) {
      CAPTURE(name);
      CAPTURE(bits);
      const HandMade h = hand_made_graph(name);
      const Shapes shapes = infer_shapes(h.graph);
      int by_row = 0;
      const Adjust rows = [&](const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
        for (size_t s = 0; s < sites.size(); s++)
          if (may_go_by_row(h.graph, shapes, sites[s]))
            ranges[s] = {.bits = bits, .group = 16}, by_row++;
          else if (has_head_ranges(h.graph, shapes, sites[s], true))
            ranges[s] = in_head_groups(ranges[s], bits, shapes.geometry(sites[s].consumer));
      };
      const QuantizedCase q(name, 8, 8, rows);
      CHECK(by_row > 0);
      CHECK(compare(q).agrees());
      CHECK(same_bits(run_engine(*q.model, {.max_batch = 2}, q.h.input), check_every_isa(q)));
    }
}

TEST_CASE("codes of few levels, and evenly spaced probabilities") {
  const auto spaced = [](int twin, bool levels) {
    return [=](const std::vector<Site>& sites, std::vector<SiteRange>& ranges) {
      for (size_t s = 0; s < sites.size(); s++) {
        SiteRange& r = ranges[s];
        if (sites[s].softmax) {  // 255 steps up to 1, 127 of which the first is finer, or by sum
          r.twin = twin;
          r.range.scale = 1 / (twin ? 127.f : 255.f);
        } else if (levels && sites[s].operand == 0 &&
                   sites[s].name.find(".matmul") == std::string::npos) {
          r.bits = 4;
          for (int i = 0; i < 16; i++)
            r.levels.push_back({static_cast<uint8_t>(16 * i), static_cast<uint8_t>(16 * i + 7)});
        }
      }
    };
  };
  for (const std::string name :
       {"conv", "conv_stride", "conv_image", "gelu", "norm_layer", "attention_bias",
        "attention_shifted", "attention_cross", "rope_half", "two_readers"})
    for (int twin : {0, 3, CodeParams::kSumCodes, CodeParams::kCarriedCodes}) {
      CAPTURE(name);
      CAPTURE(twin);
      const QuantizedCase q(name, 8, 8, spaced(twin, true));
      CHECK(compare(q).agrees());
      check_every_isa(q);
    }
}

TEST_CASE("a value of attention has two readers at different scales") {
  GraphBuilder b;
  const int x = b.map("x", 5, 1, 7);
  const int q = b.linear(x, "q", 12), k = b.linear(x, "k", 12), v = b.linear(x, "v", 12);
  const int y = b.attention(q, k, v, "attn", hand_made::heads_of(2, 6));
  b.output("out", b.add(b.linear(y, "a", 4), b.linear(y, "b", 4), "add"));
  HandMade h = hand_made_graph("attention_causal");  // q, k, v and its last Linear
  h.graph = b.finish();
  for (const std::string part : {".weight", ".bias"}) {
    Tensor& last = h.weights.at("last" + part);
    h.weights["a" + part] = slice(last, 0, 4);
    h.weights["b" + part] = slice(last, 1, 4);
    h.weights.erase("last" + part);
  }
  const QuantizedCase quantized(std::move(h), 8, 8, widen_second);
  CHECK(compare(quantized).agrees());
}

TEST_CASE("a neighbourhood of a map is gathered from codes, whatever the order of its elements") {
  for (const std::string name : {"conv", "conv_stride", "conv_merging", "sizes"}) {
    CAPTURE(name);
    const QuantizedCase q(name, 8, 8);
    const Plan plan = make_plan(*q.model, {});
    int gathered = 0;
    for (const Step& s : plan.steps) {
      gathered += s.window >= 0;
      CHECK((s.op != Op::kPlain || !q.model->graph.is(s.node, NodeKind::kWindow)));
    }
    CHECK(gathered == (name == "sizes" ? 2 : 1));
  }
}

TEST_CASE("a whole model of a hand-made graph: image in, no classes") {
  const QuantizedCase q("conv_image", 8, 8);
  const QuantModel model(QbinFile::from_memory(q.bytes->bytes(), "conv_image"));
  CHECK(model.info().num_classes == 0);
  CHECK(model.info().image_height == 9);
  CHECK(same_bits(run_engine(model.graph(), {.max_batch = 2}, q.h.input),
                  run_engine(*q.model, {}, q.h.input)));
  const std::string message = error_of([&] {
    const QuantizedCase map("conv", 8, 8);
    QuantModel(QbinFile::from_memory(map.bytes->bytes(), "conv"));
  });
  CHECK(contains(message, "has no image of 3 channels"));
}

}  // namespace
}  // namespace vitrun
