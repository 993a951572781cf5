// vitbench model on a detector: the time of each of its graphs, the operations that it executes,
// and their share of the peak.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/vitbench/vitbench.h"
#include "models/base/error.h"
#include "runtime/detect/detector_input.h"
#include "runtime/detect/graph_networks.h"
#include "runtime/integer/engine.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kProposals = 1000, kMasks = 100;  // as many as mmdetection keeps

int64_t attention_adds(const Plan& plan, const Step& step) {
  const PlannedAttention& p = at(plan.attentions, step.attention);
  const AttentionGeometry& g = plan.geometry(p);
  const int products = p.steps ? 2 : 3;  // Q K^T, and attn V once or by planes
  return int64_t{products} * g.windows * g.heads * p.queries * g.tokens * g.head_dim;
}

// Multiply-adds of codes for one image or RoI.
int64_t multiply_adds(const Plan& plan) {
  int64_t total = 0;
  for (const Step& s : plan.steps) {
    if (s.op == Op::kAttention) total += attention_adds(plan, s);
    if (s.op != Op::kGemm) continue;
    const QuantLinear& w = *at(plan.linears, s.linear).weight;
    total += int64_t{s.rows} * (std::min(s.column_end, w.n) - s.column_begin) * w.k;
  }
  return total;
}

// A graph as a detector runs it on one image: once for each of `inputs`, in batches.
struct Part {
  std::string name;
  std::vector<MapSize> inputs;
  int count = 1, batch = 1;  // of each input
  std::vector<std::string> outputs;
  std::unique_ptr<Engine> engine = nullptr;
  double operations = 0;
  std::vector<double> milliseconds = {};
};

std::vector<Part> parts_of(const QuantModel& model, MapSize image) {
  const DetectorInfo& info = *model.detector();
  std::vector<Part> out;
  out.push_back({"backbone", {image}, 1, 1, map_names(info)});
  out.push_back({"rpn", map_sizes(image, info), 1, 1, {"scores", "deltas"}});
  for (int s = 0; s < info.stages; s++)
    out.push_back({cat("box.", s),
                   {{info.box_bins, info.box_bins}},
                   kProposals,
                   kBoxBatch,
                   {"logits", "deltas"}});
  for (int s = 0; s < info.stages; s++)
    out.push_back(
        {cat("mask.", s), {{info.mask_bins, info.mask_bins}}, kMasks, kMaskBatch, {"masks"}});
  return out;
}

void open_part(const QuantModel& model, const EngineOptions& options, Part& part) {
  const QuantGraph& graph = model.graph(part.name);
  EngineOptions own = options;
  own.max_batch = part.batch;
  own.outputs = part.outputs;
  own.sizes = {part.inputs[0]};
  part.engine = std::make_unique<Engine>(graph, own);
  for (const MapSize& size : part.inputs)
    part.operations += 2.0 * part.count *
                       static_cast<double>(multiply_adds(
                           make_plan(graph, {.sizes = {size}, .outputs = part.outputs})));
}

// Runs the part on its inputs, random numbers.
void run_part(const QuantModel& model, const std::vector<float>& noise, Part& part) {
  const QuantGraph& graph = model.graph(part.name);
  const Shape& input = (*graph.shapes)[graph.graph.find(NodeKind::kInput)];
  const double start = now_seconds();
  for (const MapSize& size : part.inputs) {
    part.engine->select({size}, part.outputs);
    const size_t image = array_size(size.height, size.width) * array_size(input.cols);
    std::vector<std::vector<float>> values;
    std::vector<float*> pointers;
    for (const PlannedOutput& o : part.engine->outputs()) {
      values.emplace_back(array_size(part.batch) * array_size(o.rows, o.cols));
      pointers.push_back(values.back().data());
    }
    for (int done = 0; done < part.count; done += part.batch) {
      const int batch = std::min(part.batch, part.count - done);
      if (image * array_size(batch) > noise.size()) fail(part.name, ": too large an input");
      part.engine->run(noise.data(), batch, pointers.data());
    }
  }
  part.milliseconds.push_back((now_seconds() - start) * 1e3);
}

void report(const Part& part, int threads, double peak, bool json) {
  const double least = percentile(part.milliseconds, 0),
               middle = percentile(part.milliseconds, 0.5);
  const double speed = part.operations / (middle * 1e-3);
  const int runs = part.count * count_of(part.inputs);
  if (json) {
    const Json j = {{"graph", part.name},    {"runs", runs},
                    {"threads", threads},    {"ms_min", least},
                    {"ms_p50", middle},      {"gop", part.operations * 1e-9},
                    {"gop_s", speed * 1e-9}, {"peak_share", peak > 0 ? speed / peak : 0.0}};
    std::printf("%s\n", j.dump().c_str());
    return;
  }
  std::printf("  %-10s %5d x %d  min %8.2f  p50 %8.2f ms  %7.2f GOP  %7.1f GOP/s",
              part.name.c_str(), runs, threads, least, middle, part.operations * 1e-9,
              speed * 1e-9);
  if (peak > 0) std::printf("  %4.1f %% of the peak", 100 * speed / peak);
  std::printf("\n");
}

void bench_threads(const BenchOptions& options, const QuantModel& model, MapSize image,
                   const std::vector<float>& noise, int threads) {
  const Kernels* const kernels = options.isas.empty() ? nullptr : selected_isas(options).front();
  const EngineOptions shared = {
      .threads = threads, .kernels = kernels, .memory = std::make_shared<EngineMemory>()};
  std::vector<Part> parts = parts_of(model, image);
  for (Part& p : parts) {
    open_part(model, shared, p);
    run_part(model, noise, p);  // warms up
    p.milliseconds.clear();
  }
  std::vector<double> peaks;
  for (int i = 0; i < options.repetitions; i++) {
    for (Part& p : parts) run_part(model, noise, p);
    peaks.push_back(sample_peak(parts[0].engine->kernels().name, PeakKind::kExact));
  }
  const double peak = threads * percentile(peaks, 0.5);
  double sum = 0;
  for (const Part& p : parts) {
    report(p, threads, peak, options.json);
    sum += percentile(p.milliseconds, 0.5);
  }
  if (!options.json)
    std::printf("  together %.1f ms an image, %d thread%s, %s\n", sum, threads,
                threads == 1 ? "" : "s", parts[0].engine->kernels().name);
}

}  // namespace

void bench_detector(const BenchOptions& options, const QuantModel& model) {
  const DetectorInfo& info = *model.detector();
  const MapSize image = input_size(1280, 800, info);
  const QuantGraph& rpn = model.graph("rpn");
  const int channels = (*rpn.shapes)[rpn.graph.find(NodeKind::kInput)].cols;
  // Enough for the image, the finest map and a batch of RoIs.
  const int64_t finest = int64_t{image.height} * image.width / (info.strides[0] * info.strides[0]);
  const int64_t rois = std::max(int64_t{kBoxBatch} * info.box_bins * info.box_bins,
                                int64_t{kMaskBatch} * info.mask_bins * info.mask_bins);
  std::vector<float> noise(array_size(
      std::max(int64_t{3} * image.height * image.width, 2 * std::max(finest, rois) * channels)));
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& x : noise) x = normal(random);
  if (!options.json)
    std::printf("%s, an image of 1280 x 800 as %d x %d, %d proposals, %d masks\n",
                model.info().arch.c_str(), image.width, image.height, kProposals, kMasks);
  for (int threads : options.threads) bench_threads(options, model, image, noise, threads);
}

}  // namespace vitrun
