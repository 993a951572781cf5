// Malformed graphs: each file differs from a good one in one thing, has right checksums, and is
// refused with the file, the node and the reason before anything large is allocated.
#include "tests/runtime/integer/bad_graphs.h"

namespace vitrun {

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
       cat("node 3: kind ", kNodeKinds, ", this version knows those below ", kNodeKinds),
       byte_at("embed", -8, kNodeKinds)},
      {"an unknown role",
       {},
       cat("node 3: role ", kRoles, ", this version knows those below ", kRoles),
       byte_at("embed", -7, kRoles)},
      {"an unknown attribute",
       {},
       cat("'patches': attribute ", kAttributes, ", this version knows"),
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
      {"a small code group", set("x", A::kCodeGroup, 3),
       "quantize 'x': groups of 3 columns, expected"},
      {"a code group of a half", set("x", A::kCodeGroup, 16.5), "quantize 'x': groups of 16.5"},
      {"pixels by row", set("pixels", A::kCodeGroup, 16), "has no integer form in this place"},
      {"q by row", set("q", A::kCodeGroup, 16), "quantize 'q' has no integer form in this place"},
      {"probabilities by row", set("p", A::kCodeGroup, 16), "quantize 'p' has no integer form"},
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
         m.add(K::kAct, "a", {"sum"}, {{A::kType, 7}});
       },
       "act 'a': type is 7"},
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
       "tensor 'proj.weight' has the wrong type, expected codes"},
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
      {"ranges by head of a linear", ranges("x", {1, 1, 0, 0}), "linear 'qkv' has no integer form"},
      {"levels and groups",
       [=](Model& m) {
         levels({0, 0, 9, 9})(m);
         m.attribute("x", A::kCodeGroup) = 16;
       },
       "quantize 'x': levels and groups"},
      {"groups that are not the heads",
       [=](Model& m) {
         ranges("q", {1, 1, 100, 100})(m);
         m.attribute("q", A::kCodeGroup) = 5;
       },
       "quantize 'q': groups of 5 columns are not its heads"},
      {"a zero point without room for groups",
       [=](Model& m) {
         ranges("q", {1, 1, 100, 252})(m);
         m.attribute("q", A::kBits) = 4;
         m.attribute("q", A::kCodeGroup) = 4;
       },
       "quantize 'q': zero point of a head's groups is 252, expected 8 to 247"},
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

}  // namespace vitrun
