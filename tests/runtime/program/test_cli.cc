// The programs from the outside: options, output, exit status, and whole pipelines on tiny models.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "kernels/registry.h"
#include "runtime/files/npy.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;
using nlohmann::json;

namespace {

// Largest difference over the largest magnitude.
double relative_error(const Tensor& found, const Tensor& expected) {
  REQUIRE(found.dims == expected.dims);
  double difference = 0, size = 0;
  for (size_t i = 0; i < found.data.size(); i++) {
    difference = std::max(difference, std::abs(double{found.data[i]} - double{expected.data[i]}));
    size = std::max(size, std::abs(double{expected.data[i]}));
  }
  return difference / size;
}

// Quantizes a golden model on its own input; the path of the .qbin.
// Without folds: two images are few to draw the statistics of channels from.
std::string quantize(const TempFolder& folder, const std::string& name, int bits,
                     const std::string& file = "m.qbin") {
  output_of({"vitquant", "--weights", model(name), "--calib-raw", input_of(name), "--method",
             "layerwise", "--wbits", std::to_string(bits), "--abits", std::to_string(bits), "-o",
             folder / file});
  return folder / file;
}

// The bytes of the --logits file that `command` writes.
std::string logits_bytes(const TempFolder& folder, Command command) {
  command.insert(command.end(), {"--logits", folder / "out.npy"});
  output_of(command);
  return read_bytes(folder / "out.npy");
}

// Classes of one row of logits, best first.
std::vector<int> ranking(const Tensor& logits, int64_t row) {
  const auto classes = static_cast<size_t>(logits.dims[1]);
  const float* x = logits.data.data() + static_cast<size_t>(row) * classes;
  std::vector<int> order(classes);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
  return order;
}

double probability(const Tensor& logits, int64_t row, int c) {
  const float* x = logits.data.data() + row * logits.dims[1];
  double sum = 0;
  for (int64_t i = 0; i < logits.dims[1]; i++) sum += std::exp(double{x[i]});
  return std::exp(double{x[c]}) / sum;
}

// Images of several formats and sizes, with labels a known number of which the model gets right.
struct LabelledImages {
  Command paths;
  Tensor logits;
  int top1 = 0, top5 = 0;
};

LabelledImages write_images(const TempFolder& folder, const std::string& model_path) {
  LabelledImages images;
  for (int i = 0; i < 6; i++)
    images.paths.push_back(
        folder.file("image " + std::to_string(i) + ".bmp", bmp(17 + 3 * i, 20 - i, i + 1)));
  images.paths.push_back(
      folder.file("palette.png", read_bytes(golden("image/decode/palette.png"))));
  Command run = {"vitrun", "--model", model_path, "--logits", folder / "images.npy"};
  run.insert(run.end(), images.paths.begin(), images.paths.end());
  output_of(run);
  images.logits = read_npy(folder / "images.npy");
  std::string list;
  const int ranks[] = {0, 0, 3, 9, 4, 5, 0};
  for (size_t i = 0; i < images.paths.size(); i++) {
    const int rank = ranks[i];
    const int label = ranking(images.logits, static_cast<int64_t>(i))[static_cast<size_t>(rank)];
    list += std::filesystem::path(images.paths[i]).filename().string() + " " +
            std::to_string(label) + "\n";
    images.top1 += rank == 0;
    images.top5 += rank < 5;
  }
  folder.file("list.txt", list);
  return images;
}

// "(1.2 ms)" becomes "(# ms)".
std::string without_times(std::string text) {
  size_t at = 0;
  while ((at = text.find(" ms)", at + 1)) != text.npos) {
    const size_t begin = text.rfind('(', at) + 1;
    CHECK(text.find_first_not_of("0123456789.", begin) == at);
    text.replace(begin, at - begin, "#");
    at = begin + 1;
  }
  return text;
}

}  // namespace

TEST_CASE("cli: --help names every option") {
  const std::pair<const char*, std::vector<const char*>> programs[] = {
      {"vitrun",
       {"--model", "--topk", "--threads", "--isa", "--batch", "--labels", "--json", "--logits",
        "--embedding", "--features", "--raw", "--info", "--demo", "--version", "IMAGE..."}},
      {"vitquant",
       {"--weights", "--calib", "--calib-raw", "--calib-count", "--seed", "--recipe", "--bits",
        "--without", "--with", "--labels", "--arch", "--report", "-o, --output", "--version"}},
      {"viteval", {"--model", "--images", "--reference", "--json", "--limit", "--version"}},
  };
  for (const auto& [program, options] : programs) {
    const Outcome done = execute({program, "--help"});
    CHECK(done.status == 0);
    CHECK(done.err.empty());
    CHECK(contains(done.out, "Examples:\n"));
    for (const char* option : options) {
      CAPTURE(option);
      CHECK(contains(done.out, option));
    }
    CHECK(execute({program, "-h"}).out == done.out);
    const std::string version = output_of({program, "--version"});
    CHECK(version.starts_with(program + std::string(" ")));
    CHECK(std::count(version.begin(), version.end(), '.') == 2);
    CHECK(version.find('\n') == version.size() - 1);
  }
}

TEST_CASE("cli: wrong use is status 2, a message on stderr and nothing on stdout") {
  const std::string vit = model("vit"), raw = input_of("vit");
  const std::pair<Command, const char*> table[] = {
      {{"vitrun"}, "give images, or --raw FILE, or --demo"},
      {{"vitrun", "--nonsense"}, "nonsense"},
      {{"vitrun", "--model"}, "model"},
      {{"vitrun", "--model", vit, "--raw", raw, "a.png"}, "give images, or --raw FILE, or --demo"},
      {{"vitrun", "--demo", "a.png"}, "give images, or --raw FILE, or --demo"},
      {{"vitrun", "--model", vit, "--raw", raw, "--topk", "0"}, "--topk must be 1 to 100000"},
      {{"vitrun", "--model", vit, "--raw", raw, "--topk", "many"}, "many"},
      {{"vitrun", "--model", vit, "--raw", raw, "--batch", "0"}, "--batch must be 1 to 1024"},
      {{"vitrun", "--model", vit, "--raw", raw, "--threads", "257"}, "--threads must be 1 to 256"},
      {{"vitquant", "-o", "x"}, "--weights is missing"},
      {{"vitquant", "--weights", vit}, "--output is missing"},
      {{"vitquant", "--weights", vit, "-o", "/dev/null"}, "give --calib or --calib-raw"},
      {{"vitquant", "-w", vit, "-o", "x", "--wbits", "2"}, "--wbits must be 3 to 8, got 2"},
      {{"vitquant", "-w", vit, "-o", "x", "--abits", "9"}, "--abits must be 3 to 8, got 9"},
      {{"vitquant", "-w", vit, "-o", "x", "--method", "best"}, "--method"},
      {{"vitquant", "-w", vit, "-o", "x", "--mixed", "some"}, "--mixed"},
      {{"vitquant", "-w", vit, "-o", "x", "stray"}, "unexpected argument 'stray'"},
      {{"viteval", "--model", vit}, "--images is missing"},
      {{"viteval", "--images", vit}, "give --model, --table or --coco"},
      {{"viteval", "--model", vit, "--images", "x", "stray"}, "unexpected argument 'stray'"},
  };
  for (const auto& [command, message] : table) {
    CAPTURE(message);
    const Outcome done = execute(command);
    CAPTURE(done.err);
    CHECK(done.status == 2);
    CHECK(done.out.empty());
    CHECK(done.err.starts_with(command.front() + ": "));
    CHECK(contains(done.err, message));
    CHECK(done.err.ends_with("Try '" + command.front() + " --help'.\n"));
  }
}

TEST_CASE("cli: failures are status 1 and say what failed") {
  const std::string vit = model("vit"), raw = input_of("vit");
  const std::pair<Command, std::string> table[] = {
      {{"vitrun", "--model", "/none.qbin", "a.png"},
       "vitrun: /none.qbin: cannot open: No such file or directory\n"},
      {{"vitrun", "--model", "/none.safetensors", "--info"},
       "vitrun: /none.safetensors: cannot open: No such file or directory\n"},
      {{"vitrun", "--model", vit, "/none.png"},
       "vitrun: /none.png: cannot open: No such file or directory\n"},
      {{"vitrun", "--model", vit, "--raw", "/none.npy"},
       "vitrun: /none.npy: cannot open: No such file or directory\n"},
      {{"vitquant", "-w", "/none.safetensors", "--calib-raw", raw, "-o", "/tmp/x"},
       "vitquant: /none.safetensors: cannot open: No such file or directory\n"},
      {{"viteval", "--model", vit, "--images", "/none"},
       "viteval: /none: no such list or folder of images\n"},
  };
  for (const auto& [command, message] : table) {
    const Outcome done = execute(command);
    CHECK(done.status == 1);
    CHECK(done.out.empty());
    CHECK(done.err == message);
  }
}

TEST_CASE("cli: results that cannot be written are a failure") {
  for (const Command& command : {Command{"vitrun", "--model", model("vit"), "--info"},
                                 Command{"vitrun", "--model", model("vit"), "--info", "--json"},
                                 Command{"vitrun", "--help"}}) {
    const Outcome done = execute(command, {}, "/dev/full");
    CHECK(done.status == 1);
    CHECK(done.err == "vitrun: cannot write to standard output\n");
  }
  const Outcome done = execute({"vitrun", "--model", model("vit"), "--raw", input_of("vit"),
                                "--logits", "/nonexistent/out.npy"});
  CHECK(done.status == 1);
  CHECK(contains(done.err, "/nonexistent/out.npy: cannot write"));
}

TEST_CASE("cli: float logits of every family are PyTorch's") {
  const TempFolder folder;
  for (const std::string name :
       {"vit", "vit_f16", "vit_bf16", "vit_oblong", "deit_distilled", "deit3", "swin", "swin_old",
        "swin_padded", "swin_small_map", "hf_vit", "hf_swin", "hf_deit/model", "hf_deit_one",
        "hf_msn", "vit_avg", "vit_remainder"}) {
    CAPTURE(name);
    output_of({"vitrun", "--model", model(name), "--raw", input_of(name), "--logits",
               folder / "out.npy"});
    CHECK(relative_error(read_npy(folder / "out.npy"), read_npy(logits_of(name))) <= 1e-4);
  }
}

// Expected numbers are PyTorch's logits; the labels are those of the model's config.json.
TEST_CASE("cli: the table for people, to the character") {
  const Tensor logits = read_npy(logits_of("hf_vit"));
  std::string expected;
  for (int64_t image = 0; image < 2; image++) {
    expected += input_of("hf_vit") + "[" + std::to_string(image) + "]  (# ms)\n";
    const std::vector<int> order = ranking(logits, image);
    for (size_t i = 0; i < 5; i++) {
      const double p = probability(logits, image, order[i]);
      std::string bar;
      for (int step = 0; step < 20; step++) bar += step < std::lround(20 * p) ? "█" : "·";
      char line[100];
      std::snprintf(line, sizeof line, "  %5.1f %%  %s  %5d  class %d\n", 100 * p, bar.c_str(),
                    order[i], order[i]);
      expected += line;
    }
  }
  const Outcome done = execute({"vitrun", "--model", model("hf_vit"), "--raw", input_of("hf_vit")});
  CHECK(done.status == 0);
  CHECK(contains(done.err, "so they are guessed: preprocessing"));
  CHECK(without_times(done.out) == expected);
}

TEST_CASE("cli: vitquant then vitrun, each family, as JSON") {
  for (const std::string name : {"vit", "vit_oblong", "deit_distilled", "deit3", "swin",
                                 "swin_padded", "hf_deit/model", "hf_swin"}) {
    CAPTURE(name);
    const TempFolder folder;
    const std::string qbin = quantize(folder, name, 8);
    const json found = json::parse(output_of({"vitrun", "--model", qbin, "--raw", input_of(name),
                                              "--json", "--logits", folder / "out.npy"}));
    const Tensor logits = read_npy(folder / "out.npy");
    CHECK(relative_error(logits, read_npy(logits_of(name))) <
          0.2);  // few channels average little out
    CHECK(found["engine"].get<std::string>().starts_with("integers, "));
    REQUIRE(found["images"].size() == 2);
    for (int64_t image = 0; image < 2; image++) {
      const json& entry = found["images"][static_cast<size_t>(image)];
      CHECK(entry["image"] == input_of(name) + "[" + std::to_string(image) + "]");
      CHECK(entry["ms"].get<double>() >= 0);
      REQUIRE(entry["top"].size() == 5);
      for (size_t i = 0; i < 5; i++) {
        const int c = ranking(logits, image)[i];
        CHECK(entry["top"][i]["class"] == c);
        CHECK(entry["top"][i]["label"] == "class " + std::to_string(c));
        CHECK(entry["top"][i]["logit"] == logits.data[static_cast<size_t>(10 * image + c)]);
        CHECK(entry["top"][i]["probability"].get<double>() ==
              doctest::Approx(probability(logits, image, c)).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("cli: --embedding and --features write what the class token and all tokens are") {
  const TempFolder folder;
  for (const std::string& path : {model("vit"), quantize(folder, "vit", 8)}) {
    CAPTURE(path);
    const Command run = {"vitrun", "--model", path, "--raw", input_of("vit"), "--batch", "1"};
    const std::string logits = logits_bytes(folder, run);
    Command all = run;
    all.insert(all.end(), {"--embedding", folder / "e.npy", "--features", folder / "f.npy"});
    CHECK(logits_bytes(folder, all) == logits);
    const Tensor embedding = read_npy(folder / "e.npy"), features = read_npy(folder / "f.npy");
    REQUIRE(embedding.dims == Dims{2, 16});
    REQUIRE(features.dims == Dims{2, 17, 16});
    for (size_t image = 0; image < 2; image++)
      for (size_t i = 0; i < 16; i++)
        CHECK(embedding.data[16 * image + i] == features.data[16 * 17 * image + i]);
  }
}

TEST_CASE("cli: every bit width runs, and fewer bits make a smaller file") {
  const TempFolder folder;
  uintmax_t before = 0;
  for (int bits = 3; bits <= 8; bits++) {
    const std::string qbin = quantize(folder, "swin_padded", bits);
    output_of({"vitrun", "--model", qbin, "--raw", input_of("swin_padded")});
    const uintmax_t size = std::filesystem::file_size(qbin);
    CHECK(size > before);
    before = size;
  }
}

TEST_CASE("cli: --info counts what a row and its groups need with the bits of an element") {
  const TempFolder folder;
  output_of({"vitquant", "--weights", model("vit"), "--calib-raw", input_of("vit"), "--bits", "5",
             "-o", folder / "rows.qbin"});
  const json units = json::parse(
      output_of({"vitrun", "--model", folder / "rows.qbin", "--info", "--json"}))["units"];
  CHECK(units[0]["bits_with_ranges"] == 8);  // pixels
  CHECK(units[1]["name"] == "blocks.0.attn.qkv");
  CHECK(units[1]["range"] == "row");
  // A row of 16 columns has 16 groups, each with 8 bits, and 40 bits of its own.
  CHECK(units[1]["bits_with_ranges"] == 5 + 8 + 2.5);
  CHECK(units[2]["name"] == "blocks.0.attn.matmul1.q");
  CHECK(units[2]["range"] == "head");
  CHECK(units[2]["bits_with_ranges"] == 5 + 8 / 8.0);  // a head of 8 columns
}

TEST_CASE("cli: --info of a .qbin and of float weights") {
  const TempFolder folder;
  const std::string qbin = quantize(folder, "vit", 5);
  const json info = json::parse(output_of({"vitrun", "--model", qbin, "--info", "--json"}));
  CHECK(info["file"] == qbin);
  CHECK(info["format"] == "qbin");
  CHECK(info["model"]["input"] == json{3, 16, 16});
  CHECK(info["model"]["classes"] == 10);
  CHECK(info["model"]["blocks"] == 2);
  CHECK(info["model"]["outputs"] ==
        json{{"logits", {1, 10}}, {"embedding", {1, 16}}, {"features", {17, 16}}});
  CHECK(info["model"]["preprocess"]["mean"] == json{0.5, 0.5, 0.5});
  CHECK(info["recipe"]["weight_bits"] == 5);
  CHECK(info["recipe"]["weights"] == "vit.safetensors");
  // patch_embed, head, and in both blocks four Linears and q, k, the softmax codes and v
  REQUIRE(info["units"].size() == 18);
  CHECK(info["units"][0] == json{{"name", "patch_embed"},
                                 {"activation_bits", 8},
                                 {"bits_with_ranges", 8},
                                 {"scale", info["units"][0]["scale"]},
                                 {"zero", info["units"][0]["zero"]},
                                 {"weight_bits", 5},
                                 {"output_db", info["units"][0]["output_db"]},
                                 {"shape", {16, 48}}});
  CHECK(info["units"][0]["output_db"].get<double>() == doctest::Approx(25).epsilon(0.3));
  CHECK(info["units"][1]["name"] == "blocks.0.attn.qkv");
  CHECK(info["units"][1]["activation_bits"] == 5);

  const std::string table = output_of({"vitrun", "--model", qbin, "--info"});
  CHECK(contains(table, "\nformat           qbin\n"));
  CHECK(contains(table, "\n  input          [3,16,16]\n"));
  CHECK(contains(table, "blocks.1.attn.proj                             5       5 "));

  const json weights =
      json::parse(output_of({"vitrun", "--model", model("vit"), "--info", "--json"}));
  CHECK(weights["format"] == "safetensors");
  CHECK(weights["parameters"] == 31336 / 4);  // the data of the file, all of it F32
  CHECK(contains(output_of({"vitrun", "--model", model("vit"), "--info"}), "parameters"));
}

TEST_CASE("cli: the same logits to the bit for any threads, batch and ISA") {
  for (const std::string name : {"vit", "swin_padded"}) {
    CAPTURE(name);
    const TempFolder folder;
    const std::string qbin = quantize(folder, name, 4);
    const Command run = {"vitrun", "--model", qbin, "--raw", input_of(name)};
    const auto with = [&](const std::string& option, const std::string& value) {
      Command command = run;
      command.insert(command.end(), {option, value});
      return logits_bytes(folder, command);
    };
    const std::string expected = logits_bytes(folder, run);
    for (const std::string count : {"1", "2", "3"}) {
      CHECK(with("--threads", count) == expected);
      CHECK(with("--batch", count) == expected);
    }
    int isas = 0;
    std::istringstream names(isa_names());
    for (std::string isa; names >> isa; isas++) {
      CAPTURE(isa);
      CHECK(with("--isa", isa) == expected);
      Command json_run = run;
      json_run.push_back("--json");
      CHECK(json::parse(output_of(json_run, {"VITRUN_ISA=" + isa}))["engine"] ==
            "integers, " + isa);
    }
    CHECK(isas >= 1);
  }
}

TEST_CASE("cli: an unknown ISA fails and lists the valid ones") {
  const TempFolder folder;
  const std::string qbin = quantize(folder, "vit", 8);
  const Command run = {"vitrun", "--model", qbin, "--raw", input_of("vit")};
  Command by_option = run;
  by_option.insert(by_option.end(), {"--isa", "mmx"});
  for (const Outcome& done : {execute(by_option), execute(run, {"VITRUN_ISA=mmx"})}) {
    CHECK(done.status == 1);
    CHECK(done.out.empty());
    CHECK(contains(done.err, isa_names()));
  }
}

TEST_CASE("cli: vitquant writes the same bytes twice, and nothing when it fails") {
  const TempFolder folder;
  const std::string first = read_bytes(quantize(folder, "swin", 6, "1.qbin"));
  CHECK(read_bytes(quantize(folder, "swin", 6, "2.qbin")) == first);

  const Outcome done = execute({"vitquant", "-w", model("swin"), "--calib-raw", input_of("swin"),
                                "-o", folder / "none/m.qbin"});
  CHECK(done.status == 1);
  CHECK(done.out.empty());
  CHECK(contains(done.err, folder / "none/m.qbin"));
}

TEST_CASE("cli: vitquant calibrates on images, with labels and provenance") {
  const TempFolder folder;
  write_images(folder, model("vit"));
  std::string names;
  for (int i = 0; i < 10; i++) names += "name \"" + std::to_string(i) + "\" ü\n";
  folder.file("names.txt", names);
  const auto run = [&](const std::string& seed) {
    output_of({"vitquant",           "--weights", model("vit"), "--calib", folder / "list.txt",
               "--calib-count",      "3",         "--seed",     seed,      "--labels",
               folder / "names.txt", "--wbits",   "4",          "--abits", "8",
               "--method",           "layerwise", "--mixed",    "none",    "-o",
               folder / "m.qbin"});
    return read_bytes(folder / "m.qbin");
  };
  const std::string first = run("7");
  CHECK(run("8") != first);
  CHECK(run("7") == first);

  const json info =
      json::parse(output_of({"vitrun", "--model", folder / "m.qbin", "--info", "--json"}));
  CHECK(info["recipe"]["calibration"] == "list.txt");
  CHECK(info["recipe"]["calibration_images"] == 3);
  CHECK(info["recipe"]["seed"] == 7);
  CHECK(info["model"]["labels"] == 10);
  const json found = json::parse(
      output_of({"vitrun", "--model", folder / "m.qbin", "--json", folder / "image 0.bmp"}));
  const json& best = found["images"][0]["top"][0];
  CHECK(best["label"] == "name \"" + std::to_string(best["class"].get<int>()) + "\" ü");
}

TEST_CASE("cli: --topk beyond the classes, --labels, names with spaces") {
  const TempFolder folder;
  const std::string image = folder.file("my photo.bmp", bmp(20, 18, 1));
  std::string names;
  for (int i = 0; i < 10; i++) names += "the " + std::to_string(i) + "\r\n";
  const json found =
      json::parse(output_of({"vitrun", "--model", model("vit"), "--topk", "50", "--json",
                             "--labels", folder.file("names.txt", names), image}));
  REQUIRE(found["images"].size() == 1);
  CHECK(found["engine"] == "float32, OpenBLAS");
  CHECK(found["images"][0]["image"] == image);
  const json& top = found["images"][0]["top"];
  REQUIRE(top.size() == 10);
  double sum = 0;
  for (const json& entry : top) {
    sum += entry["probability"].get<double>();
    CHECK(entry["label"] == "the " + std::to_string(entry["class"].get<int>()));
  }
  CHECK(sum == doctest::Approx(1));
  const std::string one =
      output_of({"vitrun", "--model", model("vit"), "--topk", "1", folder / "my photo.bmp"});
  CHECK(std::count(one.begin(), one.end(), '\n') == 2);
}

TEST_CASE("cli: viteval counts what vitrun answers") {
  const TempFolder folder;
  const std::string qbin = quantize(folder, "vit", 8);
  const LabelledImages images = write_images(folder, qbin);
  CHECK(images.top1 == 3);
  CHECK(images.top5 == 5);
  const Command run = {"viteval", "--model", qbin, "--images", folder / "list.txt"};
  for (const std::string batch : {"1", "3", "8"}) {
    Command command = run;
    command.insert(command.end(), {"--json", "--batch", batch, "--reference", qbin});
    const json found = json::parse(output_of(command));
    CHECK(found["images"] == 7);
    CHECK(found["top1"] == 3 / 7.0);
    CHECK(found["top5"] == 5 / 7.0);
    CHECK(found["agreement"] == 1.0);
    CHECK(found["logits_error"] == 0.0);
  }
  const std::string table = output_of(run);
  CHECK(contains(table, "images             7\n"));
  CHECK(contains(table, "top1               42.86 %\n"));
  CHECK(contains(table, "top5               71.43 %\n"));
  CHECK(!contains(table, "agreement"));

  Command limited = run;
  limited.insert(limited.end(), {"--json", "--limit", "2"});
  CHECK(json::parse(output_of(limited))["top1"] == 1.0);
}

TEST_CASE("cli: viteval against the float model, and without labels") {
  const TempFolder folder;
  const std::string qbin = quantize(folder, "vit", 8);
  const LabelledImages images = write_images(folder, model("vit"));  // float logits
  Command run = {"vitrun", "--model", qbin};
  run.insert(run.end(), images.paths.begin(), images.paths.end());
  logits_bytes(folder, run);
  const Tensor logits = read_npy(folder / "out.npy");
  int agree = 0;
  double error = 0, energy = 0;
  for (size_t i = 0; i < logits.data.size(); i++) {
    error += std::pow(double{logits.data[i]} - double{images.logits.data[i]}, 2);
    energy += std::pow(double{images.logits.data[i]}, 2);
  }
  for (int64_t i = 0; i < 7; i++) agree += ranking(logits, i)[0] == ranking(images.logits, i)[0];

  std::filesystem::remove(folder / "list.txt");
  const json found = json::parse(output_of({"viteval", "--model", qbin, "--images", folder / "",
                                            "--reference", model("vit"), "--json"}));
  CHECK(found["images"] == 7);
  CHECK(!found.contains("top1"));
  CHECK(found["agreement"] == agree / 7.0);
  CHECK(found["logits_error"].get<double>() ==
        doctest::Approx(std::sqrt(error / energy)).epsilon(1e-3));
}

// The dynamic loader traces what a program loads. OpenBLAS would be a third of the memory and of
// the start of a small model.
TEST_CASE("cli: vitrun loads OpenBLAS for float weights and for nothing else") {
  if (std::string(VITRUN_EMULATOR) != "") return;  // OpenBLAS is linked into what runs there
  const auto loaded = [](const Command& command) {
    const std::string trace = execute(command, {"LD_DEBUG=files"}).err;
    CHECK(contains(trace, "libc.so"));
    return contains(trace, "libopenblas.so");
  };
  CHECK(!loaded({"vitrun", "--demo"}));
  CHECK(loaded({"vitrun", "--model", model("vit"), "--raw", input_of("vit")}));
}

// models/cifar10/demo.label names the class of demo.jpg.
TEST_CASE("cli: the embedded model knows the embedded image") {
  std::string label = read_bytes(std::string(VITRUN_TEST_DIR) + "/../models/cifar10/demo.label");
  label.erase(label.find_last_not_of(" \r\n") + 1);
  const json info = json::parse(output_of({"vitrun", "--info", "--json"}));
  CHECK(info["file"] == "the embedded model");
  CHECK(info["model"]["classes"] == 10);
  CHECK(info["model"]["labels"] == 10);
  const json found = json::parse(output_of({"vitrun", "--demo", "--topk", "10", "--json"}));
  REQUIRE(found["images"].size() == 1);
  REQUIRE(found["images"][0]["top"].size() == 10);
  CHECK(found["images"][0]["top"][0]["label"] == label);
  CHECK(contains(output_of({"vitrun", "--demo"}), "embedded image  ("));
}
