#include "quant/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

#include "models/base/error.h"
#include "quant/quantize_text.h"
#include "runtime/files/npy.h"
#include "runtime/float/text_encoder.h"
#include "runtime/program/cli.h"
#include "runtime/program/image_loader.h"
#include "runtime/program/zero_shot.h"

namespace vitrun {
namespace {

constexpr double kMostMilliseconds = 1e6;
constexpr const char* kSteps[] = {"rounding", "levels",   "split", "rotation",
                                  "heads",    "residual", "rows"};

// Options that vitquant no longer has, each with what replaces it.
constexpr std::pair<const char*, const char*> kRemoved[] = {
    {"rounding", "--without rounding rounds to the nearest, --with rounding compensates"},
    {"codes", "--without levels spaces codes evenly, --with levels chooses them"},
    {"outliers", "--without split keeps outlier channels, --with split splits them"},
    {"rotation", "--without rotation and --with rotation switch it"},
    {"clip-k", "--recipe crl:K"},
    {"objective", "--without residual is the tensor objective"},
    {"target", "--bits target:NAME"},
    {"time", "--bits target:NAME,time=MS"},
    {"bits-file", "--bits FILE.json, or --bits W/A,FILE.json where W/A are the other units' bits"},
    {"mixed-operands",
     "--bits lrp:SCORES.json,weights or --bits budget:BYTES,weights mixes "
     "weights alone"}};

int calibration_count(const cxxopts::ParseResult& args) {
  return int_option(args, "calib-count", 1, 1 << 20);
}

// Draws the calibration images from --calib, a list or folder, and others after them, up to
// `count`. All are in their order if the calibration takes all there are. `note` says which are not
// used.
std::vector<Sample> draw_samples(const cxxopts::ParseResult& args, int count, ImageLoader& loader,
                                 std::string& note) {
  ImageList images = find_images(args["calib"].as<std::string>());
  if (calibration_count(args) < count_of(images.samples))
    images.samples = shuffle_samples(images.samples,
                                     static_cast<uint64_t>(int_option(args, "seed", 0, 1 << 30)));
  std::vector<UnreadImage> unread;
  std::vector<Sample> drawn =
      take_readable(images.samples, static_cast<size_t>(count), loader, unread);
  note = left_out_note(images) + unread_note(unread);
  return drawn;
}

// Records which images calibrate.
void record_calibration(const cxxopts::ParseResult& args, QuantizeOptions& options) {
  options.provenance["calibration"] =
      std::filesystem::path(args["calib"].as<std::string>()).lexically_normal().filename().string();
  options.provenance["seed"] = int64_t{int_option(args, "seed", 0, 1 << 30)};
  if (const Exif exif = exif_option(args); exif == Exif::kIgnore)
    options.provenance["exif"] = std::string(exif_name(exif));
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0, end;
  while ((end = text.find(separator, begin)) != text.npos) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

// Parses all of `text` as a number; none where it is not one.
template <class T>
std::optional<T> number_in(const std::string& text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// The method and steps that --recipe, --with and --without name.
struct Recipe {
  std::optional<Method> method;  // none: the default recipe, whose method depends on the widths
  double clip_k = 0;
  int row_group = kRowGroup;  // of step rows
  std::set<std::string> with, without;

  // A published method takes the residual objective alone, the default recipe takes every step.
  bool takes(const std::string& step) const {
    if (with.contains(step)) return true;
    return !without.contains(step) && (!method || step == "residual");
  }
};

// Reads the value of --recipe, or of its older spelling --method, as a method and crl's K.
void read_method(const cxxopts::ParseResult& args, Recipe& recipe) {
  const char* const option = args.count("method") ? "method" : "recipe";
  std::string name = args[option].as<std::string>();
  if (option == std::string("method") && name == "auto") name = "default";
  if (args.count("method") && args.count("recipe") && args["recipe"].as<std::string>() != name)
    throw UsageError("--recipe and --method name different recipes: give one of them");
  if (name == "default") return;
  const auto refuse = [&] {
    return UsageError(cat("--", option, " '", name,
                          "': expected default, repq, crl, crl:K with K above 0, layerwise, "
                          "fq-vit, ptq4vit or apq-vit"));
  };
  const bool clipped = name.starts_with("crl:");
  if (clipped) {
    recipe.clip_k = number_in<double>(name.substr(4)).value_or(0);
    if (!(recipe.clip_k > 0 && std::isfinite(recipe.clip_k))) throw refuse();
  }
  try {
    recipe.method = clipped ? Method::kCrl : method_called(name);
  } catch (const Error&) {
    throw refuse();
  }
}

std::set<std::string> steps_in(const cxxopts::ParseResult& args, const std::string& option) {
  std::set<std::string> steps;
  if (!args.count(option)) return steps;
  for (const std::string& step : args[option].as<std::vector<std::string>>()) {
    const std::string name = option == "with" && step.starts_with("rows:") ? "rows" : step;
    if (std::find(std::begin(kSteps), std::end(kSteps), name) == std::end(kSteps))
      throw UsageError(
          cat("--", option, " '", step,
              "': expected rounding, levels, split, rotation, heads, residual or rows"));
    steps.insert(step);
  }
  return steps;
}

// Reads rows:N, a step of --with.
void read_group(std::set<std::string>& with, Recipe& recipe) {
  const auto step =
      std::ranges::find_if(with, [](const std::string& s) { return s.starts_with("rows:"); });
  if (step == with.end()) return;
  recipe.row_group = number_in<int>(step->substr(5)).value_or(0);
  if (recipe.row_group < kLeastGroup || recipe.row_group > kMaxDepth)
    throw UsageError(
        cat("--with '", *step, "': expected rows:N, N from ", kLeastGroup, " to ", kMaxDepth));
  with.erase(step);
  with.insert("rows");
}

Recipe read_recipe(const cxxopts::ParseResult& args) {
  Recipe recipe;
  read_method(args, recipe);
  recipe.with = steps_in(args, "with");
  read_group(recipe.with, recipe);
  recipe.without = steps_in(args, "without");
  for (const std::string& step : recipe.with)
    if (recipe.without.contains(step))
      throw UsageError(cat("step '", step, "' is both in --with and in --without"));
  return recipe;
}

// The rules that may give units different bits.
enum class BitsRule {
  kNone,    // all units get the same
  kFile,    // a JSON file names units and their bits
  kLrp,     // relevance raises and lowers units (allocate.h, mixed_plan())
  kBudget,  // the file is limited to so many bytes
  kTarget,  // the file and the time on a machine are limited
  kSize,    // the file is limited to so many bytes, in which its weights are entropy-coded
};

// The widths and the rule that --bits names, or --wbits, --abits, --mixed, --size and --importance.
struct BitsRequest {
  std::optional<int> weight, activation;  // the base, from which the rule departs
  BitsRule rule = BitsRule::kNone;
  std::string file;    // kFile: the JSON; kTarget: a built-in machine or what vitbench costs wrote
  std::string scores;  // kLrp, kBudget, kSize: what vitlrp wrote; empty: goes without
  std::optional<int64_t> bytes;                   // kBudget, kTarget, kSize: the limit
  std::optional<double> milliseconds;             // kTarget: the limit
  RateBy rates = RateBy::kPrediction;             // kSize
  uint64_t seed = 0;                              // kSize, of random rates
  MixedCase mixed_case = MixedCase::kByUnit;      // kLrp
  MixedOperands operands = MixedOperands::kBoth;  // kLrp, kBudget with scores
};

void read_widths(const std::string& text, BitsRequest& request) {
  const size_t slash = text.find('/');
  request.weight = number_in<int>(text.substr(0, slash));
  request.activation = slash == text.npos ? request.weight : number_in<int>(text.substr(slash + 1));
  for (const std::optional<int>& bits : {request.weight, request.activation})
    if (!bits || *bits < kMinBits || *bits > kMaxBits)
      throw UsageError(cat("--bits must be ", kMinBits, " to ", kMaxBits,
                           ", or two such numbers as in 4/8, got '", text, "'"));
}

int64_t bytes_in(const std::string& text) {
  const auto bytes = number_in<int64_t>(text);
  if (!bytes || *bytes <= 0)
    throw UsageError(cat("--bits: expected a number of bytes, got '", text, "'"));
  return *bytes;
}

void read_rule(const std::string& text, BitsRequest& request) {
  const std::string value = text.substr(std::min(text.size(), text.find(':') + 1));
  if (text.starts_with("lrp:") && !value.empty()) {
    request.rule = BitsRule::kLrp;
    request.scores = value;
  } else if (text.starts_with("budget:")) {
    request.rule = BitsRule::kBudget;
    request.bytes = bytes_in(value);
  } else if (text.starts_with("size:")) {
    request.rule = BitsRule::kSize;
    request.bytes = bytes_in(value);
  } else if (text.starts_with("target:") && !value.empty()) {
    request.rule = BitsRule::kTarget;
    request.file = value;
  } else if (text.ends_with(".json")) {
    request.rule = BitsRule::kFile;
    request.file = text;
  } else {
    throw UsageError(cat("--bits '", text,
                         "': expected B, W/A, FILE.json, lrp:SCORES.json, budget:BYTES, "
                         "size:BYTES or target:NAME|FILE"));
  }
}

RateBy rates_in(const std::string& text) {
  std::string names;
  for (const auto& [name, rate] : kRateNames) {
    if (text == name) return rate;
    names += cat(names.empty() ? "" : ", ", name);
  }
  throw UsageError(cat("--bits: by='", text, "': expected one of ", names));
}

// Limits follow a rule: time=MS and size=BYTES a target; "weights" follows lrp and budget, which
// then leave the bits of activations alone; by=WHAT follows size.
void read_limit(const std::string& text, BitsRequest& request) {
  const bool target = request.rule == BitsRule::kTarget,
             relevance = request.rule == BitsRule::kLrp || request.rule == BitsRule::kBudget;
  if (target && text.starts_with("time=")) {
    request.milliseconds = number_in<double>(text.substr(5)).value_or(0);
    if (!(*request.milliseconds > 0 && *request.milliseconds <= kMostMilliseconds))
      throw UsageError(
          cat("--bits: time must be milliseconds above 0, at most ", kMostMilliseconds));
  } else if (target && text.starts_with("size=")) {
    request.bytes = bytes_in(text.substr(5));
  } else if (request.rule == BitsRule::kSize && text.starts_with("by=")) {
    request.rates = rates_in(text.substr(3));
  } else if (relevance && text == "weights") {
    request.operands = MixedOperands::kWeights;
  } else {
    throw UsageError(cat("--bits: unexpected '", text, "'"));
  }
}

// --bits is BASE, RULE or BASE,RULE, where BASE is one width or W/A; limits may follow a rule.
BitsRequest parse_bits(const std::string& text) {
  BitsRequest request;
  std::vector<std::string> parts = split(text, ',');
  auto part = parts.begin();
  if (!part->empty() && part->find_first_not_of("0123456789/") == text.npos)
    read_widths(*part++, request);
  if (part != parts.end()) read_rule(*part++, request);
  for (; part != parts.end(); ++part) read_limit(*part, request);
  return request;
}

// Reads --wbits and --abits, the paper's names for the base.
void add_widths(const cxxopts::ParseResult& args, BitsRequest& request) {
  if (!args.count("wbits") && !args.count("abits")) return;
  if (request.weight) throw UsageError("give bits by --bits or by --wbits and --abits");
  if (args.count("wbits")) request.weight = int_option(args, "wbits", kMinBits, kMaxBits);
  if (args.count("abits")) request.activation = int_option(args, "abits", kMinBits, kMaxBits);
}

// Reads --mixed, --mp-case, --size and --importance, the paper's names for a rule, or for the
// details of one that --bits gave.
void add_mixed(const cxxopts::ParseResult& args, BitsRequest& request) {
  const std::string mixed = args["mixed"].as<std::string>(), mp = args["mp-case"].as<std::string>();
  if (mixed != "none" && mixed != "lrp" && mixed != "budget")
    throw UsageError(cat("--mixed must be none, lrp or budget, got '", mixed, "'"));
  if (mp != "by-unit" && mp != "by-block")
    throw UsageError(cat("--mp-case must be by-unit or by-block, got '", mp, "'"));
  request.mixed_case = mp == "by-unit" ? MixedCase::kByUnit : MixedCase::kByBlock;
  if (mixed != "none" && request.rule != BitsRule::kNone)
    throw UsageError("give a rule by --bits or by --mixed");
  if (mixed == "budget" && !args.count("size"))
    throw UsageError("--mixed budget needs --size BYTES");
  if (mixed == "lrp") request.rule = BitsRule::kLrp;
  if (args.count("size")) {
    if (request.rule != BitsRule::kNone)
      throw UsageError(
          "--size BYTES is for --mixed budget, or alone; --bits takes budget:BYTES, size:BYTES and "
          "target:NAME,size=BYTES");
    request.rule = mixed == "budget" ? BitsRule::kBudget : BitsRule::kSize;
    request.bytes = args["size"].as<int64_t>();
    if (*request.bytes <= 0) throw UsageError("--size must be a number of bytes above 0");
  }
  if (!args.count("importance")) {
    if (mixed == "lrp")
      throw UsageError("--mixed lrp needs --importance SCORES.json, which vitlrp writes");
  } else if (request.rule == BitsRule::kFile || request.rule == BitsRule::kTarget ||
             !request.scores.empty()) {
    throw UsageError(
        "--importance is for --mixed lrp, --mixed budget, --bits budget:BYTES and "
        "--bits size:BYTES,by=relevance or by=relevance-error");
  } else {
    request.scores = args["importance"].as<std::string>();
  }
  if (request.rule != BitsRule::kSize) return;
  const bool relevance =
      request.rates == RateBy::kRelevance || request.rates == RateBy::kRelevanceError;
  if (relevance == request.scores.empty())
    throw UsageError(
        "--bits size:BYTES,by=relevance and by=relevance-error need --importance SCORES.json, and "
        "nothing else of size: takes it");
  request.seed = static_cast<uint64_t>(int_option(args, "seed", 0, 1 << 30));
}

BitsRequest read_bits_request(const cxxopts::ParseResult& args) {
  BitsRequest request =
      args.count("bits") ? parse_bits(args["bits"].as<std::string>()) : BitsRequest();
  add_widths(args, request);
  add_mixed(args, request);
  return request;
}

// Sets the widths, and the steps that the recipe takes at these widths.
void choose_steps(const Recipe& recipe, const BitsRequest& bits, QuantizeOptions& options) {
  const bool target = bits.rule == BitsRule::kTarget;
  options.weight_bits = bits.weight.value_or(target ? 4 : 8);
  options.activation_bits = bits.activation.value_or(8);
  // A fold lets activations keep their codes at the cost of the weights' codes, so it pays where
  // weights are no narrower than activations (bench/results/accuracy.md).
  const Method by_widths =
      options.weight_bits >= options.activation_bits ? Method::kRepq : Method::kLayerwise;
  options.method = recipe.method.value_or(by_widths);
  if (target && options.method == Method::kPtq4Vit)
    throw UsageError("--bits target needs evenly spaced codes, which ptq4vit has not");
  options.clip_k = recipe.clip_k;
  options.compensate = recipe.takes("rounding");
  options.levels = recipe.takes("levels");
  options.split = recipe.takes("split");
  // Groups take the time of 8-bit codes, so a target, whose times are those of narrower ones, has
  // none.
  if (target && recipe.with.contains("rows"))
    throw UsageError("--bits target needs calibrated ranges, so it takes no step 'rows'");
  if (recipe.takes("rows") && !target) options.row_group = recipe.row_group;
  // Ranges by head gain nothing at 8 bits (bench/results/accuracy.md), so they must be asked for.
  options.heads = recipe.takes("heads") &&
                  (options.activation_bits < 8 || target || recipe.with.contains("heads"));
  // A fold of each LayerNorm does for activations what rotating the residual stream would, which
  // then only makes weights harder (bench/results/accuracy.md).
  if (recipe.takes("rotation"))
    options.rotate = options.method == Method::kLayerwise ? Rotate::kAll : Rotate::kScores;
  options.objective = recipe.takes("residual") ? Objective::kResidual : Objective::kTensor;
}

UnitBits base_bits(const QuantizeOptions& options) {
  return {options.weight_bits, options.activation_bits};
}

BitPlan plan_by_relevance(const BitsRequest& request, const Graph& graph,
                          const Importance& importance, const QuantizeOptions& options) {
  return mixed_plan(
      graph, importance,
      {request.mixed_case, request.operands, options.weight_bits, options.activation_bits});
}

// Reads the rule's files, and sets the bits of each unit or the budget that decides them.
void choose_bits(const BitsRequest& request, const Graph& graph, QuantizeOptions& options) {
  Importance importance;
  if (request.rule == BitsRule::kLrp ||
      ((request.rule == BitsRule::kBudget || request.rule == BitsRule::kSize) &&
       !request.scores.empty()))
    importance = read_importance(request.scores, graph);
  switch (request.rule) {
    case BitsRule::kNone:
      break;
    case BitsRule::kFile:
      options.bits = read_bits(request.file, uniform_plan(graph, base_bits(options)));
      break;
    case BitsRule::kLrp:
      options.bits = plan_by_relevance(request, graph, importance, options);
      break;
    case BitsRule::kBudget:
      options.budget = Budget{request.bytes, std::move(importance), request.operands};
      break;
    case BitsRule::kSize:
      options.coded = CodedSize{*request.bytes, request.rates, std::move(importance), request.seed};
      break;
    case BitsRule::kTarget:
      options.budget = Budget{.bytes = request.bytes,
                              .costs = read_costs(request.file),
                              .milliseconds = request.milliseconds};
      break;
  }
}

// The same for a detector, which takes no budget: relevance decides the bits of the backbone, a
// file those of any graph's units.
void choose_detector_bits(const BitsRequest& request, const FloatDetector& model,
                          QuantizeOptions& options) {
  if (request.rule == BitsRule::kLrp) {
    const Graph& backbone = model.parts.at("backbone").graph;
    options.bits =
        plan_by_relevance(request, backbone, read_importance(request.scores, backbone), options);
  } else if (request.rule == BitsRule::kFile) {
    for (const auto& [name, part] : model.parts)
      options.bits.merge(uniform_plan(part.graph, base_bits(options)));
    options.bits = read_bits(request.file, std::move(options.bits));
  }
}

// The images that calibrate; those that --tune asks for, whose first they are, become the options'.
ImageSource choose_calibration(const cxxopts::ParseResult& args, const ModelInfo& config,
                               QuantizeOptions& options, std::string& note) {
  const int tuning = args.count("tune") ? int_option(args, "tune", 1, 1 << 20) : 0;
  if (args.count("calib") + args.count("calib-raw") != 1)
    throw UsageError("give --calib or --calib-raw");
  if (args.count("calib-raw")) {
    options.provenance["calibration"] = std::string("raw tensor");
    ImageSource images =
        tensor_source(read_raw_images(args["calib-raw"].as<std::string>(), config));
    if (tuning > 0) options.tuning = {std::min<int64_t>(tuning, images.count), images.load};
    return images;
  }
  record_calibration(args, options);
  const auto loader = std::make_shared<ImageLoader>(config, exif_option(args));
  const int count = calibration_count(args);
  const std::vector<Sample> drawn = draw_samples(args, std::max(count, tuning), *loader, note);
  const auto load = [=](int64_t first, int64_t n) {
    return loader->load_all(drawn, static_cast<size_t>(first), static_cast<size_t>(n));
  };
  if (tuning > 0) options.tuning = {std::min(tuning, count_of(drawn)), load};
  return {std::min(count, count_of(drawn)), load};
}

// Loads the model. With --classes its text tower gives it a head, and is then left away.
FloatModel load_model(const cxxopts::ParseResult& args, int threads) {
  const NamedClasses classes = class_options(args);
  WeightOptions weights = weight_options(args);
  weights.text = true;
  FloatModel model = load_weights(args["weights"].as<std::string>(), weights);
  if (classes.names.empty()) return model;
  if (args.count("labels")) throw UsageError("--classes names the classes, --labels too");
  require_text(model);
  TextEncoder encoder(*model.text, threads);
  const Tensor vectors = class_embeddings(
      classes, [&](const std::vector<std::string>& texts) { return encoder.embed(texts); });
  add_class_head(model, vectors, model.text->logit_scale, classes.names);
  model.text.reset();
  model.no_text.clear();
  return model;
}

}  // namespace

std::string removed_option(int argc, const char* const* argv) {
  for (int i = 1; i < argc; i++)
    for (const auto& [name, instead] : kRemoved)
      if (const std::string word = argv[i], option = cat("--", name);
          word == option || word.starts_with(option + "="))
        return cat(option, " is no longer an option: ", instead);
  return {};
}

QuantizeJob read_job(const cxxopts::ParseResult& args) {
  if (!args.count("weights")) throw UsageError("--weights is missing");
  const Recipe recipe = read_recipe(args);
  const BitsRequest bits = read_bits_request(args);
  QuantizeOptions options;
  choose_steps(recipe, bits, options);
  options.threads = thread_option(args);
  const std::string weights = args["weights"].as<std::string>();
  FloatModel model = load_model(args, options.threads);
  if (args.count("labels"))
    model.info.labels = read_labels(args["labels"].as<std::string>(), model.info.num_classes);
  choose_bits(bits, model.graph, options);
  std::string note;
  ImageSource calibration = choose_calibration(args, model.info, options, note);
  options.provenance["calibration_images"] = calibration.count;
  if (!model.guesses.empty()) options.provenance["guessed"] = model.guesses;
  options.provenance["weights"] = std::filesystem::path(weights).filename().string();
  return {std::move(model), std::move(calibration), std::move(options), std::move(note)};
}

DetectorJob read_detector_job(const cxxopts::ParseResult& args) {
  const Recipe recipe = read_recipe(args);
  const BitsRequest bits = read_bits_request(args);
  if (bits.rule == BitsRule::kBudget || bits.rule == BitsRule::kTarget ||
      bits.rule == BitsRule::kSize)
    throw UsageError("a detector's bits are W, W/A, lrp:SCORES.json or FILE.json");
  if (!args.count("calib")) throw UsageError("a detector needs photographs: --calib DIR|LIST");
  for (const char* other : {"calib-raw", "classes", "template", "tune"})
    if (args.count(other)) throw UsageError(cat("a detector takes no --", other));
  DetectorJob job;
  choose_steps(recipe, bits, job.options);
  job.options.threads = thread_option(args);
  const std::string weights = args["weights"].as<std::string>();
  job.model = load_float_detector(weights, weight_options(args));
  if (args.count("labels")) {
    job.model.info.labels =
        read_labels(args["labels"].as<std::string>(), job.model.info.num_classes);
    job.model.parts.at("backbone").info.labels = job.model.info.labels;
  }
  choose_detector_bits(bits, job.model, job.options);
  const Exif exif = exif_option(args);
  ImageLoader loader(job.model.info, exif);
  const auto samples = std::make_shared<std::vector<Sample>>(
      draw_samples(args, calibration_count(args), loader, job.note));
  job.calibration = {count_of(*samples),
                     [samples, exif](int64_t i) { return load_image(at(*samples, i).path, exif); }};
  record_calibration(args, job.options);
  job.options.provenance["calibration_images"] = job.calibration.count;
  job.options.provenance["weights"] = std::filesystem::path(weights).filename().string();
  return job;
}

void add_quantize_options(cxxopts::Options& options) {
  using std::string;
  options.set_width(100);
  options.add_options()  //
      ("w,weights", "the model: a .safetensors with timm or transformers names",
       cxxopts::value<string>(), "FILE")  //
      ("calib", "calibration images: a folder, or a list of `path label` lines",
       cxxopts::value<string>(), "DIR|LIST")  //
      ("calib-raw", "instead of --calib: a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<string>(), "FILE")  //
      ("calib-count", "number of calibration images to use",
       cxxopts::value<int>()->default_value("32"), "N")  //
      ("seed", "seed for choosing calibration images", cxxopts::value<int>()->default_value("0"),
       "S")  //
      ("recipe",
       "default, or a published method: repq, crl, crl:K (clipped at K standard deviations), "
       "layerwise, fq-vit, ptq4vit, apq-vit",
       cxxopts::value<string>()->default_value("default"), "NAME")  //
      ("bits",
       "4, or 4/8 (weights/activations), or by unit: FILE.json, lrp:SCORES.json, budget:BYTES, "
       "size:BYTES (entropy-coded)[,by=WHAT], target:NAME|FILE[,time=MS][,size=BYTES]",
       cxxopts::value<string>()->default_value("8"), "B")  //
      ("without", "steps to leave out: rounding, levels, split, rotation, heads, residual, rows",
       cxxopts::value<std::vector<string>>(), "STEP,...")  //
      ("with",
       "such steps to add to a published recipe; rows:N: in groups of N columns instead of 32",
       cxxopts::value<std::vector<string>>(), "STEP,...")  //
      ("tune",
       "then tune biases, scales and norms on N images of --calib, without labels: 32 to 1000",
       cxxopts::value<int>(), "N")  //
      ("labels", "class names to put into the .qbin, one a line", cxxopts::value<string>(),
       "FILE")  //
      ("t,threads", "threads to use; default: one per CPU", cxxopts::value<int>(), "N");
  add_class_options(options);
  add_exif_option(options);
  add_weight_options(options);
  // cxxopts ends a group's heading with "options:".
  options.add_options("The same by the paper's names, as")                                   //
      ("method", "the same as --recipe; auto is default", cxxopts::value<string>(), "NAME")  //
      ("wbits", "bits of a weight, 3 to 8; with a target by default 4",
       cxxopts::value<int>()->default_value("8"), "B")  //
      ("abits", "bits of an activation, 3 to 8", cxxopts::value<int>()->default_value("8"),
       "B")  //
      ("mixed", "none, lrp (--bits lrp:) or budget (--bits budget:)",
       cxxopts::value<string>()->default_value("none"), "RULE")  //
      ("mp-case", "lrp: lowers bits by-unit or by-block",
       cxxopts::value<string>()->default_value("by-unit"), "CASE")  //
      ("size",
       "most bytes of the .qbin, by --bits size: or, with --mixed budget, by --bits budget:",
       cxxopts::value<int64_t>(), "BYTES")  //
      ("importance", "lrp, budget, size: SCORES.json, which vitlrp writes",
       cxxopts::value<string>(), "FILE");
}

}  // namespace vitrun
