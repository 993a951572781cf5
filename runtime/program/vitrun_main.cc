// The program vitrun: it classifies images.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "models/cifar10/embedded.h"
#include "runtime/api/vitrun.h"
#include "runtime/files/npy.h"
#include "runtime/program/cli.h"
#include "runtime/program/info.h"
#include "runtime/program/predictor.h"
#include "runtime/vision/image.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

class Output {
 public:
  Output(const cxxopts::ParseResult& args, const ModelInfo& config, const std::string& engine)
      : json_(args.count("json") > 0),
        top_(int_option(args, "topk", 1, 100000)),
        labels_(config.labels),
        classes_(config.num_classes) {
    if (args.count("labels")) labels_ = read_labels(args["labels"].as<std::string>(), classes_);
    document_ = {{"model", config.arch}, {"engine", engine}, {"images", Json::array()}};
  }

  // `logits` is null for a model that has none.
  void add(const std::string& name, const float* logits, double milliseconds) {
    std::vector<vit_prediction> top(logits ? static_cast<size_t>(std::min(top_, classes_)) : 0);
    if (logits) vit_top_k(logits, classes_, static_cast<int>(top.size()), top.data());
    if (json_) return add_json(name, top, milliseconds);
    std::printf("%s  (%.1f ms)\n", name.c_str(), milliseconds);
    for (const vit_prediction& p : top) {
      std::string bar;
      for (int i = 0; i < static_cast<int>(std::lround(p.probability * 20)); i++) bar += "█";
      for (size_t i = bar.size() / 3; i < 20; i++) bar += "·";
      std::printf("  %5.1f %%  %s  %5d  %s\n", 100 * static_cast<double>(p.probability),
                  bar.c_str(), p.class_index, label(p.class_index).c_str());
    }
  }

  void finish() {
    if (!json_) return;
    document_["peak_memory_mb"] = peak_memory_mb();
    std::cout << document_.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  }

 private:
  std::string label(int c) const { return labels_.empty() ? cat("class ", c) : at(labels_, c); }

  void add_json(const std::string& name, const std::vector<vit_prediction>& top,
                double milliseconds) {
    Json image = {{"image", name}, {"ms", milliseconds}, {"top", Json::array()}};
    for (const vit_prediction& p : top)
      image["top"].push_back({{"class", p.class_index},
                              {"label", label(p.class_index)},
                              {"probability", p.probability},
                              {"logit", p.logit}});
    document_["images"].push_back(std::move(image));
  }

  bool json_;
  int top_;
  std::vector<std::string> labels_;
  int classes_;
  Json document_;
};

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

struct Input {
  std::vector<std::string> names;
  std::function<Tensor(size_t first, size_t count)> load;
};

Input raw_input(const std::string& path, const ModelInfo& config) {
  auto all = std::make_shared<Tensor>(read_raw_images(path, config));
  Input in;
  for (int64_t i = 0; i < all->dims[0]; i++) in.names.push_back(cat(path, "[", i, "]"));
  in.load = [all](size_t first, size_t count) {
    return slice(*all, static_cast<int64_t>(first), static_cast<int64_t>(count));
  };
  return in;
}

Input file_input(const std::vector<std::string>& paths, const ModelInfo& config) {
  std::vector<Sample> samples;
  for (const std::string& p : paths) samples.push_back({p, -1});
  auto loader = std::make_shared<ImageLoader>(config);
  return {paths, [=](size_t first, size_t count) { return loader->load(samples, first, count); }};
}

Input demo_input(const ModelInfo& config) {
  const Image image = decode_image(embedded_image(), "the embedded image");
  Tensor t({1, 3, config.image_height, config.image_width});
  PreprocessScratch scratch;
  preprocess({image.rgb.data(), image.width, image.height, int64_t{3} * image.width}, config,
             t.data, scratch);
  return {{"embedded image"}, [t](size_t, size_t) { return t; }};
}

void check_usage(const cxxopts::ParseResult& args) {
  const bool images = args.count("image") > 0, raw = args.count("raw") > 0,
             demo = args.count("demo") > 0;
  if (int{images} + int{raw} + int{demo} != 1)
    throw UsageError("give images, or --raw FILE, or --demo");
}

Input choose_input(const cxxopts::ParseResult& args, const ModelInfo& config) {
  if (args.count("raw")) return raw_input(args["raw"].as<std::string>(), config);
  if (args.count("demo")) return demo_input(config);
  return file_input(args["image"].as<std::vector<std::string>>(), config);
}

// Returns the outputs for which an option names a file, and the logits if the model has any.
std::vector<std::string> wanted_outputs(const cxxopts::ParseResult& args,
                                        const Predictor& predictor) {
  const std::vector<std::string> has = predictor.outputs();
  std::vector<std::string> wanted;
  for (const char* name : {"logits", "embedding", "features"}) {
    const bool there = std::ranges::find(has, name) != has.end();
    if (!there && args.count(name))
      fail("--", name, ": the model has no such output, only ", listed(has));
    if (there && (args.count(name) || std::string(name) == "logits")) wanted.push_back(name);
  }
  return wanted;
}

// Appends a batch's output to those of the batches before; `all` will hold `total` images.
void append(const Tensor& part, size_t total, Tensor& all) {
  if (all.dims.empty()) {
    all.dims = part.dims;
    all.dims[0] = static_cast<int64_t>(total);
    all.data.reserve(static_cast<size_t>(element_count(all.dims)));
  }
  all.data.insert(all.data.end(), part.data.begin(), part.data.end());
}

int run(const cxxopts::ParseResult& args) {
  const std::string model = args.count("model") ? args["model"].as<std::string>() : "";
  if (args.count("info"))
    return print_info(model, args["arch"].as<std::string>(), args.count("json") > 0);
  check_usage(args);
  PredictorOptions options = predictor_options(args);
  options.verify = args.count("verify") > 0;
  const auto predictor = open_predictor(model, options);
  const ModelInfo& config = predictor->info();
  Output output(args, config, predictor->engine());
  const Input input = choose_input(args, config);

  const size_t total = input.names.size(), batch = static_cast<size_t>(options.max_batch);
  const std::vector<std::string> wanted = wanted_outputs(args, *predictor);
  std::vector<Tensor> all(wanted.size());
  for (size_t first = 0; first < total; first += batch) {
    const size_t count = std::min(batch, total - first);
    const Tensor images = input.load(first, count);
    const auto start = std::chrono::steady_clock::now();
    const std::vector<Tensor> part = predictor->run(images, wanted);
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - start;
    for (size_t o = 0; o < wanted.size(); o++) append(part[o], total, all[o]);
    const auto logits = std::ranges::find(wanted, "logits");
    const float* scores =
        logits == wanted.end() ? nullptr : at(part, logits - wanted.begin()).data.data();
    for (size_t i = 0; i < count; i++)
      output.add(input.names[first + i],
                 scores ? scores + i * static_cast<size_t>(config.num_classes) : nullptr,
                 spent.count() / static_cast<double>(count));
  }
  output.finish();
  for (size_t o = 0; o < wanted.size(); o++)
    if (args.count(wanted[o])) write_npy(args[wanted[o]].as<std::string>(), all[o]);
  return 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  cxxopts::Options options("vitrun",
                           "Classifies images with a quantized vision transformer, in integers.");
  options.add_options()  //
      ("m,model", "a .qbin, or a .safetensors run in float; none: the embedded model",
       cxxopts::value<std::string>())                                                  //
      ("topk", "how many classes to show", cxxopts::value<int>()->default_value("5"))  //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>())            //
      ("isa", "kernels to use; default: the best",
       cxxopts::value<std::string>()->default_value(""))                      //
      ("batch", "images per run", cxxopts::value<int>()->default_value("1"))  //
      ("labels", "class names, one a line", cxxopts::value<std::string>())    //
      ("json", "print one JSON object")                                       //
      ("logits", "write the logits [images, classes] to this .npy",
       cxxopts::value<std::string>())  //
      ("embedding", "write the image embeddings [images, D] to this .npy",
       cxxopts::value<std::string>())  //
      ("features", "write the tokens after the last norm [images, tokens, D] to this .npy",
       cxxopts::value<std::string>())  //
      ("raw", "a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<std::string>())  //
      ("arch", "a timm architecture, for a .safetensors without config.json",
       cxxopts::value<std::string>()->default_value(""))             //
      ("verify", "check the weights against their checksums first")  //
      ("info", "describe the model instead")                         //
      ("demo", "classify the embedded image")                        //
      ("image", "images", cxxopts::value<std::vector<std::string>>());
  options.parse_positional({"image"});
  options.positional_help("IMAGE...");
  const std::string examples =
      "  vitrun photo.jpg                                the embedded CIFAR-10 model\n"
      "  vitrun --model deit_s.qbin cat.jpg dog.png      top 5 of each image\n"
      "  vitrun --model deit_s.qbin --json *.jpg | jq .  for scripts\n"
      "  vitrun --model deit_s.qbin --embedding e.npy *.jpg\n"
      "                                                  a vector for each image\n"
      "  vitrun --model deit_s.qbin --info               what is in the file\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
