// vitquant: a .safetensors into a .qbin.
#include <cstdio>
#include <filesystem>

#include "models/status.h"
#include "quant/pipeline.h"
#include "runtime/cli.h"
#include "runtime/npy.h"
#include "runtime/predictor.h"

namespace vitrun {
namespace {

ImageSource from_files(const std::vector<Sample>& samples, const ModelConfig& config) {
  auto loader = std::make_shared<ImageLoader>(config);
  return {static_cast<int64_t>(samples.size()), [=](int64_t first, int64_t n) {
            return loader->load(samples, static_cast<size_t>(first), static_cast<size_t>(n));
          }};
}

void check_method(const cxxopts::ParseResult& args) {
  const std::string method = args["method"].as<std::string>(),
                    mixed = args["mixed"].as<std::string>();
  if (method != "layerwise")
    throw UsageError(cat("--method ", method, ": this version has 'layerwise'"));
  if (mixed != "none") throw UsageError(cat("--mixed ", mixed, ": this version has 'none'"));
}

Objective choose_objective(const std::string& name) {
  if (name == "residual") return Objective::kResidual;
  if (name == "tensor") return Objective::kTensor;
  throw UsageError(cat("--objective must be residual or tensor, got '", name, "'"));
}

ImageSource choose_calibration(const cxxopts::ParseResult& args, const ModelConfig& config,
                               QuantizeOptions& options) {
  if (args.count("calib") + args.count("calib-raw") != 1)
    throw UsageError("give --calib or --calib-raw");
  if (args.count("calib-raw")) {
    options.provenance["calibration"] = std::string("raw tensor");
    return tensor_source(read_raw_images(args["calib-raw"].as<std::string>(), config));
  }
  const std::string from = args["calib"].as<std::string>();
  const int seed = int_option(args, "seed", 0, 1 << 30);
  const auto samples = draw_samples(
      load_samples(from), static_cast<size_t>(int_option(args, "calib-count", 1, 1 << 20)),
      static_cast<uint64_t>(seed));
  options.provenance["calibration"] =
      std::filesystem::path(from).lexically_normal().filename().string();
  options.provenance["seed"] = int64_t{seed};
  return from_files(samples, config);
}

int run(const cxxopts::ParseResult& args) {
  for (const char* needed : {"weights", "output"})
    if (!args.count(needed)) throw UsageError(cat("--", needed, " is missing"));
  check_method(args);
  QuantizeOptions options;
  options.objective = choose_objective(args["objective"].as<std::string>());
  options.weight_bits = int_option(args, "wbits", 3, 8);
  options.activation_bits = int_option(args, "abits", 3, 8);
  options.threads = args.count("threads") ? int_option(args, "threads", 1, 256) : default_threads();
  const std::string weights = args["weights"].as<std::string>(),
                    out = args["output"].as<std::string>();
  FloatModel model = load_float_model(weights, args["arch"].as<std::string>());
  if (args.count("labels"))
    model.config.labels = read_labels(args["labels"].as<std::string>(), model.config.num_classes);
  const ImageSource calibration = choose_calibration(args, model.config, options);
  options.provenance["calibration_images"] = calibration.count;
  options.provenance["weights"] = std::filesystem::path(weights).filename().string();

  const auto start = std::chrono::steady_clock::now();
  {
    ProgressBar bar("quantizing");
    quantize_model(std::move(model), calibration, options, [&](double done) {
      bar.update(done);
    }).write(out);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%s: %ju bytes, W%d/A%d, %jd calibration images, %.1f s\n", out.c_str(),
              static_cast<uintmax_t>(std::filesystem::file_size(out)), options.weight_bits,
              options.activation_bits, static_cast<intmax_t>(calibration.count), seconds);
  return 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  cxxopts::Options options("vitquant", "Quantizes a ViT, DeiT or Swin to a .qbin for vitrun.");
  options.add_options()  //
      ("w,weights", "a .safetensors with timm or transformers names",
       cxxopts::value<std::string>())  //
      ("calib", "calibration images: a folder, or a list of `path label` lines",
       cxxopts::value<std::string>())  //
      ("calib-raw", "or a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<std::string>())                                                         //
      ("calib-count", "how many of them to use", cxxopts::value<int>()->default_value("32"))  //
      ("seed", "which of them", cxxopts::value<int>()->default_value("0"))                    //
      ("method", "layerwise: one scale per tensor, per channel for weights",
       cxxopts::value<std::string>()->default_value("layerwise"))  //
      ("objective",
       "what activation ranges minimise: residual (for proj and fc2 the normalised residual "
       "stream) or tensor (the "
       "paper's)",
       cxxopts::value<std::string>()->default_value("residual"))                                  //
      ("wbits", "bits of a weight, 3..8", cxxopts::value<int>()->default_value("8"))              //
      ("abits", "bits of an activation, 3..8", cxxopts::value<int>()->default_value("8"))         //
      ("mixed", "bits per layer: none", cxxopts::value<std::string>()->default_value("none"))     //
      ("labels", "class names, one a line, to put into the file", cxxopts::value<std::string>())  //
      ("arch", "a timm architecture, where there is no config.json",
       cxxopts::value<std::string>()->default_value(""))                     //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>())  //
      ("o,output", "the .qbin to write", cxxopts::value<std::string>());
  const std::string examples =
      "  vitquant --weights deit_s/model.safetensors --calib train/ --wbits 4 -o deit_s.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --calib-count 64 --labels names.txt "
      "-o vit.qbin\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
