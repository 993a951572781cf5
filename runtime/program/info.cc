#include "runtime/program/info.h"

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "models/cifar10/embedded.h"
#include "runtime/files/model_file.h"
#include "runtime/integer/qmodel.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/predictor.h"
#include "runtime/text/text_section.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

// Describes a model by its graph alone, so that it works for models of any family.
Json model_json(const ModelInfo& c, const Graph& graph) {
  const Shapes shapes = infer_shapes(graph);
  int blocks = 0;
  for (const Node& n : graph.nodes) blocks = std::max(blocks, n.block + 1);
  Json outputs = Json::object();
  for (const Output& o : graph.outputs)
    outputs[o.name] = {shapes[o.node].rows, shapes[o.node].cols};
  Json j = {{"arch", c.arch},
            {"input", {3, c.image_height, c.image_width}},
            {"outputs", std::move(outputs)},
            {"nodes", graph.size()},
            {"blocks", blocks},
            {"classes", c.num_classes},
            {"labels", c.labels.size()}};
  const PreprocessConfig& p = c.preprocess;
  j["preprocess"] = {
      {"resize", p.resize == PreprocessConfig::Resize::kBicubic ? "bicubic" : "bilinear"},
      {"squash", p.squash},
      {"floor_crop", p.floor_crop},
      {"crop_pct", p.crop_pct},
      {"mean", p.mean},
      {"std", p.std}};
  return j;
}

Json recipe_json(const QbinFile& file) {
  Json j = Json::object();
  const std::string prefix = "recipe.";
  for (const auto& [key, value] : file.metadata())
    if (key.starts_with(prefix) && !key.starts_with(prefix + "unit_"))  // units_json() shows those
      std::visit([&, name = key.substr(prefix.size())](const auto& v) { j[name] = v; }, value);
  return j;
}

// Returns a list of the metadata, empty where there is none.
template <class T>
std::vector<T> list_of(const QbinFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return {};
  const auto* list = std::get_if<std::vector<T>>(&found->second);
  return list ? *list : std::vector<T>();
}

// Returns the signal-to-noise ratio that vitquant measured at each unit's output, by name.
std::map<std::string, double> output_db(const QbinFile& file) {
  const auto names = list_of<std::string>(file, "recipe.unit_name");
  const auto values = list_of<double>(file, "recipe.unit_output_db");
  std::map<std::string, double> db;
  for (size_t i = 0; i < std::min(names.size(), values.size()); i++) db[names[i]] = values[i];
  return db;
}

// Describes every quantized operand: its bits and scale, and the weight if a Linear reads it.
void add_units(const QuantGraph& graph, const std::map<std::string, double>& db, Json& units) {
  for (const QuantizedOperand& o : graph.operands()) {
    const CodeParams& p = graph.quantizer(o.quantize);
    const Node& n = graph.graph[o.quantize];
    Json unit = {{"name", operand_name(n)},
                 {"activation_bits", p.bits},
                 {"bits_with_ranges", bits_with_ranges(p, (*graph.shapes)[o.quantize].cols)}};
    if (p.by_row()) {
      unit["range"] = "row";
    } else if (!p.heads.empty()) {
      unit["range"] = "head";
    } else {
      unit["scale"] = p.scale;
      unit["zero"] = p.zero;
    }
    if (graph.graph.is(o.consumer, NodeKind::kLinear)) {
      const QuantLinear& w = graph.linear(o.consumer);
      unit["weight_bits"] = w.bits;
      if (w.decoded) unit["stored_bits"] = 8.0 * static_cast<double>(w.stored_bytes) / w.n / w.k;
      unit["shape"] = {w.n, w.k};
      if (const auto found = db.find(n.unit); found != db.end()) unit["output_db"] = found->second;
    }
    units.push_back(std::move(unit));
  }
}

// The units of the graph of images; of a detector those of all its graphs.
Json units_json(const QuantModel& model) {
  Json units = Json::array();
  const auto db = output_db(model.file());
  if (!model.detector()) add_units(model.graph(), db, units);
  for (const auto& [name, graph] : model.graphs())
    if (model.detector()) add_units(graph, db, units);
  return units;
}

Json detector_json(const DetectorInfo& d) {
  return {{"shortest_edge", d.shortest_edge},     {"longest_edge", d.longest_edge},
          {"score_threshold", d.score_threshold}, {"nms_threshold", d.nms_threshold},
          {"max_detections", d.max_detections},   {"stages", d.stages}};
}

Json qbin_json(QbinFile file, const std::string& name) {
  uint64_t bytes = 0;
  for (const QbinTensor& t : file.tensors()) bytes += t.bytes.size();
  const QuantModel model(std::move(file));
  Json j = {{"file", name}, {"format", "qbin"}, {"tensor_bytes", bytes}};
  j["model"] = model_json(model.info(), model.graph().graph);
  if (const auto text = read_text(model))
    j["text"] = {{"arch", "clip_text"},
                 {"most_tokens", text->input.most_tokens()},
                 {"nodes", model.graph(kTextGraph).graph.size()},
                 {"logit_scale", text->logit_scale}};
  if (model.detector()) j["detector"] = detector_json(*model.detector());
  int64_t decoded = 0;
  for (const auto& [graph_name, graph] : model.graphs()) decoded += graph.decoded_bytes();
  if (decoded > 0) j["decoded_weights"] = decoded;
  j["recipe"] = recipe_json(model.file());
  j["units"] = units_json(model);
  return j;
}

Json float_json(const std::string& path, const WeightOptions& options) {
  if (float_weights_detect(path)) {
    PredictorOptions of_weights;
    of_weights.weights = options;
    const ModelInfo info = open_detector(path, of_weights)->info();
    return {{"file", path},
            {"format", "safetensors"},
            {"model",
             {{"arch", info.arch}, {"classes", info.num_classes}, {"labels", info.labels.size()}}}};
  }
  const FloatModel model = load_weights(path, options);
  int64_t parameters = 0;
  for (const auto& [name, t] : model.weights) parameters += element_count(t.dims);
  return {{"file", path},
          {"format", "safetensors"},
          {"parameters", parameters},
          {"guessed", model.guesses},
          {"model", model_json(model.info, model.graph)}};
}

void print_table(const Json& j) {
  for (const auto& [key, value] : j.items()) {
    if (key == "units") continue;
    if (!value.is_object()) {
      std::printf("%-16s %s\n", key.c_str(),
                  value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
      continue;
    }
    std::printf("%s\n", key.c_str());
    for (const auto& [k, v] : value.items())
      std::printf("  %-14s %s\n", k.c_str(),
                  v.is_string() ? v.get<std::string>().c_str() : v.dump().c_str());
  }
  if (!j.contains("units")) return;
  std::printf("%-40s %7s %7s %9s  %s\n", "unit", "weight", "input", "output dB", "shape");
  for (const Json& u : j["units"]) {
    char db[16] = "-", weight[16] = "-";
    if (u.contains("weight_bits"))
      std::snprintf(weight, sizeof weight, "%.3g",
                    u.value("stored_bits", u["weight_bits"].get<double>()));
    if (u.contains("output_db")) std::snprintf(db, sizeof db, "%.1f", u["output_db"].get<double>());
    std::printf("%-40s %7s %7.3g %9s  %s\n", u["name"].get<std::string>().c_str(), weight,
                u["bits_with_ranges"].get<double>(), db,
                u.contains("shape") ? u["shape"].dump().c_str() : "");
  }
}

}  // namespace

int print_info(const std::string& path, const WeightOptions& options, bool json) {
  Json j;
  if (path.empty())
    j = qbin_json(QbinFile::from_memory(embedded_model(), "the embedded model"),
                  "the embedded model");
  else
    j = is_qbin(path) ? qbin_json(QbinFile::open(path), path) : float_json(path, options);
  if (json)
    std::cout << j.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  else
    print_table(j);
  return 0;
}

}  // namespace vitrun
