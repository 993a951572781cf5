// The table of bad input: each file breaks one rule, and the program that reads it answers with a
// message of its own that names the file, and exit status 1.
#include <algorithm>
#include <limits>
#include <set>

#include "kernels/pack.h"
#include "runtime/vision/webp.h"
#include "tests/runtime/files/bad_files.h"

using namespace vitrun;

namespace {

struct Row {
  std::string name;
  Maker make;
  std::string expected;  // part of the message; begins with the name of the file at fault
};

void check_all(const std::string& area, const std::vector<Row>& rows, size_t least) {
  std::set<std::string> messages;
  for (const Row& row : rows) {
    const TempFolder folder;
    const Outcome done = execute(row.make(folder));
    CAPTURE(row.name);
    CAPTURE(row.expected);
    CAPTURE(done.err);
    CHECK(done.status == 1);
    CHECK(done.out.empty());
    CHECK(contains(done.err, ": " + folder / row.expected));
    CHECK(done.err.size() < 1000);
    const std::string own = done.err.substr(std::min(done.err.size(), done.err.find(": ") + 2));
    CHECK(messages.insert(own.substr(std::min(own.size(), (folder / "").size()))).second);
  }
  CHECK(rows.size() >= least);
  MESSAGE(area << ": " << rows.size() << " bad inputs refused");
}

// --- .safetensors -----------------------------------------------------------------------------

std::vector<Row> safetensors_rows() {
  const std::string good = read_bytes(kVit), f = "bad.safetensors: ";
  const float nan = std::nanf(""), infinity = INFINITY;
  return {
      {"empty", weights(""), f + "not a .safetensors file: shorter than 8 bytes"},
      {"cut in the header", weights(good.substr(0, 1000)), f + "truncated: header of"},
      {"cut in the data", weights(good.substr(0, good.size() - 4)), f + "tensor 'pos_embed': data"},
      {"tail", weights(good + "x"), f + "1 bytes after the last tensor"},
      {"a length of all ones", weights(std::string(8, '\xff') + good), f + "not a .safetensors"},
      {"Git LFS pointer", weights("version https://git-lfs.github.com/spec/v1\n"),
       f + "not a .safetensors file: this is a Git LFS pointer"},
      {"PyTorch's zip", weights("PK\x03\x04" + std::string(40, 'x')), f + "not a .safetensors"},
      {"no JSON", weights(framed("{\"a\":")), f + "is not valid JSON"},
      {"no tensor", weights(framed("{}")), f + "no tensor of a vision transformer"},
      {"a name twice", weights(framed("{\"a\":1,\"a\":1}")), f + "the key 'a' appears twice"},
      {"nested too deep", weights(framed("{\"a\":" + std::string(90000, '['))),
       f + "JSON nested deeper"},
      {"unknown dtype", header([](json& h) { h["norm.bias"]["dtype"] = "F4"; }),
       f + "tensor 'norm.bias': unknown dtype 'F4'"},
      {"product overflows", header([](json& h) {
         h["norm.bias"]["shape"] = {1ll << 62, 16};
       }),
       f + "tensor 'norm.bias': shape [4611686018427387904, 16] is too large"},
      {"shape against bytes", header([](json& h) { h["norm.bias"]["shape"] = {17}; }),
       f + "tensor 'norm.bias': F32 [17] needs 68 bytes"},
      {"overlap", header([](json& h) {
         h["norm.bias"]["data_offsets"] = {0, 64};
       }),
       f + "tensor 'norm.bias': overlaps"},
      {"integers", entries([](Entries& e) { e["norm.bias"].dtype = "I32"; }),
       f + "tensor 'norm.bias': dtype I32 is not supported"},
      {"a NaN", entries([&](Entries& e) { put(e["norm.bias"].data, 8, nan); }),
       f + "tensor 'norm.bias': element 2 is nan"},
      {"an infinity", entries([&](Entries& e) { put(e["norm.weight"].data, 0, infinity); }),
       f + "tensor 'norm.weight': element 0 is inf"},
      {"missing bias", entries([](Entries& e) { e.erase("blocks.1.mlp.fc2.bias"); }),
       f + "tensor 'blocks.1.mlp.fc2.bias' [16] is missing"},
      {"transposed", entries([](Entries& e) {
         e["blocks.0.mlp.fc2.weight"].shape = {64, 16};
       }),
       f + "tensor 'blocks.0.mlp.fc2.weight' is [64, 16], the model needs [16, 64]"},
      {"transposed, first", entries([](Entries& e) {
         e["blocks.0.mlp.fc1.weight"].shape = {16, 64};
       }),
       f + "tensor 'blocks.0.mlp.fc1.weight' is [16, 64], the model needs [64, 16]"},
      {"a norm before the blocks of a wrong shape", renamed("head.weight", "norm_pre.weight"),
       f + "tensor 'norm_pre.weight' is [10, 16], the model needs [16]"},
      {"no positions", renamed("pos_embed", "reg_token"), f + "tensor 'pos_embed' is missing"},
      {"no last norm", renamed("norm.weight", "norm_pre.weight"),
       f + "tensor 'norm.weight' is missing"},
      {"registers of a wrong shape", entries([](Entries& e) {
         e["reg_token"] = e["blocks.0.norm1.weight"];
         e["reg_token"].shape = {1, 2, 8};
       }),
       f + "tensor 'reg_token' is [1, 2, 8], the model needs [2, 16]"},
      {"a class token of a wrong shape", entries([](Entries& e) {
         e["cls_token"].shape = {1, 2, 8};
       }),
       f + "tensor 'cls_token' is [1, 2, 8], the model needs [16]"},
      {"attention pooling that the configuration denies",
       entries([](Entries& e) { e["attn_pool.latent"] = e["cls_token"]; }),
       "bad.json: the weights have attn_pool, but pooling is not 'map'"},
      {"Swin V2 CR", renamed("norm.bias", "stages.0.blocks.0.attn.meta_mlp.fc1.bias"),
       f + "this is SwinV2-CR, which"},
      {"another network", renamed("norm.bias", "layer1.0.bn1.weight"), f + "this is a ResNet"},
      {"distilled without a head", renamed("norm.bias", "dist_token"),
       f + "not supported: a distillation token"},
  };
}

// --- config.json ------------------------------------------------------------------------------

std::vector<Row> config_rows() {
  const std::string f = "bad.json: ", deep(100000, '[');
  return {
      {"empty", config(""), f + "is not valid JSON"},
      {"a list", config("[]"), f + "expected a JSON object"},
      {"nested too deep", config(R"({"a":)" + deep), f + "JSON nested deeper than 8 levels"},
      {"a key twice", config(R"({"a":1,"a":2})"), f + "the key 'a' appears twice"},
      {"neither convention", config("{}"), f + "neither 'architecture' (timm) nor 'model_type'"},
      {"another family", timm([](json& j) { j["architecture"] = "resnet50"; }),
       f + "'architecture' is \"resnet50\""},
      {"another family's type", config(R"({"model_type":"blip"})"), f + "'model_type' is \"blip\""},
      {"Swin for a ViT", config(R"({"model_type":"swin"})"), f + "the configuration says Swin"},
      {"depth", model_arg("depth", 3), f + "the configuration says depth [3], the weights [2]"},
      {"heads", model_arg("num_heads", 3), f + "configuration: embed_dim 16 is no multiple"},
      {"no heads", model_arg("num_heads", 0), f + "model_args: 'num_heads' is 0, expected a posit"},
      {"image", model_arg("img_size", 20), f + "the configuration says an image of 20x20"},
      {"huge image", model_arg("img_size", 999999), f + "the configuration says an image of 99999"},
      {"classes", timm([](json& j) { j["num_classes"] = 1000; }),
       f + "the configuration says number of classes 1000, the weights 10"},
      {"registers", model_arg("reg_tokens", 4),
       f + "the configuration says 4 register tokens, the "},
      {"unknown option", model_arg("rope", true), f + "model_args: 'rope' is not supported"},
      {"mean", pretrained("mean", {0.5, "x", 0.5}), f + "pretrained_cfg: 'mean' is"},
      {"std", pretrained("std", {0.5, 0.0, 0.5}), f + "configuration: std is 0"},
      {"crop", pretrained("crop_pct", -1), f + "pretrained_cfg: 'crop_pct' is -1"},
      {"filter", pretrained("interpolation", "lanczos"), f + "pretrained_cfg: 'interpolation' is"},
      {"labels", timm([](json& j) {
         j["label_names"] = {"a", "b"};
       }),
       f + "configuration: 2 label"},
      {"preprocessor", preprocessor(R"({"size":32})"),
       "preprocessor_config.json: makes images of 32x32, the model takes 16x16"},
  };
}

// --- .qbin ------------------------------------------------------------------------------------

std::vector<Row> qbin_container_rows() {
  const std::string good = good_qbin(), f = "bad.qbin: ";
  std::string flipped = good, swapped = good;
  flipped[100] ^= 4;
  for (auto [at, size] :
       {std::pair{8, 2}, {10, 2}, {12, 4}, {16, 8}, {24, 8}, {32, 8}, {40, 4}, {48, 8}, {56, 4}})
    std::reverse(swapped.begin() + at, swapped.begin() + at + size);
  return {
      {"empty", qbin(""), f + "expected a .qbin file, found an empty one"},
      {"another file", qbin("GGUF" + std::string(100, 'x')), f + "not a .qbin file"},
      {"in text mode", qbin(replaced(good, "\r\n", "\n")), f + "a .qbin damaged in its first byt"},
      {"cut in the header", qbin(good.substr(0, 63)), f + "truncated: expected a header of 64"},
      {"cut in the data", qbin(good.substr(0, good.size() - 1)), f + "truncated: expected"},
      {"tail", qbin(good + "xx"), f + "2 bytes after the end"},
      {"a flipped bit", qbin(flipped), f + "the head is damaged (its checksum differs)"},
      {"big-endian", qbin(swapped), f + "format version 512.0"},
      {"newer", head([](std::string& b) { put(b, 8, uint16_t{3}); }), f + "format version 3.0"},
      {"of vitrun 0.1", qbin(read_bytes(golden("qbin/v1_0.qbin"))),
       f + "made by vitrun 0.1 (format version 1), whose files hold no graph; make it again"},
      {"head size", head([](std::string& b) { put(b, 24, UINT64_MAX - 63); }), f + "head size"},
      {"keys", head([](std::string& b) { put(b, 40, UINT32_MAX); }), f + "expected at most 10000"},
      {"tensors", head([](std::string& b) { put(b, 44, UINT32_MAX); }),
       f + "expected at most 100000 tensors"},
      {"graphs", head([](std::string& b) { put(b, 56, UINT32_MAX); }), f + "expected at most 16 g"},
      {"NaN mean", nan_in("preprocess.mean", 5),
       f + "metadata 'preprocess.mean': expected a number, found N"},
      {"NaN crop", nan_in("preprocess.crop_pct", 1),
       f + "metadata 'preprocess.crop_pct': expected a number"},
      // Behind the name: flags and unit, an input, the number of attributes, begin, end, "scale".
      {"NaN scale", nan_in("patch_embed.codes", 1 + 13 + 5 + 1 + 9 + 9 + 1),
       f + "graph 'main', node 2 'patch_embed.codes': scale is NaN"},
      {"an unknown kind of node",
       head([](std::string& b) { put(b, b.find("cls_token") - 8, uint8_t{200}); }),
       f + "graph 'main', node 4: kind 200, this version knows those below"},
  };
}

// Graphs that infer_shapes() refuses, one for each of its rules that a ViT's nodes can break.
std::vector<Row> qbin_graph_rows() {
  using A = Attribute;
  using K = NodeKind;
  const std::string f = "bad.qbin: ", q = "blocks.0.attn.matmul1.q.codes",
                    scores = "blocks.0.attn.matmul1", mix = "blocks.0.attn.matmul2",
                    patches = "patch_embed.patches", qkv = "blocks.0.attn.qkv";
  const auto inputs = [](const std::string& name, std::vector<int> in) {
    return node(name, [=](Node& n) { n.in = in; });
  };
  const auto kind = [](const std::string& name, NodeKind k) {
    return node(name, [=](Node& n) { n.kind = k; });
  };
  const auto weight = [](const std::string& name, const std::string& w) {
    return node(name, [=](Node& n) { n.weight = w; });
  };
  const auto shaped = [](const std::string& tensor, Dims dims) {
    return parts([=](Parts& p) {
      p.tensors.at(tensor) = {DType::kF32, 0, dims,
                              Buffer(4 * static_cast<size_t>(element_count(dims)))};
    });
  };
  return {
      {"reads itself", inputs("norm", {48}), f + "norm 'norm': reads node 48, which does not come"},
      {"reads a later node", inputs("norm", {65535}), f + "norm 'norm': reads node 65535, which"},
      {"no input", inputs("norm", {}), f + "norm 'norm': has 0 inputs, expected 1 to 1"},
      {"three inputs", inputs("pos_embed.add", {6, 5, 5}), f + "add 'pos_embed.add': has 3 inputs"},
      {"reads the image", inputs("norm", {0}), f + "norm 'norm': reads an image as it is, which"},
      {"reads scores", inputs("norm", {13}), f + "norm 'norm': reads scores of 2 groups"},
      {"a side of nothing", attribute("image", A::kHeight, 0),
       f + "input 'image': height is 0, ex"},
      {"half a side", attribute("image", A::kWidth, 15.5), f + "input 'image': width is 15.5, exp"},
      {"a huge side", attribute("image", A::kWidth, 1e300), f + "input 'image': width is 1e+300"},
      {"an infinite side", attribute("image", A::kWidth, INFINITY),
       f + "input 'image': width is inf, expected a whole number from 1 to 32768"},
      {"four channels", attribute("image", A::kChannels, 4),
       f + "input 'image': 'image.weight' is [3], expected [4]"},
      {"a map as input", attribute("image", A::kPlanar, 0),
       f + "input 'image': a map has a weight, which only images have"},
      {"a weight without a bias", node("image", [](Node& n) { n.bias = ""; }),
       f + "input 'image': has a weight without a bias"},
      {"no positions", shaped("cls_token", {2, 1, 1, 16}), f + "const 'cls_token': 'cls_token' is"},
      {"a map of other rows",
       node("pos_embed",
            [](Node& n) { n.attributes[A::kHeight] = 4, n.attributes[A::kWidth] = 4; }),
       f + "const 'pos_embed': its map of 4 x 4 has not its 17 rows"},
      {"fewer positions", shaped("pos_embed", {1, 16, 16}),
       f + "add 'pos_embed.add': an operand of 16 x 16 does not fit one of 17 x 16"},
      {"a kernel of nothing", attribute(patches, A::kKernelHeight, 0),
       f + "window 'patch_embed.patches': kernel_height is 0"},
      {"a kernel beyond the image", attribute(patches, A::kKernelWidth, 17),
       f + "window 'patch_embed.patches': a kernel of 4 x 17 on a map of 16 x 16"},
      {"an endless window", attribute(patches, A::kStride, 0),
       f + "window 'patch_embed.patches': stride is 0"},
      {"padding as wide as the kernel", attribute(patches, A::kPadding, 4),
       f + "window 'patch_embed.patches': padding is 4, expected a whole number from 0 to 3"},
      {"an order", attribute(patches, A::kOrder, 3),
       f + "window 'patch_embed.patches': order is 3"},
      {"a window of no map", kind("pool", K::kWindow), f + "window 'pool': its input is no map"},
      {"columns before the first", attribute(q, A::kBegin, -1),
       f + "quantize '" + q + "': begin i"},
      {"columns behind the last", attribute(q, A::kEnd, 49), f + "quantize '" + q + "': end is 49"},
      {"some columns of scores", attribute("blocks.0.attn.attn.codes", A::kEnd, 16),
       f + "quantize 'blocks.0.attn.attn.codes': takes some columns of scores"},
      {"heads that do not fit", attribute(scores, A::kHeads, 3),
       f + "scores 'blocks.0.attn.matmul1': 3 heads of 8 columns do not fit 16 and 16"},
      {"no heads", attribute(scores, A::kHeads, 0), f + "scores '" + scores + "': heads is 0"},
      {"keys further on", attribute(scores, A::kKeyBegin, 1),
       f + "scores '" + scores + "': 2 head"},
      {"a negative scale of scores", attribute(scores, A::kScale, -1),
       f + "scores 'blocks.0.attn.matmul1': scale is -1, expected 0 to 1e+06"},
      {"windows of no map", attribute(scores, A::kWindow, 2),
       f + "scores 'blocks.0.attn.matmul1': its input is no map of positions"},
      {"a shift without a window", attribute(scores, A::kShift, 1),
       f + "scores 'blocks.0.attn.matmul1': shift is 1, expected a whole number from 0 to 0"},
      {"values further on", attribute(mix, A::kValueBegin, 1),
       f + "mix '" + mix + "': 2 heads of 8"},
      {"a mix of no scores", inputs(mix, {9, 16}),
       f + "mix '" + mix + "': its input comes from no"},
      {"values of fewer rows", inputs(mix, {15, 3}), f + "mix '" + mix + "': v has 16 rows, k 17"},
      {"a softmax of no scores", kind("norm", K::kSoftmax),
       f + "softmax 'norm': its input comes f"},
      {"a table for no windows", weight("blocks.0.attn.attn", "norm.weight"),
       f + "softmax 'blocks.0.attn.attn': "},
      {"a norm's type", attribute("norm", A::kType, 3), f + "norm 'norm': type is 3"},
      {"a layer norm without a weight", weight("norm", ""), f + "norm 'norm': a layer norm needs"},
      {"an infinite epsilon", attribute("norm", A::kEpsilon, INFINITY),
       f + "norm 'norm': epsilon is inf, expected 0 to 1"},
      {"groups of a layer norm", attribute("norm", A::kGroup, 6),
       f + "norm 'norm': groups of 6 of"},
      {"an activation", attribute("blocks.0.mlp.act", A::kType, 7),
       f + "act 'blocks.0.mlp.act': type is 7, expected a whole number from 0 to 6"},
      {"a limit below 0", attribute("blocks.0.mlp.act", A::kLimit, -1),
       f + "act 'blocks.0.mlp.act': limit is -1"},
      {"a factor", attribute("pos_embed.add", A::kAlpha, -INFINITY),
       f + "add 'pos_embed.add': alpha is -inf"},
      {"an axis", attribute("tokens", A::kAxis, 2), f + "concat 'tokens': axis is 2"},
      {"side by side", attribute("tokens", A::kAxis, 1),
       f + "concat 'tokens': inputs of 1 x 16 an"},
      {"no rows", attribute("pool", A::kEnd, 0),
       f + "slice 'pool': end is 0, expected a whole num"},
      {"a row behind the last", attribute("pool", A::kBegin, 17), f + "slice 'pool': begin is 17"},
      {"a pool of no map",
       node("pool",
            [](Node& n) {
              n.kind = K::kPool;
              n.attributes[A::kKernelHeight] = n.attributes[A::kKernelWidth] = 2;
            }),
       f + "pool 'pool': its input is no map"},
      {"a resize of no map", kind("pool", K::kResize), f + "resize 'pool': its input is no map"},
      {"an unwindow of no map", kind("pool", K::kUnwindow),
       f + "unwindow 'pool': its input is no m"},
      {"a rope of nothing", kind("pos_embed.add", K::kRope),
       f + "rope 'pos_embed.add': head_dim is"},
      {"a weight of other columns", weight(qkv, "blocks.0.mlp.fc2.weight"),
       f + "linear 'blocks.0.attn.qkv': 'blocks.0.mlp.fc2.weight' is [16, 64], its input has 16"},
      {"a weight that is a vector", weight(qkv, "norm.weight"),
       f + "linear 'blocks.0.attn.qkv': 'norm.weight' is [16]"},
      {"another layer's bias", node(qkv, [](Node& n) { n.bias = "head.bias"; }),
       f + "linear 'blocks.0.attn.qkv': 'head.bias' is [10], expected [48]"},
  };
}

std::vector<Row> qbin_model_rows() {
  using I = int64_t;
  using A = Attribute;
  const std::string f = "bad.qbin: ";
  const double infinity = std::numeric_limits<double>::infinity();
  const std::string qkv = "blocks.0.attn.qkv.weight", codes = "patch_embed.codes",
                    of = f + "quantize 'patch_embed.codes': ", v = "blocks.0.attn.matmul2.v.codes",
                    of_v = f + "quantize '" + v + "': ";
  const auto table = [](const std::string& quantize, std::string Node::*field, DType type,
                        const Dims& dims, auto values) {
    return parts([=](Parts& p) {
      Graph& g = p.graphs.at("main");
      Node& n = g[g.find(quantize)];
      n.weight = n.bias = "";
      n.*field = "table";
      n.attributes[A::kBits] = 3;
      Buffer bytes(values.size() * sizeof values[0]);
      std::memcpy(bytes.data(), values.data(), bytes.size());
      p.tensors["table"] = {type, 0, dims, bytes};
    });
  };
  const auto levels = [&](DType type, std::vector<uint8_t> bytes) {
    return table(codes, &Node::weight, type, {static_cast<I>(bytes.size()) / 2, 2}, bytes);
  };
  const auto heads = [&](const Dims& dims, std::vector<float> values) {
    return table(v, &Node::bias, DType::kF32, dims, values);
  };
  return {
      {"no model in it", qbin(read_bytes(golden("qbin/v2_0.qbin"))),
       f + "tensor 'blocks.0.fc.weight' is missing"},
      {"no graph", parts([](Parts& p) { p.graphs.clear(); }), f + "it holds no graph 'main'"},
      {"a second graph that is broken", parts([](Parts& p) {
         p.graphs["decoder"] = p.graphs.at("main");
         p.graphs["decoder"][1].in = {54};
       }),
       f + "window 'patch_embed.patches': reads node 54, which does not come before it"},
      {"no name", parts([](Parts& p) { p.keys.erase("model.arch"); }),
       f + "metadata 'model.arch' is missing"},
      {"type of a key", key("model.arch", 4.0),
       f + "metadata 'model.arch': expected string, found f64"},
      {"no output", graph([](Graph& g) { g.outputs.clear(); }), f + "graph 'main' has no output"},
      {"logits of every token", graph([](Graph& g) { g.outputs[0].node = 48; }),
       f + "output 'logits' has 17 rows, expected 1"},
      {"an image of two channels", parts([](Parts& p) {
         Graph& g = p.graphs.at("main");
         g[0].weight = g[0].bias = "";
         g[0].attributes[A::kChannels] = 2;
         g[1].attributes[A::kKernelWidth] = 6;
         g[1].attributes[A::kPadding] = 1;
       }),
       f + "graph 'main' has no image of 3 channels as its input"},
      {"a huge image", attribute("image", A::kHeight, 20000),
       f + "add 'pos_embed.add': an operand"},
      {"too deep", parts([](Parts& p) {
         Graph& g = p.graphs.at("main");
         for (A a : {A::kHeight, A::kWidth}) g[0].attributes[a] = 74;
         for (A a : {A::kKernelHeight, A::kKernelWidth, A::kStride}) g[1].attributes[a] = 74;
         g[2].attributes[A::kEnd] = 3 * 74 * 74;
         for (const char* block : {"blocks.0", "blocks.1"})
           g[g.find(cat(block, ".attn.attn.codes"))].attributes[A::kEnd] = 2;
         p.tensors.at("pos_embed") = {DType::kF32, 0, {1, 2, 16}, Buffer(2 * 16 * 4)};
         p.tensors.at("patch_embed.proj.weight") = {
             DType::kPacked,
             4,
             {16, 3 * 74 * 74},
             Buffer(static_cast<size_t>(pack_bytes(16, 3 * 74 * 74, 4)))};
       }),
       f + "'patch_embed.proj' has depth 16428, at most 16384"},
      {"filter", key("preprocess.resize", "nearest"), f + "preprocess.resize is 'nearest'"},
      {"crop", key("preprocess.crop_pct", 0.0), f + "configuration: crop_pct is 0"},
      {"mean", first("preprocess.mean", infinity), f + "configuration: mean is inf"},
      {"two means", key("preprocess.mean", std::vector<double>{0, 0}),
       f + "preprocess.mean has 2 values instead of 3"},
      {"std", first("preprocess.std", 0.0), f + "configuration: std is 0"},
      {"labels", parts([](Parts& p) { p.keys["labels"] = std::vector<std::string>{"a"}; }),
       f + "1 labels for 10 classes"},
      {"bits of codes", attribute(codes, A::kBits, 9), of + "bits are 9, expected"},
      {"half a bit", attribute(codes, A::kBits, 4.5), of + "bits are 4.5, expected"},
      {"infinite scale", attribute(codes, A::kScale, infinity), of + "scale is inf"},
      {"negative scale", attribute(codes, A::kScale, -0.5), of + "scale is -0.5"},
      {"zero point", attribute(codes, A::kZero, 0x1p40),
       of + "zero point is 1.09951e+12, expected"},
      {"a rate of nothing", attribute(codes, A::kRate, 0), of + "rate is 0, expected 0.5"},
      {"a twin of no units", attribute(codes, A::kTwin, 14), of + "twin is 14, expected -3 to "},
      {"a negative twin", attribute(codes, A::kTwin, -4), of + "twin is -4, expected -3 to "},
      {"levels that fall", levels(DType::kU8, {0, 9, 4, 9}),
       of + "levels do not ascend from code 0 at run 1"},
      {"levels from code 1", levels(DType::kU8, {1, 9, 4, 10}),
       of + "levels do not ascend from code 0 at run 0"},
      {"levels of a wrong type", levels(DType::kI8, {0, 9}),
       f + "tensor 'table' has the wrong type, expected F32 or F16"},
      {"levels of a wrong shape",
       table(codes, &Node::weight, DType::kU8, {4}, std::vector<uint8_t>(4)),
       of + "levels are [4], expected [levels, 2]"},
      {"too many levels", levels(DType::kU8, std::vector<uint8_t>(18)),
       of + "9 levels, 3 bits tell 8 apart"},
      {"a level that is no code",
       table(codes, &Node::weight, DType::kF32, {1, 2}, std::vector<float>{0, 256}),
       of + "a level of 256"},
      {"heads without zero points", heads({1, 2}, {1, 1}),
       of_v + "ranges by head are [1, 2], expected [2, heads]"},
      {"a head too many", heads({2, 3}, {1, 1, 1, 0, 0, 0}), of_v + "3 heads of 16 columns"},
      {"a head's scale", heads({2, 2}, {1, 0, 0, 0}), of_v + "scale is 0, expected a positive num"},
      {"a head's zero point", heads({2, 2}, {1, 1, 600, 0}),
       of_v + "zero point is 600, expected -256 to 511"},
      {"levels and heads", parts([&](Parts& p) {
         Graph& g = p.graphs.at("main");
         Node& n = g[g.find(v)];
         n.weight = "levels", n.bias = "heads";
         p.tensors["levels"] = {DType::kU8, 0, {1, 2}, Buffer{0, 9}};
         const std::vector<float> ranges = {1, 1, 0, 0};
         Buffer bytes(16);
         std::memcpy(bytes.data(), ranges.data(), 16);
         p.tensors["heads"] = {DType::kF32, 0, {2, 2}, bytes};
       }),
       of_v + "levels and ranges by head"},
      {"missing tensor", parts([&](Parts& p) { p.tensors.erase(qkv); }),
       f + "tensor 'blocks.0.attn.qkv.weight' is missing"},
      {"another layer's", parts([&](Parts& p) { p.tensors[qkv] = p.tensors["head.weight"]; }),
       f + "linear 'blocks.0.attn.qkv': 'blocks.0.attn.qkv.bias' is [48], expected [10]"},
      {"no codes", parts([&](Parts& p) {
         p.tensors[qkv] = {DType::kI8, 0, {48, 16}, Buffer(48 * 16)};
       }),
       f + "tensor 'blocks.0.attn.qkv.weight' has the wrong type, expected codes"},
      {"NaN weight scale", first_float(qkv + "_scale", std::nanf("")),
       f + "tensor 'blocks.0.attn.qkv.weight_scale' holds nan at 0"},
      {"zero weight scale", first_float(qkv + "_scale", 0),
       f + "tensor 'blocks.0.attn.qkv.weight_scale' holds 0 at 0"},
      {"impossible sum", parts([&](Parts& p) { p.tensors.at(qkv + "_sum").bytes[1] = 0x7f; }),
       f + "tensor 'blocks.0.attn.qkv.weight_sum' holds 32"},
      {"norm of codes", parts([](Parts& p) {
         p.tensors["norm.weight"] = {DType::kI8, 0, {16}, Buffer(16)};
       }),
       f + "tensor 'norm.weight' has the wrong type, expected F32 or F16"},
      {"another norm's shape",
       parts([](Parts& p) { p.tensors["norm.weight"] = p.tensors["pos_embed"]; }),
       f + "norm 'norm': 'norm.weight' is [1, 17, 16], expected [16]"},
      {"infinite norm", first_float("norm.weight", INFINITY), f + "tensor 'norm.weight' holds inf"},
  };
}

// --- images -----------------------------------------------------------------------------------

std::vector<Row> image_rows() {
  const std::string png = sample("rgb.png"), jpeg = sample("baseline.jpg"),
                    gif = sample("palette.gif"), f = "bad.jpg: ";
  std::string flipped = png;
  flipped[60] ^= 1;
  const std::string noise = jpeg.substr(0, 2) + "\xff" + std::string(3, '\xff') + "\xd9";
  return {
      {"empty", image(""), f + "expected an image, found an empty file"},
      {"text", image("hello"),
       f + "expected a JPEG, PNG, WebP, BMP or GIF image, found a file that st"},
      {"cut WebP", image(std::string("RIFF\x10\0\0\0WEBPVP8 ", 16)),
       f + (reads_webp() ? "truncated or damaged WebP file" : "WebP images are not read")},
      {"a model", image(good_qbin()),
       f + "expected a JPEG, PNG, WebP, BMP or GIF image, found a file"},
      {"cut JPEG", image(jpeg.substr(0, jpeg.size() - 200)),
       f + "truncated JPEG file: no end-of-i"},
      {"cut JPEG header", image(jpeg.substr(0, 10)), f + "truncated JPEG file: a segment ends"},
      {"JPEG without a frame", image(noise), f + "damaged or unsupported image header"},
      {"Huffman table", image(bad_huffman()), f + "damaged JPEG Huffman table"},
      {"CMYK of unknown colours", image(replaced(sample("cmyk.jpg"), "Adobe", "Xdobe")),
       f + "JPEG with four components"},
      {"cut PNG", image(png.substr(0, 100)), f + "truncated PNG file: a chunk ends"},
      {"PNG without an end", image(png.substr(0, png.size() - 12)), f + "truncated PNG file: no I"},
      {"flipped bit", image(flipped), f + "PNG chunk at byte 33: expected checksum"},
      {"huge sides", image(sized_png(UINT32_MAX, UINT32_MAX)), f + "expected sides of 1 to 32768"},
      {"many pixels", image(sized_png(32768, 32767)), f + "expected sides of 1 to 32768"},
      {"no width", image(sized_png(0, 13)), f + "expected sides of 1 to 32768"},
      {"fewer pixels than said", image(sized_png(20, 13)), f + "damaged or unsupported image: not"},
      {"cut BMP", image(bmp(20, 20, 1).substr(0, 1000)), f + "truncated BMP file"},
      {"cut GIF", image(gif.substr(0, gif.size() - 10)), f + "truncated GIF file: the first frame"},
      {"a folder",
       [](const TempFolder& t) {
         return Command{"vitrun", "--model", kVit, t / "."};
       },
       ".: expected a regular file, found a directory"},
  };
}

// --- arrays, lists and labels -----------------------------------------------------------------

std::vector<Row> array_rows() {
  const std::string good = read_bytes(kRaw), f = "bad.npy: ";
  std::string nan = good;
  put(nan, 128, std::nanf(""));
  return {
      {"empty", raw(""), f + "not a .npy file"},
      {"cut header", raw(good.substr(0, 50)), f + "truncated .npy header"},
      {"cut", raw(good.substr(0, good.size() - 1)), f + "shape [2, 3, 16, 16] needs 1536 float32"},
      {"double", raw(replaced(good, "<f4", "<f8")), f + "elements are '<f8', expected float32"},
      {"big-endian", raw(replaced(good, "<f4", ">f4")), f + "elements are '>f4'"},
      {"Fortran", raw(replaced(good, "False,", "True, ")), f + "expected C order"},
      {"overflow",
       raw(replaced(good, "(2, 3, 16, 16), }" + std::string(15, ' '),
                    "(9223372036854775807, 99999), } ")),
       f + "shape (9223372036854775807, 99999) is too large"},
      {"version", raw(replaced(good, "NUMPY\x01", "NUMPY\x09")), f + ".npy version 9"},
      {"another shape", raw(replaced(good, "(2, 3, 16, 16)", "(2, 16, 16, 3)")),
       f + "shape [2, 16, 16, 3], the model takes [N, 3, 16, 16]"},
      {"NaN", raw(nan), f + "element 0 is nan, not a finite number"},
  };
}

std::vector<Row> list_rows() {
  const std::string f = "bad.txt";
  return {
      {"empty list", list(""), f + ": no images in it"},
      {"no such image", list("a.bmp 1\nb.bmp 2\n"), f + ":2: there is no file '"},
      {"a label that is no number", list("a.bmp cat\n"), f + ":1: 'cat' is no class index"},
      {"a label beyond the classes", list("a.bmp 10\n"), "a.bmp: label 10, the model has 10 class"},
      {"a broken image", list("broken.png 2\n"), "broken.png: truncated PNG file"},
      {"a broken image to calibrate on", list("broken.png\n", "vitquant"), "broken.png: truncated"},
      {"labels missing", labels("a\nb\n"), f + ": 2 labels, the model has 10 classes"},
      {"labels too many", labels("a\na\na\na\na\na\na\na\na\na\na\n"), f + ": more than 10 labels"},
  };
}

}  // namespace

TEST_CASE("bad input: safetensors") {
  check_all("safetensors", safetensors_rows(), 12);
}

TEST_CASE("bad input: configurations") {
  check_all("config.json", config_rows(), 8);
}

TEST_CASE("bad input: qbin") {
  check_all("qbin containers", qbin_container_rows(), 12);
  check_all("qbin models", qbin_model_rows(), 12);
  check_all("qbin graphs", qbin_graph_rows(), 50);
}

TEST_CASE("bad input: images") {
  check_all("images", image_rows(), 10);
}

TEST_CASE("bad input: arrays, lists and labels") {
  check_all("npy", array_rows(), 4);
  check_all("lists and labels", list_rows(), 3);
}

TEST_CASE("bad input: --verify finds a flipped bit in the weights before anything is computed") {
  std::string bytes = good_qbin();
  const Aligned good(Buffer(bytes.begin(), bytes.end()));
  const QbinFile file = QbinFile::from_memory(good.bytes(), "good");
  bytes[static_cast<size_t>(file.find("head.weight")->bytes.data() - good.bytes().data())] ^= 0x10;
  const TempFolder folder;
  Command command = qbin(bytes)(folder);
  CHECK(execute(command).status == 0);  // a weight is as good as another
  command.push_back("--verify");
  const Outcome done = execute(command);
  CHECK(done.status == 1);
  CHECK(contains(done.err, "bad.qbin: "));
  CHECK(contains(done.err, "checksum"));
}
