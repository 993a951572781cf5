// The program vitquant: it makes a .qbin of a .safetensors.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "models/base/error.h"
#include "quant/options.h"
#include "quant/quantize_text.h"
#include "runtime/files/atomic_file.h"
#include "runtime/float/blas.h"
#include "runtime/program/cli.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/predictor.h"

namespace vitrun {
namespace {

using Clock = std::chrono::steady_clock;

// Returns the least time of a few calls, in milliseconds.
template <class Body>
double least_time(const Body& body) {
  double best = INFINITY;
  for (int run = 0; run < 6; run++) {
    const auto start = Clock::now();
    body();
    best = std::min(best, 1000 * seconds_since(start));
  }
  return best;
}

// The time of one image on one thread.
double measure_speed(const std::string& qbin, const Tensor& image) {
  const auto model = open_predictor(qbin, {});
  return least_time([&] { model->run(image); });
}

double measure_detector(const std::string& qbin, const Image& photo) {
  const auto detector = open_detector(qbin, {});
  return least_time([&] { detector->run(view_of(photo)); });
}

std::string recipe_text(const QuantizeOptions& options, int64_t images) {
  return cat(method_name(options.method), ", W", options.weight_bits, "/A", options.activation_bits,
             options.coded || options.budget || !options.bits.empty() ? " and as below" : "", ", ",
             images, " calibration images",
             options.tuning.count > 0 ? cat(", tuned on ", options.tuning.count) : "");
}

int run_detector(const cxxopts::ParseResult& args, const std::string& out) {
  DetectorJob job = read_detector_job(args);
  check_outputs(args, {"output", "report"});
  std::fputs(job.note.c_str(), stderr);
  const auto start = Clock::now();
  const QuantizeOptions& options = job.options;
  const std::string arch = job.model.info.arch;
  std::optional<QuantizedDetector> result;
  {
    ProgressBar bar("quantizing");
    result = quantize_detector(std::move(job.model), job.calibration, options,
                               [&](double done) { bar.update(done); });
  }
  result->file.write(out);
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(out));
  const std::string recipe = recipe_text(options, job.calibration.count);
  std::printf("%s: %jd bytes, %s, %.1f s\n", out.c_str(), static_cast<intmax_t>(bytes),
              recipe.c_str(), seconds_since(start));
  UnitTable all;
  for (const auto& [graph, units] : result->units) {
    std::printf("%s, %.2f bits a weight\n%s", graph.c_str(), mean_weight_bits(units),
                unit_text(units).c_str());
    all.insert(all.end(), units.begin(), units.end());
  }
  if (const std::string warning = warning_of(all); !warning.empty())
    std::fprintf(stderr, "vitquant: warning: %s\n", warning.c_str());
  if (args.count("report"))
    write_file(args["report"].as<std::string>(),
               quantization_page({arch + ", quantized",
                                  recipe,
                                  bytes,
                                  measure_detector(out, job.calibration.load(0)),
                                  {},
                                  {}},
                                 all));
  return 0;
}

int run(const cxxopts::ParseResult& args) {
  if (!args.count("output")) throw UsageError("--output is missing");
  const std::string out = args["output"].as<std::string>();
  if (args.count("weights") && float_weights_detect(args["weights"].as<std::string>()))
    return run_detector(args, out);
  QuantizeJob job = read_job(args);
  check_outputs(args, {"output", "report"});
  std::fputs(job.note.c_str(), stderr);
  const QuantizeOptions& options = job.options;
  const std::string arch = job.model.info.arch;
  const auto start = Clock::now();
  std::optional<TextTower> text = std::move(job.model.text);
  job.model.text.reset();
  if (text && (options.coded || (options.budget && options.budget->bytes)))
    std::fputs("vitquant: the text tower's bytes come on top of the limit\n", stderr);
  if (!job.model.no_text.empty())
    std::fprintf(stderr, "vitquant: the text tower is left out: %s\n", job.model.no_text.c_str());
  std::optional<Quantized> result;
  {
    ProgressBar bar("quantizing");
    result = quantize_model(std::move(job.model), job.calibration, options,
                            [&](double done) { bar.update(done); });
  }
  UnitTable text_units;
  if (text) {
    ProgressBar bar("quantizing the text tower");
    text_units = add_text_tower(result->file, std::move(*text), options,
                                [&](double done) { bar.update(done); });
  }
  result->file.write(out);
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(out));
  const std::string recipe = recipe_text(options, job.calibration.count);
  std::printf("%s: %jd bytes, %.2f bits a weight, %s, %.1f s\n", out.c_str(),
              static_cast<intmax_t>(bytes), mean_weight_bits(result->units), recipe.c_str(),
              seconds_since(start));
  if (result->ranking)
    std::printf("rankings by relevance and by measured error agree with Kendall tau %.2f\n",
                *result->ranking);
  if (result->plans) std::fputs(report_text(*result->plans).c_str(), stdout);
  std::fputs(unit_text(result->units).c_str(), stdout);
  if (!text_units.empty()) {
    std::printf("text tower, %.2f bits a weight\n", mean_weight_bits(text_units));
    std::fputs(unit_text(text_units).c_str(), stdout);
  }
  if (const std::string warning = warning_of(result->units); !warning.empty())
    std::fprintf(stderr, "vitquant: warning: %s\n", warning.c_str());
  if (args.count("report"))
    write_file(args["report"].as<std::string>(),
               quantization_page({arch + ", quantized", recipe, bytes,
                                  measure_speed(out, job.calibration.load(0, 1)), result->ranking,
                                  result->plans ? report_html(*result->plans) : std::string()},
                                 result->units));
  return 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  vitrun::choose_blas_kernels(argv);
  cxxopts::Options options("vitquant",
                           "Quantizes a ViT, DeiT or Swin to a .qbin for vitrun.\n"
                           "docs/quantization.md explains recipes, steps and bits.\n");
  vitrun::add_quantize_options(options);
  options.add_options()  //
      ("report", "also writes an HTML page: bits, ranges and errors of each unit",
       cxxopts::value<std::string>(), "FILE")  //
      ("o,output", "the .qbin to write", cxxopts::value<std::string>(), "FILE");
  const std::string examples =
      "  vitquant --weights deit_s/model.safetensors --calib train/ --bits 4/8 -o deit_s.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --calib-count 64 --labels names.txt "
      "-o vit.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits 4 --recipe repq -o vit.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits 4,lrp:scores.json --recipe crl "
      "-o vit.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits 4/8,budget:3000000 -o vit.qbin "
      "\\\n"
      "           --report vit.html\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits 4 --tune 1000 -o vit.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits size:2500000 -o vit.qbin\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits target:avx2 -o vit.qbin\n"
      "  vitbench costs --isa avx2 --json > board.json\n"
      "  vitquant --weights vit.safetensors --calib list.txt --bits target:board.json,time=12 "
      "-o vit.qbin\n";
  if (const std::string why = vitrun::removed_option(argc, argv); !why.empty())
    return vitrun::run_program(options, examples, 1, argv,
                               [&](const auto&) -> int { throw vitrun::UsageError(why); });
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
