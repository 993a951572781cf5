// vitbench model measures whole models: the latency at each thread count and bit width, the time of
// a fresh process, its memory, and the time of each kind of step.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/vitbench/vitbench.h"
#include "models/base/error.h"
#include "models/families/families.h"
#include "models/graph/quantizers.h"
#include "quant/bits/allocate.h"
#include "quant/export.h"
#include "quant/pipeline.h"
#include "runtime/files/npy.h"
#include "runtime/integer/engine.h"
#include "runtime/program/predictor.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

// A model with random weights. They are about as large as trained ones, so that activations stay in
// range; the time depends neither on them nor on how they are quantized.
FloatModel random_model(const std::string& arch) {
  FloatModel m;
  const ModelConfig config = config_from_arch(arch);
  m.info = config;
  m.graph = build_graph(config);
  std::mt19937 random(1);
  for (const Param& p : m.graph.params) {
    Tensor t(p.dims);
    const bool gain = p.name.find("norm") != std::string::npos && p.name.ends_with("weight");
    const float deviation = p.dims.size() > 1 ? 0.02f : 0.1f;
    std::normal_distribution<float> normal(gain ? 1.f : 0.f, deviation);
    for (float& x : t.data) x = normal(random);
    m.weights[p.name] = std::move(t);
  }
  return m;
}

Tensor random_images(const ModelInfo& c, int64_t count) {
  Tensor t({count, 3, c.image_height, c.image_width});
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& x : t.data) x = normal(random);
  return t;
}

struct Width {
  const char* name;
  int weight_bits, activation_bits;  // 0: float
  bool mixed;  // two blocks have weights of one bit more, two others of one bit less
};

constexpr Width kWidths[] = {{"f32", 0, 0, false},   {"W8/A8", 8, 8, false},
                             {"W6/A8", 6, 8, false}, {"W4/A8", 4, 8, false},
                             {"MP4/A8", 4, 8, true}, {"W4/A4", 4, 4, false}};

// A model at one width and thread count, with its measurements.
struct Candidate {
  std::string name;
  int threads;
  size_t file_bytes = 0;
  FirstAnswer first = {};
  std::unique_ptr<Predictor> reference = nullptr;
  std::unique_ptr<Engine> engine = nullptr;
  std::vector<double> milliseconds = {}, round_trips = {};

  void run(const Tensor& images, std::vector<float>& logits) {
    const double start = now_seconds();
    if (engine)
      engine->run(images.data.data(), static_cast<int>(images.dims[0]), logits.data());
    else
      reference->run(images);
    milliseconds.push_back((now_seconds() - start) * 1e3 / static_cast<double>(images.dims[0]));
  }
};

// Writes the model at a width as a .qbin with the default's kinds of codes, whose ranges were not
// calibrated.
void quantize_to(const FloatModel& model, const Width& width, const std::string& path) {
  BitPlan plan;
  Importance equal;
  for (const std::string& unit : unit_names(model.graph)) {
    plan[unit] = {width.weight_bits, width.activation_bits};
    equal[unit] = 1;
  }
  if (width.mixed)
    plan = mixed_plan(model.graph, equal,
                      {.operands = MixedOperands::kWeights,
                       .weight_bits = width.weight_bits,
                       .activation_bits = width.activation_bits});
  std::map<std::string, WeightCodes> weights;
  std::vector<SiteRange> ranges;
  const Shapes shapes = infer_shapes(model.graph);
  for (const Site& s : activation_sites(model.graph)) {
    const int bits = plan.at(s.unit).activation;
    const Node& n = model.graph[s.consumer];
    ranges.push_back({bits, uniform_range(-4, 4, bits)});
    if (may_go_by_row(model.graph, shapes, s))
      ranges.back() = {.bits = bits, .group = kRowGroup};
    else if (s.softmax)
      ranges.back().twin = bits == kMaxBits ? CodeParams::kCarriedCodes : CodeParams::kSumCodes;
    else if (n.kind != NodeKind::kLinear && bits < kMaxBits) {
      const AttentionGeometry& g = shapes.geometry(s.consumer);
      ranges.back() = {.bits = bits,
                       .heads = std::vector(array_size(g.heads), uniform_range(-4, 4, kMaxBits)),
                       .group = g.head_dim};
    }
    if (n.kind == NodeKind::kLinear)
      weights[n.name] = quantize_weight(model.weights.at(n.weight), plan.at(s.unit).weight);
  }
  export_model(model, weights, ranges, {}).write(path);
}

// A temporary folder, which the destructor removes.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "vitbenchXXXXXX";
    if (!mkdtemp(name.data()))
      fail("cannot create a folder in ", std::filesystem::temp_directory_path().string());
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(std::string name) const {
    std::replace(name.begin(), name.end(), '/', '_');
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

const char* op_name(Op op) {
  switch (op) {
    case Op::kPatches:
      return "patches";
    case Op::kLoad:
    case Op::kConstantRows:
      return "copies";
    case Op::kGemm:
      return "linear";
    case Op::kNormCodes:
    case Op::kNormAdd:
      return "layernorm";
    case Op::kQuantize:
    case Op::kFinish:
      return "quantize";
    case Op::kAttention:
      return "attention";
    case Op::kPlain:
      return "other";
  }
  return "";
}

// The columns of a model's first output: its logits, or without classes its embedding.
int outputs_of(const QuantModel& model) {
  const QuantGraph& graph = model.graph();
  return (*graph.shapes)[graph.graph.outputs[0].node].cols;
}

void print_profile(const std::string& name, const QuantModel& model, const Tensor& images,
                   int repetitions) {
  Engine engine(model.graph(), {});
  std::vector<float> logits(static_cast<size_t>(outputs_of(model)));
  engine.run(images.data.data(), 1, logits.data());
  engine.start_profile();
  for (int i = 0; i < repetitions; i++) engine.run(images.data.data(), 1, logits.data());
  std::map<std::string, double> parts;
  double sum = 0;
  for (size_t op = 0; op < kOps; op++) {
    parts[op_name(static_cast<Op>(op))] += engine.profile()[op];
    sum += engine.profile()[op];
  }
  std::printf("  profile, 1 thread, %s:", name.c_str());
  for (const auto& [part, seconds] : parts)
    if (seconds > 0) std::printf("  %s %.1f %%", part.c_str(), 100 * seconds / sum);
  std::printf("\n");
}

void report(const Candidate& c, const std::string& arch, bool json) {
  const auto at = [&](double p) { return percentile(c.milliseconds, p); };
  const double trip = c.round_trips.empty() ? 0 : percentile(c.round_trips, 0.5);
  const char* placement = c.threads == 1 ? "" : trip < kFarNs ? "near" : "far";
  if (json) {
    const Json j = {{"arch", arch},
                    {"width", c.name},
                    {"threads", c.threads},
                    {"round_trip_ns", trip},
                    {"ms_min", at(0)},
                    {"ms_p50", at(0.5)},
                    {"ms_p95", at(0.95)},
                    {"file_bytes", c.file_bytes},
                    {"first_answer_ms", c.first.milliseconds},
                    {"peak_rss_mb", c.first.peak_mb}};
    std::printf("%s\n", j.dump().c_str());
    return;
  }
  std::printf("%-26s %-7s %d %-4s  min %7.2f  p50 %7.2f  p95 %7.2f ms  %6.2f MB", arch.c_str(),
              c.name.c_str(), c.threads, placement, at(0), at(0.5), at(0.95),
              static_cast<double>(c.file_bytes) / 1e6);
  if (c.first.milliseconds > 0)
    std::printf("  first answer %6.1f ms  peak %5.1f MB", c.first.milliseconds, c.first.peak_mb);
  std::printf("\n");
}

// Times all candidates, which take turns, and prints them.
void compare(const BenchOptions& options, const std::string& arch, const Tensor& images,
             int classes, std::vector<Candidate>& candidates) {
  std::vector<float> logits(static_cast<size_t>(options.batch * classes));
  for (Candidate& c : candidates) c.run(images, logits);  // warms up
  for (Candidate& c : candidates) c.milliseconds.clear();
  for (int i = 0; i < options.repetitions; i++)
    for (Candidate& c : candidates) {
      c.run(images, logits);
      if (c.threads > 1) c.round_trips.push_back(round_trip_ns());
    }
  for (const Candidate& c : candidates) report(c, arch, options.json);
}

// Appends candidates that run one .qbin file, one for each thread count.
void add_engines(const BenchOptions& options, const std::string& name, const std::string& path,
                 const QuantModel& model, const std::string& images, std::vector<Candidate>& out) {
  for (int threads : options.threads) {
    Candidate c{name, threads};
    c.file_bytes = model.file().size();
    c.first = first_answer(path, images, threads);
    c.engine = std::make_unique<Engine>(
        model.graph(),
        EngineOptions{.threads = threads,
                      .max_batch = options.batch,
                      .kernels = options.isas.empty() ? nullptr : selected_isas(options).front()});
    out.push_back(std::move(c));
  }
}

void bench_arch(const BenchOptions& options, const std::string& arch) {
  const FloatModel model = random_model(arch);
  const Tensor images = random_images(model.info, options.batch);
  const Folder folder;
  write_npy(folder / "x.npy", random_images(model.info, 1));
  int64_t parameters = 0;
  for (const auto& [name, t] : model.weights) parameters += element_count(t.dims);
  std::map<std::string, std::unique_ptr<QuantModel>> models;
  std::vector<Candidate> candidates;
  for (const Width& w : kWidths) {
    if (!w.weight_bits && !has_float_engine()) continue;
    if (!w.weight_bits) {
      for (int threads : options.threads) {
        Candidate c{w.name, threads};
        c.file_bytes = static_cast<size_t>(parameters) * 4;
        c.reference = float_predictor(model, threads);
        candidates.push_back(std::move(c));
      }
      continue;
    }
    const std::string path = folder / (std::string(w.name) + ".qbin");
    quantize_to(model, w, path);
    models[w.name] = std::make_unique<QuantModel>(QbinFile::open(path));
    add_engines(options, w.name, path, *models[w.name], folder / "x.npy", candidates);
  }
  compare(options, arch, images, model.info.num_classes, candidates);
  if (options.profile)
    for (const auto& [name, m] : models) print_profile(name, *m, images, options.repetitions);
}

void bench_file(const BenchOptions& options, const std::string& path) {
  const QuantModel model(QbinFile::open(path));
  if (model.detector()) {
    if (options.batch > 1 || options.profile)
      fail(path, ": a detector takes no --batch, no --profile");
    return bench_detector(options, model);
  }
  const Tensor images = random_images(model.info(), options.batch);
  const Folder folder;
  write_npy(folder / "x.npy", random_images(model.info(), 1));
  std::vector<Candidate> candidates;
  add_engines(options, std::filesystem::path(path).filename().string(), path, model,
              folder / "x.npy", candidates);
  compare(options, model.info().arch, images, outputs_of(model), candidates);
  if (options.profile) print_profile(path, model, images, options.repetitions);
}

}  // namespace

int bench_model(const BenchOptions& options) {
  for (const std::string& path : options.models) bench_file(options, path);
  if (options.models.empty())
    for (const std::string& arch : options.archs) bench_arch(options, arch);
  return 0;
}

}  // namespace vitrun
