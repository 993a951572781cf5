#include "quant/options.h"

#include <filesystem>

#include "models/base/error.h"
#include "runtime/files/npy.h"
#include "runtime/program/cli.h"
#include "runtime/program/predictor.h"

namespace vitrun {
namespace {

constexpr double kMostMilliseconds = 1e6;

ImageSource from_files(const std::vector<Sample>& samples, const ModelInfo& config) {
  auto loader = std::make_shared<ImageLoader>(config);
  return {static_cast<int64_t>(samples.size()), [=](int64_t first, int64_t n) {
            return loader->load(samples, static_cast<size_t>(first), static_cast<size_t>(n));
          }};
}

// A bad value on the command line is wrong use. "auto" [ours]: a fold lets activations keep their
// codes and costs the weights theirs, so it pays where weights are no narrower than activations
// (bench/results/accuracy.md).
Method choose_method(const std::string& name, const QuantizeOptions& bits) {
  if (name == "auto")
    return bits.weight_bits >= bits.activation_bits ? Method::kRepq : Method::kLayerwise;
  try {
    return method_called(name);
  } catch (const Error& e) {
    throw UsageError(cat("--", e.what()));
  }
}

// Whether a step of our own is taken, --option on|off|auto: by default with --method auto alone,
// the published methods being without.
bool choose_step(const cxxopts::ParseResult& args, const char* option, const std::string& off,
                 const std::string& on) {
  const std::string chosen = args[option].as<std::string>();
  if (chosen == "auto") return args["method"].as<std::string>() == "auto";
  if (chosen != off && chosen != on)
    throw UsageError(cat("--", option, " must be ", off, ", ", on, " or auto, got '", chosen, "'"));
  return chosen == on;
}

// "auto": at 8 bits ranges by head gain nothing (bench/results/accuracy.md).
bool choose_heads(const cxxopts::ParseResult& args, int activation_bits) {
  const bool own = choose_step(args, "heads", "shared", "own");
  const bool narrow = activation_bits < 8 || args.count("target");
  return own && (narrow || args["heads"].as<std::string>() == "own");
}

// "auto" [ours]: a fold of each LayerNorm does for activations what rotating the residual stream
// would, which then only makes weights harder (bench/results/accuracy.md).
Rotate choose_rotation(const cxxopts::ParseResult& args, Method method) {
  const std::string chosen = args["rotation"].as<std::string>();
  if (chosen == "none") return Rotate::kNone;
  if (chosen == "scores") return Rotate::kScores;
  if (chosen == "all") return Rotate::kAll;
  if (chosen != "auto")
    throw UsageError(cat("--rotation must be none, scores, all or auto, got '", chosen, "'"));
  if (args["method"].as<std::string>() != "auto") return Rotate::kNone;
  return method == Method::kLayerwise ? Rotate::kAll : Rotate::kScores;
}

Objective choose_objective(const std::string& name) {
  if (name == "residual") return Objective::kResidual;
  if (name == "tensor") return Objective::kTensor;
  throw UsageError(cat("--objective must be residual or tensor, got '", name, "'"));
}

ImageSource choose_calibration(const cxxopts::ParseResult& args, const ModelInfo& config,
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

MixedOptions mixed_options(const cxxopts::ParseResult& args, const QuantizeOptions& base) {
  const std::string mp = args["mp-case"].as<std::string>(),
                    operands = args["mixed-operands"].as<std::string>();
  if (mp != "by-unit" && mp != "by-block")
    throw UsageError(cat("--mp-case must be by-unit or by-block, got '", mp, "'"));
  if (operands != "wa" && operands != "w")
    throw UsageError(cat("--mixed-operands must be wa or w, got '", operands, "'"));
  return {mp == "by-unit" ? MixedCase::kByUnit : MixedCase::kByBlock,
          operands == "wa" ? MixedOperands::kBoth : MixedOperands::kWeights, base.weight_bits,
          base.activation_bits};
}

// As --target says, whose limits --size and --time replace.
void choose_target(const cxxopts::ParseResult& args, QuantizeOptions& options) {
  if (args.count("mixed") || args.count("bits-file") || args.count("importance"))
    throw UsageError(
        "--target chooses the bits itself: without --mixed, --importance, --bits-file");
  if (options.method == Method::kPtq4Vit)
    throw UsageError("--target needs evenly spaced codes: not those of --method ptq4vit");
  Budget budget;
  budget.costs = read_costs(args["target"].as<std::string>());
  if (args.count("size")) budget.bytes = args["size"].as<int64_t>();
  if (args.count("time")) budget.milliseconds = args["time"].as<double>();
  if (budget.milliseconds &&
      !(*budget.milliseconds > 0 && *budget.milliseconds <= kMostMilliseconds))
    throw UsageError(cat("--time must be milliseconds above 0, at most ", kMostMilliseconds));
  options.budget = std::move(budget);
}

// Sets the bits of each unit as --target, --mixed and --bits-file say.
void choose_bits(const cxxopts::ParseResult& args, const FloatModel& model,
                 QuantizeOptions& options) {
  const std::string mixed = args["mixed"].as<std::string>();
  if (mixed != "none" && mixed != "lrp" && mixed != "budget")
    throw UsageError(cat("--mixed must be none, lrp or budget, got '", mixed, "'"));
  if (args.count("target")) return choose_target(args, options);
  if (args.count("time")) throw UsageError("--time needs --target");
  if (args.count("size") != (mixed == "budget"))
    throw UsageError("--mixed budget and --size BYTES need each other");
  if (args.count("bits-file")) {
    if (mixed != "none") throw UsageError("give --mixed or --bits-file");
    options.bits = read_bits(args["bits-file"].as<std::string>(), model.graph,
                             {options.weight_bits, options.activation_bits});
  }
  if (mixed == "none") return;
  if (!args.count("importance") && mixed == "lrp")
    throw UsageError("--mixed lrp needs --importance SCORES.json, which vitlrp writes");
  const MixedOptions rule = mixed_options(args, options);
  Importance importance;
  if (args.count("importance"))
    importance = read_importance(args["importance"].as<std::string>(), model.graph);
  if (mixed == "lrp")
    options.bits = mixed_plan(model.graph, importance, rule);
  else
    options.budget = Budget{args["size"].as<int64_t>(), std::move(importance), rule.operands};
}

}  // namespace

QuantizeJob read_job(const cxxopts::ParseResult& args) {
  if (!args.count("weights")) throw UsageError("--weights is missing");
  QuantizeOptions options;
  options.clip_k = args["clip-k"].as<double>();
  if (!(options.clip_k >= 0)) throw UsageError("--clip-k must be a positive number");
  options.objective = choose_objective(args["objective"].as<std::string>());
  options.weight_bits =
      args.count("target") && !args.count("wbits") ? 4 : int_option(args, "wbits", 3, 8);
  options.activation_bits = int_option(args, "abits", 3, 8);
  options.compensate = choose_step(args, "rounding", "nearest", "compensated");
  options.levels = choose_step(args, "codes", "uniform", "levels");
  options.split = choose_step(args, "outliers", "keep", "split");
  options.heads = choose_heads(args, options.activation_bits);
  options.method = choose_method(args["method"].as<std::string>(), options);
  options.rotate = choose_rotation(args, options.method);
  options.threads = args.count("threads") ? int_option(args, "threads", 1, 256) : default_threads();
  const std::string weights = args["weights"].as<std::string>();
  FloatModel model = load_float_model(weights, args["arch"].as<std::string>());
  if (args.count("labels"))
    model.info.labels = read_labels(args["labels"].as<std::string>(), model.info.num_classes);
  choose_bits(args, model, options);
  ImageSource calibration = choose_calibration(args, model.info, options);
  options.provenance["calibration_images"] = calibration.count;
  options.provenance["weights"] = std::filesystem::path(weights).filename().string();
  return {std::move(model), std::move(calibration), std::move(options)};
}

void add_quantize_options(cxxopts::Options& options) {
  options.add_options()  //
      ("w,weights", "a .safetensors with timm or transformers names",
       cxxopts::value<std::string>())  //
      ("calib", "calibration images: a folder, or a list of `path label` lines",
       cxxopts::value<std::string>())  //
      ("calib-raw", "or a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<std::string>())                                                         //
      ("calib-count", "how many of them to use", cxxopts::value<int>()->default_value("32"))  //
      ("seed", "which of them", cxxopts::value<int>()->default_value("0"))                    //
      ("method",
       "after LayerNorm: repq (per-channel statistics folded away), crl (the same, clipped), "
       "layerwise (one scale as it is), fq-vit (powers of two per channel, log2 after softmax), "
       "ptq4vit (ranges by Hessian-weighed error, twin uniform codes after softmax and GELU), "
       "apq-vit (the same by block, even codes after softmax) or auto (repq, or layerwise where "
       "weights have fewer bits)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("rounding",
       "of weights: nearest, compensated (errors made up for by columns not yet rounded) or auto "
       "(compensated with --method auto)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("codes",
       "of activations: uniform (evenly spaced; log sqrt 2 after softmax), levels (inputs of "
       "Linears: at --abits, the best of the 256 codes of 8 bits; after softmax the log base that "
       "fits best; pixels as they are) or auto (levels with --method auto)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("outliers",
       "channels of an MLP that reach four times all others: keep, split (into copies that share "
       "the range of the others) or auto (split with --method auto)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("heads",
       "ranges of q, k and v: shared by the heads, own for each or auto (with --method auto own "
       "where "
       "they may have fewer than 8 bits)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("rotation",
       "of what outliers are spread: none, scores (q and k of each head), all (and, but for Swin, "
       "the residual stream) or auto (with --method auto: all where LayerNorms are not folded, "
       "else "
       "scores)",
       cxxopts::value<std::string>()->default_value("auto"))  //
      ("clip-k", "crl: clip at so many standard deviations; 0: chosen per layer by output error",
       cxxopts::value<double>()->default_value("0"))  //
      ("objective",
       "what activation ranges minimise: residual (for proj and fc2 the normalised residual "
       "stream) or tensor (the "
       "paper's)",
       cxxopts::value<std::string>()->default_value("residual"))  //
      ("wbits", "bits of a weight, 3..8; with --target by default 4",
       cxxopts::value<int>()->default_value("8"))                                          //
      ("abits", "bits of an activation, 3..8", cxxopts::value<int>()->default_value("8"))  //
      ("mixed",
       "bits per unit: none, lrp (by relevance, around --wbits and --abits) or budget (the least "
       "relevance times measured error within --size; without --importance the least predicted "
       "error "
       "of the logits)",
       cxxopts::value<std::string>()->default_value("none"))  //
      ("importance", "lrp, budget: SCORES.json, which vitlrp writes",
       cxxopts::value<std::string>())  //
      ("target",
       "bits per unit for a machine: vnni, avx2, neon, neondot or a file that vitbench costs made; "
       "the least predicted error of the logits that is no larger and no slower than --wbits and "
       "--abits (4 and 8) everywhere",
       cxxopts::value<std::string>())  //
      ("time", "target: or most predicted milliseconds of matrix products, on one thread",
       cxxopts::value<double>())                                                      //
      ("size", "budget, target: most bytes of the .qbin", cxxopts::value<int64_t>())  //
      ("bits-file",
       "or by hand: JSON, {\"blocks.0\": 5, \"blocks.1.attn.qkv\": [4, 8], ...}, names of units or "
       "blocks and bits or [weight, activation]; the others get --wbits and --abits",
       cxxopts::value<std::string>())  //
      ("mp-case", "lrp: lower by-unit or by-block",
       cxxopts::value<std::string>()->default_value("by-unit"))  //
      ("mixed-operands",
       "lrp, budget with --importance: wa mixes weights and activations, w weights alone",
       cxxopts::value<std::string>()->default_value("wa"))                                        //
      ("labels", "class names, one a line, to put into the file", cxxopts::value<std::string>())  //
      ("arch", "a timm architecture, where there is no config.json",
       cxxopts::value<std::string>()->default_value(""))  //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>());
}

}  // namespace vitrun
