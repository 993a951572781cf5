#include "runtime/files/model_file.h"

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "models/base/error.h"
#include "models/checkpoints/clip_text.h"
#include "models/checkpoints/json.h"
#include "models/detect/detector_config.h"
#include "models/families/families.h"
#include "models/names/names.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/weight_files.h"

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

ShapeMap joined_shapes(const WeightFiles& files, const NameMap& names) {
  ShapeMap shapes;
  for (const auto& [name, sources] : names) shapes[name] = files.joined_dims(sources);
  return shapes;
}

// --- configuration ----------------------------------------------------------------------------

// Returns the config.json of the snapshot in Hugging Face's cache, .../models--NAME/snapshots/HASH,
// one of whose links leads to the given blob, .../models--NAME/blobs/HASH; else an empty path.
fs::path snapshot_config(const fs::path& blob) {
  const fs::path snapshots = blob.parent_path().parent_path() / "snapshots";
  std::error_code error;
  if (blob.parent_path().filename() != "blobs" || !fs::is_directory(snapshots, error)) return {};
  for (const auto& entry : fs::recursive_directory_iterator(snapshots)) {
    fs::path config = entry.path().parent_path() / "config.json";
    if (fs::equivalent(entry.path(), blob, error) && is_file(config)) return config;
  }
  return {};
}

// Returns the configuration that belongs to the weights, an empty path if there is none.
fs::path config_path(const fs::path& weights, const WeightOptions& options) {
  if (!options.config.empty()) return options.config;
  std::error_code error;
  const fs::path real = fs::canonical(weights, error);
  const bool own = weights.filename().string().starts_with("open_clip");
  for (const fs::path& path :
       {fs::path(weights).replace_extension(".json"),
        fs::path(weights).replace_filename(own ? "open_clip_config.json" : "config.json"),
        fs::path(real).replace_filename("config.json"), snapshot_config(real),
        fs::path(weights).replace_filename("open_clip_config.json")})
    if (path != weights && !path.empty() && is_file(path)) return path;
  return {};
}

ModelConfig read_config(const fs::path& path, const std::string& text, const ShapeMap& shapes,
                        Given given) {
  const fs::path preprocessor = fs::path(path).replace_filename("preprocessor_config.json");
  if (!is_file(preprocessor)) return config_from_json(text, shapes, path.string(), given);
  const std::string processor = read_text(preprocessor);
  std::tie(given.processor_height, given.processor_width) =
      processor_size(processor, preprocessor.string());
  ModelConfig config = config_from_json(text, shapes, path.string(), given);
  apply_preprocessor_json(processor, config, preprocessor.string());
  return config;
}

Given given_by(const WeightOptions& options, const NameMap& names, const std::string& weights) {
  const bool transformers = std::ranges::any_of(names, [](const auto& entry) {
    return entry.second.front().find("embeddings.patch_embedding") != std::string::npos;
  });
  return {.heads = options.heads,
          .pool = options.pool,
          .image_height = options.image_height,
          .image_width = options.image_width,
          .transformers = transformers,
          .weights = weights};
}

// An image tower runs without the text tower, where that is not CLIP's or lacks its tokenizer.
void load_text(const WeightFiles& files, const std::string& config, const std::string& text,
               FloatModel& model) {
  if (!has_text_tower(files.names())) return;
  try {
    model.text = load_text_tower(files, config, text);
  } catch (const Error& e) {
    model.no_text = e.what();
  }
}

}  // namespace

ConfigText config_beside(const std::string& weights, const WeightOptions& options) {
  const fs::path path = options.arch.empty() ? config_path(weights, options) : fs::path();
  return {path.string(), path.empty() ? "" : read_text(path)};
}

FloatModel load_float_model(const std::string& path, const WeightOptions& options) {
  const WeightFiles files(path);
  if (is_detector(files.names()))
    fail(files.path(),
         ": is a detector, which vitrun, vitquant, vitlrp and viteval --coco take, and nothing "
         "else");
  const auto [config_file, text] = config_beside(files.path(), options);
  const fs::path beside = config_file;
  if (!text.empty()) refuse_foreign_config(text, config_file);
  const NameMap names = timm_names(files.names(), files.path());
  const ShapeMap shapes = joined_shapes(files, names);
  const Given given = given_by(options, names, files.path());
  const ModelConfig config = !options.arch.empty()
                                 ? config_from_arch(options.arch, shapes, files.path(), given)
                             : beside.empty() ? config_from_shapes(shapes, files.path(), given)
                                              : read_config(beside, text, shapes, given);
  FloatModel model;
  model.info = config;
  model.guesses = config.guesses;
  model.graph = build_graph(config);
  for (const auto& [name, sources] : names) model.weights[name] = files.load_joined(sources);
  derive_weights(config, model.weights);
  check_weights(model.graph, model.weights, files.path(), model.info.arch);
  if (options.text) load_text(files, beside.string(), text, model);
  return model;
}

}  // namespace vitrun
