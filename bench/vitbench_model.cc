// Whole models: latency over threads and bit widths side by side, start-up, memory, and where the
// time goes.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/vitbench.h"
#include "models/status.h"
#include "quant/pipeline.h"
#include "runtime/engine.h"
#include "runtime/reference.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

// Weights of the size training gives, so that activations stay in range; the time does not depend
// on them.
FloatModel random_model(const std::string& arch) {
  FloatModel m;
  m.config = config_from_arch(arch);
  m.graph = build_graph(m.config);
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

Tensor random_images(const ModelConfig& c, int64_t count) {
  Tensor t({count, 3, c.image_height, c.image_width});
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& x : t.data) x = normal(random);
  return t;
}

struct Width {
  const char* name;
  int weight_bits, activation_bits;  // 0: float
};

constexpr Width kWidths[] = {
    {"f32", 0, 0}, {"W8/A8", 8, 8}, {"W6/A8", 6, 8}, {"W4/A8", 4, 8}, {"W4/A4", 4, 4}};

// One model at one width and thread count.
struct Candidate {
  const Width* width;
  int threads;
  std::unique_ptr<Reference> reference;
  std::unique_ptr<Engine> engine;
  std::vector<double> milliseconds;

  void run(const Tensor& images, std::vector<float>& logits) {
    const double start = now_seconds();
    if (engine)
      engine->run(images.data.data(), static_cast<int>(images.dims[0]), logits.data());
    else
      reference->run(images);
    milliseconds.push_back((now_seconds() - start) * 1e3 / static_cast<double>(images.dims[0]));
  }

  double percentile(double p) {
    std::sort(milliseconds.begin(), milliseconds.end());
    return milliseconds[static_cast<size_t>(p * static_cast<double>(milliseconds.size() - 1))];
  }
};

// Quantized copies of a model in memory, 64-byte aligned.
class Quantized {
 public:
  Quantized(const FloatModel& model, const Width& width) {
    const QuantizeOptions options{.weight_bits = width.weight_bits,
                                  .activation_bits = width.activation_bits,
                                  .objective = Objective::kTensor,
                                  .threads = 2};
    const std::vector<uint8_t> file =
        quantize_model(model, tensor_source(random_images(model.config, 1)), options).serialize();
    bytes_.resize(file.size() + 64);
    uint8_t* at = bytes_.data() + (64 - reinterpret_cast<uintptr_t>(bytes_.data()) % 64) % 64;
    std::copy(file.begin(), file.end(), at);
    size_ = file.size();
    model_ = std::make_unique<QuantModel>(QbinFile::from_memory({at, file.size()}, width.name));
  }

  const QuantModel& model() const { return *model_; }
  size_t size() const { return size_; }

 private:
  std::vector<uint8_t> bytes_;
  size_t size_;
  std::unique_ptr<QuantModel> model_;
};

const char* op_name(Op op) {
  switch (op) {
    case Op::kPatches:
      return "patches";
    case Op::kPrefix:
      return "prefix";
    case Op::kGemm:
      return "linear";
    case Op::kNorm:
    case Op::kNormCodes:
      return "layernorm";
    case Op::kQuantize:
    case Op::kSums:
      return "quantize";
    case Op::kAttention:
      return "attention";
    case Op::kMerge:
      return "merge";
    case Op::kSelect:
    case Op::kMean:
      return "pool";
    case Op::kAdd:
      return "add";
  }
  return "";
}

void print_profile(const QuantModel& model, const Tensor& images, int repetitions) {
  Engine engine(model, {});
  std::vector<float> logits(static_cast<size_t>(model.config().num_classes));
  engine.run(images.data.data(), 1, logits.data());
  engine.start_profile();
  for (int i = 0; i < repetitions; i++) engine.run(images.data.data(), 1, logits.data());
  std::map<std::string, double> parts;
  double sum = 0;
  for (size_t op = 0; op < kOps; op++) {
    parts[op_name(static_cast<Op>(op))] += engine.profile()[op];
    sum += engine.profile()[op];
  }
  std::printf("  profile, 1 thread, %s:", model.file().where().c_str());
  for (const auto& [name, seconds] : parts)
    if (seconds > 0) std::printf("  %s %.1f %%", name.c_str(), 100 * seconds / sum);
  std::printf("\n");
}

void report(Candidate& c, size_t file_size, const std::string& arch, bool json) {
  const double p50 = c.percentile(0.5), p95 = c.percentile(0.95), least = c.percentile(0);
  if (json) {
    const Json j = {{"arch", arch},           {"width", c.width->name}, {"threads", c.threads},
                    {"ms_min", least},        {"ms_p50", p50},          {"ms_p95", p95},
                    {"file_bytes", file_size}};
    std::printf("%s\n", j.dump().c_str());
  } else {
    std::printf("%-26s %-6s %2d thread%s  min %8.2f  p50 %8.2f  p95 %8.2f ms  %7.2f MB\n",
                arch.c_str(), c.width->name, c.threads, c.threads == 1 ? " " : "s", least, p50, p95,
                static_cast<double>(file_size) / 1e6);
  }
}

void bench_arch(const BenchOptions& options, const std::string& arch) {
  const FloatModel model = random_model(arch);
  const Tensor images = random_images(model.config, options.batch);
  std::vector<float> logits(static_cast<size_t>(options.batch * model.config.num_classes));
  std::map<const Width*, std::unique_ptr<Quantized>> quantized;
  std::vector<Candidate> candidates;
  for (const Width& w : kWidths) {
    if (w.weight_bits) quantized[&w] = std::make_unique<Quantized>(model, w);
    for (int threads : options.threads) {
      Candidate c{&w, threads, nullptr, nullptr, {}};
      if (w.weight_bits)
        c.engine = std::make_unique<Engine>(
            quantized[&w]->model(),
            EngineOptions{
                .threads = threads,
                .max_batch = options.batch,
                .kernels = options.isas.empty() ? nullptr : selected_isas(options).front()});
      else
        c.reference = std::make_unique<Reference>(model.graph, model.weights, threads);
      candidates.push_back(std::move(c));
    }
  }
  for (Candidate& c : candidates) c.run(images, logits);  // warm
  for (Candidate& c : candidates) c.milliseconds.clear();
  for (int i = 0; i < options.repetitions; i++)
    for (Candidate& c : candidates) c.run(images, logits);
  int64_t parameters = 0;
  for (const auto& [name, t] : model.weights) parameters += element_count(t.dims);
  for (Candidate& c : candidates)
    report(c, c.engine ? quantized[c.width]->size() : static_cast<size_t>(parameters) * 4, arch,
           options.json);
  if (options.profile)
    for (const auto& [width, q] : quantized) print_profile(q->model(), images, options.repetitions);
}

}  // namespace

int bench_model(const BenchOptions& options) {
  for (const std::string& arch : options.archs) bench_arch(options, arch);
  return 0;
}

}  // namespace vitrun
