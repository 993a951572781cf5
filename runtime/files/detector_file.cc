#include "runtime/files/detector_file.h"

#include <set>

#include "models/base/error.h"
#include "models/detect/detector_graphs.h"
#include "models/detect/detector_names.h"
#include "runtime/files/weight_files.h"

namespace vitrun {
namespace {

ShapeMap shapes_of(const Weights& weights) {
  ShapeMap shapes;
  for (const auto& [name, tensor] : weights) shapes[name] = tensor.dims;
  return shapes;
}

// The parts, each with its own weights; fails on weights that none of them needs.
std::map<std::string, FloatModel> parts_of(std::map<std::string, Graph> graphs, Weights weights,
                                           const ModelInfo& info, const std::string& where) {
  std::map<std::string, FloatModel> parts;
  for (auto& [name, graph] : graphs) {
    FloatModel& part = parts[name];
    for (const Param& p : graph.params)
      if (auto found = weights.extract(p.name)) part.weights.insert(std::move(found));
    part.info = info;
    part.graph = std::move(graph);
    check_weights(part.graph, part.weights, where, info.arch);
  }
  if (!weights.empty())
    fail(where, ": tensor '", weights.begin()->first, "' is not needed by ", info.arch);
  return parts;
}

void refuse_options(const WeightOptions& options, const std::string& where) {
  if (!options.arch.empty() || options.heads || options.pool != Pool::kOpen || options.image_height)
    fail(where, ": is a detector: of --arch, --config, --heads, --pool and --image-size it takes ",
         "--config alone");
}

}  // namespace

bool is_float_detector(const std::string& path) {
  return is_detector(WeightFiles(path).names());
}

FloatDetector load_float_detector(const std::string& path, const WeightOptions& options) {
  const WeightFiles files(path);
  refuse_options(options, files.path());
  const auto names = detector_names(files.names(), files.path());
  ShapeMap shapes;
  for (const auto& [name, source] : names) shapes[name] = files.info(source).dims;
  const ConfigText config = config_beside(files.path(), options);
  const std::string where = config.path.empty() ? files.path() : config.path;
  const DetectorConfig c = detector_config(config.text, shapes, where, files.path());
  Weights weights;
  for (const auto& [name, source] : names) weights[name] = files.load(source);
  derive_detector(c, has_unfold_order(files.names()), files.path(), weights);
  FloatDetector out;
  out.info = c.backbone;
  out.detector = c.info;
  auto graphs = detector_graphs(c, shapes_of(weights));
  out.parts = parts_of(std::move(graphs), std::move(weights), out.info, files.path());
  return out;
}

}  // namespace vitrun
