// Graphs whose shapes do not fit are refused, as test_bad_graphs.cc says.
#include "tests/runtime/integer/bad_graphs.h"

namespace vitrun {

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
      {"softmax of no scores", reads("softmax", {8}),
       "softmax 'softmax': its input comes from no scores"},
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
      {"mix of no softmax", reads("mix", {6, 8}), "mix 'mix': its input comes from no softmax"},
      {"mix of scores", reads("mix", {9, 8}), "mix 'mix': its input comes from no softmax"},
      {"mix of codes of scores", reads("p", {9}), "quantize 'p': rounds scores before their"},
      {"mix of codes of codes",
       [](Model& m) {
         m.quantize("p2", "p");
         m.add(K::kMix, "mix2", {"p2", "v"});
       },
       "mix 'mix2': its input comes from no softmax"},
      {"mix of a mix",
       [](Model& m) {
         m.add(K::kMix, "mix2", {"mixed", "v"});
       },
       "mix 'mix2': its input comes from no softmax"},
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
      {"a row for padding in an act",
       [](Model& m) {
         m.attribute("embed", A::kPadToWindow) = 3;
         m.attribute("image", A::kHeight) = m.attribute("image", A::kWidth) = 8;
         m.add(K::kAct, "a", {"embed"});
       },
       "reads a value with a row of padding, which only attention and norms do"},
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

}  // namespace vitrun
