// viteval: accuracy of a model on labelled images, and its agreement with the float model.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "models/status.h"
#include "runtime/cli.h"
#include "runtime/npy.h"
#include "runtime/predictor.h"

namespace vitrun {
namespace {

struct Counts {
  int64_t images = 0, labelled = 0, top1 = 0, top5 = 0;
  int64_t agree = 0;                     // same first class as the reference
  double squared_error = 0, energy = 0;  // of the logits against the reference's
  double seconds = 0;                    // in the model alone
};

// How many classes score above `c`; ties count for lower indices.
int64_t rank_of(const float* logits, int classes, int c) {
  int64_t above = 0;
  for (int i = 0; i < classes; i++)
    above += logits[i] > logits[c] || (logits[i] == logits[c] && i < c);
  return above;
}

void count(const Tensor& logits, const Tensor* reference, const Sample* samples, Counts& n) {
  const int classes = static_cast<int>(logits.dims[1]);
  for (int64_t i = 0; i < logits.dims[0]; i++) {
    const float* x = logits.data.data() + i * classes;
    n.images++;
    if (samples[i].label >= 0) {
      const int64_t rank = rank_of(x, classes, samples[i].label);
      n.labelled++;
      n.top1 += rank == 0;
      n.top5 += rank < 5;
    }
    if (!reference) continue;
    const float* r = reference->data.data() + i * classes;
    n.agree += std::max_element(x, x + classes) - x == std::max_element(r, r + classes) - r;
    for (int c = 0; c < classes; c++) {
      n.squared_error += std::pow(static_cast<double>(x[c] - r[c]), 2);
      n.energy += std::pow(static_cast<double>(r[c]), 2);
    }
  }
}

nlohmann::ordered_json report(const Counts& n, const Predictor& model, bool reference) {
  nlohmann::ordered_json j = {
      {"model", model.config().arch}, {"engine", model.engine()}, {"images", n.images}};
  auto fraction = [](int64_t part, int64_t of) {
    return static_cast<double>(part) / static_cast<double>(of);
  };
  if (n.labelled) {
    j["top1"] = fraction(n.top1, n.labelled);
    j["top5"] = fraction(n.top5, n.labelled);
  }
  if (reference) {
    j["agreement"] = fraction(n.agree, n.images);
    j["logits_error"] = std::sqrt(n.squared_error / n.energy);  // relative, root mean square
  }
  j["seconds"] = n.seconds;
  j["images_per_second"] = static_cast<double>(n.images) / n.seconds;
  return j;
}

void print(const nlohmann::ordered_json& j) {
  for (const auto& [key, value] : j.items()) {
    const bool fraction =
        key == "top1" || key == "top5" || key == "agreement" || key == "logits_error";
    if (fraction)
      std::printf("%-18s %.2f %%\n", key.c_str(), 100 * value.get<double>());
    else
      std::printf("%-18s %s\n", key.c_str(),
                  value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
}

void check_labels(const std::vector<Sample>& samples, const ModelConfig& config) {
  for (const Sample& s : samples)
    if (s.label >= config.num_classes)
      fail(s.path, ": label ", s.label, ", the model has ", config.num_classes, " classes");
}

void check_same_input(const ModelConfig& a, const ModelConfig& b) {
  if (a.image_height != b.image_height || a.image_width != b.image_width ||
      a.num_classes != b.num_classes)
    fail("--reference is another kind of model: ", b.image_height, "x", b.image_width, ", ",
         b.num_classes, " classes instead of ", a.image_height, "x", a.image_width, ", ",
         a.num_classes);
}

int run(const cxxopts::ParseResult& args) {
  for (const char* needed : {"model", "images"})
    if (!args.count(needed)) throw UsageError(cat("--", needed, " is missing"));
  PredictorOptions options = predictor_options(args);
  options.verify = true;
  const auto model = open_predictor(args["model"].as<std::string>(), options);
  std::unique_ptr<Predictor> reference;
  if (args.count("reference")) {
    options.isa.clear();  // a float model has no integer kernels to choose
    reference = open_predictor(args["reference"].as<std::string>(), options);
  }
  if (reference) check_same_input(model->config(), reference->config());

  std::vector<Sample> samples = load_samples(args["images"].as<std::string>());
  if (const auto limit = static_cast<size_t>(int_option(args, "limit", 0, 1 << 30));
      limit && limit < samples.size())
    samples.resize(limit);
  check_labels(samples, model->config());

  Counts counts;
  ImageLoader loader(model->config());
  {
    ProgressBar bar("evaluating");
    const size_t batch = static_cast<size_t>(options.max_batch);
    for (size_t first = 0; first < samples.size(); first += batch) {
      const size_t n = std::min(batch, samples.size() - first);
      const Tensor images = loader.load(samples, first, n);
      const auto start = std::chrono::steady_clock::now();
      const Tensor logits = model->run(images);
      counts.seconds +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      Tensor expected;
      if (reference) expected = reference->run(images);
      count(logits, reference ? &expected : nullptr, samples.data() + first, counts);
      bar.update(static_cast<double>(first + n) / static_cast<double>(samples.size()));
    }
  }
  const auto j = report(counts, *model, reference != nullptr);
  if (args.count("json"))
    std::cout << j.dump(2) << "\n";
  else
    print(j);
  return 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  cxxopts::Options options("viteval",
                           "Top-1, top-5 and agreement with the float model on labelled images.");
  options.add_options()                                                      //
      ("m,model", "a .qbin or .safetensors", cxxopts::value<std::string>())  //
      ("images", "a list of `path label` lines, or a folder with a folder per class",
       cxxopts::value<std::string>())  //
      ("reference", "the model to agree with, usually the float one",
       cxxopts::value<std::string>())                                                      //
      ("limit", "only so many images; 0: all", cxxopts::value<int>()->default_value("0"))  //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>())                //
      ("isa", "kernels to use; default: the best",
       cxxopts::value<std::string>()->default_value(""))                      //
      ("batch", "images per run", cxxopts::value<int>()->default_value("8"))  //
      ("arch", "a timm architecture, for a .safetensors without config.json",
       cxxopts::value<std::string>()->default_value(""))  //
      ("json", "print one JSON object; fractions are 0..1");
  const std::string examples =
      "  viteval --model vit.qbin --images val/list.txt\n"
      "  viteval --model vit.qbin --images val/ --reference model.safetensors --json\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
