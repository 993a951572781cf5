// The table of bad input: each file breaks one rule, and the program that reads it answers with a
// message of its own that names the file, and exit status 1.
#include <algorithm>
#include <limits>
#include <set>

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
      {"no tensor", weights(framed("{}")), f + "no classifier"},
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
      {"a base model", renamed("head.weight", "norm_pre.weight"), f + "not supported: a norm befo"},
      {"registers", renamed("pos_embed", "reg_token"), f + "not supported: register tokens"},
      {"Swin V2", renamed("norm.bias", "layers.0.blocks.0.attn.logit_scale"),
       f + "not supported: Swin V2"},
      {"another network", renamed("norm.bias", "layer1.0.bn1.weight"),
       f + "not supported: tensors"},
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
       f + "architecture 'resnet50' is not supported"},
      {"another family's type", config(R"({"model_type":"beit"})"), f + "'model_type' is \"beit\""},
      {"Swin for a ViT", config(R"({"model_type":"swin"})"), f + "the configuration says Swin"},
      {"depth", model_arg("depth", 3), f + "the configuration says depth [3], the weights [2]"},
      {"heads", model_arg("num_heads", 3), f + "configuration: embed_dim 16 is no multiple"},
      {"no heads", model_arg("num_heads", 0), f + "model_args: 'num_heads' is 0, expected a posit"},
      {"image", model_arg("img_size", 20), f + "the configuration says an image of 20x20"},
      {"huge image", model_arg("img_size", 999999), f + "the configuration says an image of 99999"},
      {"classes", timm([](json& j) { j["num_classes"] = 1000; }),
       f + "the configuration says number of classes 1000, the weights 10"},
      {"registers", model_arg("reg_tokens", 4), f + "model_args: 'reg_tokens' is 4, expected 0"},
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
  for (auto [at, size] : {std::pair{8, 2}, {10, 2}, {12, 4}, {16, 8}, {24, 8}, {32, 8}, {40, 4}})
    std::reverse(swapped.begin() + at, swapped.begin() + at + size);
  return {
      {"empty", qbin(""), f + "expected a .qbin file, found an empty one"},
      {"another file", qbin("GGUF" + std::string(100, 'x')), f + "not a .qbin file"},
      {"in text mode", qbin(replaced(good, "\r\n", "\n")), f + "a .qbin damaged in its first byt"},
      {"cut in the header", qbin(good.substr(0, 63)), f + "truncated: expected a header of 64"},
      {"cut in the data", qbin(good.substr(0, good.size() - 1)), f + "truncated: expected"},
      {"tail", qbin(good + "xx"), f + "2 bytes after the end"},
      {"a flipped bit", qbin(flipped), f + "the head is damaged (its checksum differs)"},
      {"big-endian", qbin(swapped), f + "format version 256.0"},
      {"newer", head([](std::string& b) { put(b, 8, uint16_t{2}); }), f + "format version 2.0"},
      {"head size", head([](std::string& b) { put(b, 24, UINT64_MAX - 63); }), f + "head size"},
      {"keys", head([](std::string& b) { put(b, 40, UINT32_MAX); }), f + "expected at most 10000"},
      {"tensors", head([](std::string& b) { put(b, 44, UINT32_MAX); }),
       f + "expected at most 100000 tensors"},
      {"NaN scale", nan_in("site.scale", 5),
       f + "metadata 'site.scale': expected a number, found N"},
      {"NaN norm_eps", nan_in("model.norm_eps", 1),
       f + "metadata 'model.norm_eps': expected a number"},
  };
}

std::vector<Row> qbin_model_rows() {
  using I = int64_t;
  const std::string f = "bad.qbin: ";
  const double infinity = std::numeric_limits<double>::infinity();
  const std::string qkv = "blocks.0.attn.qkv.weight";
  const auto rates = [](std::vector<double> values) {
    return parts([=](Parts& p) { p.keys["site.rate"] = values; });
  };
  const auto extra = [](std::vector<I> channels) {
    return parts([=](Parts& p) { p.keys["model.mlp_extra"] = channels; });
  };
  const auto twins = [](std::vector<int64_t> values) {
    return parts([=](Parts& p) { p.keys["site.twin"] = values; });
  };
  const auto levels = [](DType type, std::vector<uint8_t> bytes) {
    return parts([=](Parts& p) {
      p.get<std::vector<I>>("site.bits")[0] = 3;
      p.tensors["patch_embed.proj.input_levels"] = {
          type, 0, {static_cast<I>(bytes.size()) / 2, 2}, bytes};
    });
  };
  const auto heads = [](std::vector<float> scales, std::vector<int16_t> zeros) {
    return parts([=](Parts& p) {
      const auto tensor = [&](const char* name, DType type, const auto& values) {
        Buffer bytes(values.size() * sizeof values[0]);
        std::memcpy(bytes.data(), values.data(), bytes.size());
        p.tensors[cat("blocks.0.attn.qkv.head_", name)] = {
            type, 0, {3, static_cast<I>(values.size()) / 3}, bytes};
      };
      tensor("scale", DType::kF32, scales);
      p.tensors.erase("blocks.0.attn.qkv.head_zero");
      if (!zeros.empty()) tensor("zero", DType::kI16, zeros);
    });
  };
  return {
      {"no model in it", qbin(read_bytes(golden("qbin/v1_0.qbin"))),
       f + "metadata 'model.arch' is missing"},
      {"type of a key", key("model.patch", 4.0), f + "metadata 'model.patch': expected i64, found"},
      {"extra channels of one block", extra(std::vector<I>{3}),
       f + "configuration: extra hidden channels of 1 blocks, the model has 2"},
      {"fewer channels", extra(std::vector<I>{-1, 0}),
       f + "configuration: extra hidden channels of an MLP is -1"},
      {"channels that are not there", extra(std::vector<I>{0, 8}),
       f + "tensor 'blocks.1.mlp.fc1.weight' is [64, 16], the model needs [72, 16]"},
      {"family", key("model.family", "convnext"), f + "model.family is 'convnext'"},
      {"huge", key("model.embed_dim", I{1} << 40), f + "model.embed_dim is 1099511627776"},
      {"large", key("model.embed_dim", I{1} << 20), f + "configuration: embed_dim is 1048576"},
      {"patch", key("model.patch", I{0}), f + "configuration: patch size is 0"},
      {"deep", first("model.depths", I{1000}), f + "configuration: depth is 1000"},
      {"heads", first("model.heads", I{3}), f + "configuration: embed_dim 16 is no multiple"},
      {"huge in a list", first("model.depths", I{1} << 40), f + "model.depths holds 1099511627776"},
      {"three sides", key("model.image_size", std::vector<I>{16, 16, 3}),
       f + "model.image_size has 3"},
      {"image", key("model.image_size", std::vector<I>{16, 18}), f + "configuration: image 16x18"},
      {"filter", key("preprocess.resize", "nearest"), f + "preprocess.resize is 'nearest'"},
      {"crop", key("preprocess.crop_pct", 0.0), f + "configuration: crop_pct is 0"},
      {"std", first("preprocess.std", 0.0), f + "configuration: std is 0"},
      {"labels", parts([](Parts& p) { p.keys["labels"] = std::vector<std::string>{"a"}; }),
       f + "configuration: 1 labels for 10 classes"},
      {"bits of a site", first("site.bits", I{9}), f + "site 'patch_embed': bits are 9, expected"},
      {"infinite scale", first("site.scale", infinity), f + "site 'patch_embed': scale is inf"},
      {"negative scale", first("site.scale", -0.5), f + "site 'patch_embed': scale is -0.5"},
      {"zero point", first("site.zero", I{1} << 40), f + "site 'patch_embed': zero point is 1099"},
      {"site's name", first("site.name", std::string("stem")), f + "site 'patch_embed': the file"},
      {"a site less", parts([](Parts& p) { p.get<std::vector<I>>("site.bits").pop_back(); }),
       f + "site.name, bits, scale, zero, rate and twin hold 18, 17, 18, 18, 18 and 18 values"},
      {"a rate of nothing", rates(std::vector<double>(18, 0)),
       f + "site 'patch_embed': rate is 0, expected 0.5"},
      {"one rate", rates({2}), f + "site.name, bits"},
      {"one twin", twins({-1}), f + "site.name, bits"},
      {"a twin of no units", twins(std::vector<int64_t>(18, 14)),
       f + "site 'patch_embed': twin is 14, expected -1 to "},
      {"a negative twin", twins(std::vector<int64_t>(18, -2)),
       f + "site 'patch_embed': twin is -2, expected -1 to "},
      {"levels that fall", levels(DType::kU8, {0, 9, 4, 9}),
       f + "tensor 'patch_embed.proj.input_levels' does not ascend"},
      {"levels from code 1", levels(DType::kU8, {1, 9, 4, 10}),
       f + "tensor 'patch_embed.proj.input_levels' does not ascend"},
      {"levels of a wrong type", levels(DType::kI8, {0, 9}),
       f + "tensor 'patch_embed.proj.input_levels' has the wrong type or shape"},
      {"too many levels", levels(DType::kU8, std::vector<uint8_t>(18)),
       f + "tensor 'patch_embed.proj.input_levels' holds 9 levels, 3 bits tell 8 apart"},
      {"heads without zero points", heads(std::vector<float>(6, 1), {}),
       f + "'blocks.0.attn.qkv': head_scale is [3, 2], head_zero missing, expected F32 and I16 of"},
      {"a head too many", heads(std::vector<float>(9, 1), std::vector<int16_t>(9)),
       f + "'blocks.0.attn.qkv': head_scale is [3, 3], head_zero [3, 3]"},
      {"a head's scale", heads({1, 1, 1, 0, 1, 1}, std::vector<int16_t>(6)),
       f + "'blocks.0.attn.qkv', head 1: scale is 0, expected a positive number"},
      {"a head's zero point", heads(std::vector<float>(6, 1), {0, 0, 0, 0, 600, 0}),
       f + "'blocks.0.attn.qkv', head 0: zero point is 600, expected -256 to 511"},
      {"missing tensor", parts([&](Parts& p) { p.tensors.erase(qkv); }),
       f + "tensor 'blocks.0.attn.qkv.weight' is missing"},
      {"another layer's", parts([&](Parts& p) { p.tensors[qkv] = p.tensors["head.weight"]; }),
       f + "tensor 'blocks.0.attn.qkv.weight' is [10, 16], the model needs [48, 16]"},
      {"no codes", parts([&](Parts& p) { p.tensors[qkv] = p.tensors[qkv + "_scale"]; }),
       f + "tensor 'blocks.0.attn.qkv.weight' has the wrong type, expected packed codes"},
      {"NaN weight scale", first_float(qkv + "_scale", std::nanf("")),
       f + "tensor 'blocks.0.attn.qkv.weight_scale' holds nan at 0"},
      {"zero weight scale", first_float(qkv + "_scale", 0),
       f + "tensor 'blocks.0.attn.qkv.weight_scale' holds 0 at 0"},
      {"impossible sum", parts([&](Parts& p) { p.tensors.at(qkv + "_sum").bytes[1] = 0x7f; }),
       f + "tensor 'blocks.0.attn.qkv.weight_sum' holds 32"},
      {"norm of codes",
       parts([](Parts& p) { p.tensors["norm.weight"] = p.tensors["head.weight"]; }),
       f + "tensor 'norm.weight' has the wrong type, expected F32 or F16"},
      {"another norm's shape",
       parts([](Parts& p) { p.tensors["norm.weight"] = p.tensors["pos_embed"]; }),
       f + "tensor 'norm.weight' is ["},
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
      {"text", image("hello"), f + "expected a JPEG, PNG, BMP or GIF image, found a file that st"},
      {"WebP", image("RIFF\x10\0\0\0WEBPVP8 "), f + "expected a JPEG, PNG, BMP or GIF image"},
      {"a model", image(good_qbin()), f + "expected a JPEG, PNG, BMP or GIF image, found a file"},
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
      {"a broken image", list("a.bmp 1\nbroken.png 2\n"), "broken.png: truncated PNG file"},
      {"a broken image to calibrate on", list("broken.png\n", "vitquant"), "broken.png: truncated"},
      {"labels missing", labels("a\nb\n"), f + ": 2 labels, the model has 10 classes"},
      {"labels too many", labels(std::string(11, '\n')), f + ": more than 10 labels"},
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
