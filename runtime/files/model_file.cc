#include "runtime/files/model_file.h"

#include <filesystem>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "models/checkpoints/names.h"
#include "models/families/families.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/safetensors.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  const MappedFile file(path.string());
  if (file.bytes().size() > kMaxJsonBytes)
    fail(path.string(), ": ", file.bytes().size(), " bytes are too many for a configuration");
  return {file.bytes().begin(), file.bytes().end()};
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

NameMap map_names(const SafetensorsFile& file) {
  std::vector<std::string> names;
  for (const auto& [name, info] : file.tensors()) names.push_back(name);
  return timm_names(names, file.path());
}

// Returns the shape of tensors put one after another along the first axis.
Dims joined_shape(const SafetensorsFile& file, const std::vector<std::string>& sources) {
  Dims dims = file.tensors().at(sources.front()).dims;
  for (size_t i = 1; i < sources.size(); i++) {
    const Dims& more = file.tensors().at(sources[i]).dims;
    if (more.empty() || more != file.tensors().at(sources.front()).dims)
      fail(file.path(), ": tensor '", sources[i], "' has shape ", to_string(more), ", expected ",
           to_string(file.tensors().at(sources.front()).dims), " as '", sources.front(), "'");
    dims[0] += more[0];
  }
  return dims;
}

ShapeMap joined_shapes(const SafetensorsFile& file, const NameMap& names) {
  ShapeMap shapes;
  for (const auto& [name, sources] : names) shapes[name] = joined_shape(file, sources);
  return shapes;
}

Tensor load_joined(const SafetensorsFile& file, const std::vector<std::string>& sources) {
  Tensor tensor = file.load(sources.front());
  if (sources.size() == 1) return tensor;
  tensor.dims = joined_shape(file, sources);
  tensor.data.reserve(static_cast<size_t>(element_count(tensor.dims)));
  for (size_t i = 1; i < sources.size(); i++) {
    const Tensor more = file.load(sources[i]);
    tensor.data.insert(tensor.data.end(), more.data.begin(), more.data.end());
  }
  return tensor;
}

ModelConfig find_config(const fs::path& weights, const std::string& arch, const ShapeMap& shapes) {
  if (!arch.empty()) return config_from_arch(arch, shapes, weights.string());
  const fs::path own = fs::path(weights).replace_extension(".json");
  if (is_file(own)) return config_from_json(read_text(own), shapes, own.string());
  const fs::path folder = fs::path(weights).replace_filename("config.json");
  if (!is_file(folder)) return config_from_shapes(shapes, weights.string());
  ModelConfig config = config_from_json(read_text(folder), shapes, folder.string());
  const fs::path preprocessor = fs::path(weights).replace_filename("preprocessor_config.json");
  if (is_file(preprocessor))
    apply_preprocessor_json(read_text(preprocessor), config, preprocessor.string());
  return config;
}

}  // namespace

FloatModel load_float_model(const std::string& safetensors_path, const std::string& arch) {
  const SafetensorsFile file(safetensors_path);
  const NameMap names = map_names(file);
  FloatModel model;
  const ModelConfig config = find_config(safetensors_path, arch, joined_shapes(file, names));
  model.info = config;
  model.graph = build_graph(config);
  for (const auto& [name, sources] : names) model.weights[name] = load_joined(file, sources);
  check_weights(model.graph, model.weights, safetensors_path, model.info.arch);
  return model;
}

}  // namespace vitrun
