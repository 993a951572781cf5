// Good graphs of which few rows are needed, or whose attention reads what models seldom give it:
// the same bits for any rows, threads, batch and ISA.
#include "tests/runtime/integer/bad_graphs.h"

namespace vitrun {

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
