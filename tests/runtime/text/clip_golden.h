// The small CLIP models of tests/golden/make_clip_models.py.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "models/checkpoints/json.h"
#include "runtime/files/npy.h"
#include "runtime/files/text_tower.h"
#include "runtime/files/weight_files.h"

namespace vitrun {

// "hf" or "open_clip".
class ClipGolden {
 public:
  explicit ClipGolden(const std::string& library)
      : folder_(root() / library), hf_(library == "hf") {}

  static std::filesystem::path root() {
    return std::filesystem::path(VITRUN_TEST_DIR) / "golden/clip";
  }
  static std::string text_of(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string weights() const {
    return (folder_ / (hf_ ? "model.safetensors" : "open_clip_model.safetensors")).string();
  }
  std::string config_path() const {
    return (folder_ / (hf_ ? "config.json" : "open_clip_config.json")).string();
  }
  std::string config() const { return text_of(config_path()); }
  TextTower tower() const { return tower(config()); }
  TextTower tower(const std::string& config) const {
    return load_text_tower(WeightFiles(weights()), config_path(), config);
  }
  // "texts", "classes" or "templates".
  std::vector<std::string> list(const char* name) const {
    return read_json((folder_ / "texts.json").string(), 3)[name].get<std::vector<std::string>>();
  }
  Tensor value(const std::string& name) const {
    return read_npy((folder_ / (name + ".npy")).string());
  }

 private:
  std::filesystem::path folder_;
  bool hf_;
};

// |found - want| / |want|, both of the same shape.
inline double relative_error(const Tensor& found, const Tensor& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.data.size(); i++) {
    error += std::pow(double{found.data.at(i)} - double{want.data[i]}, 2);
    size += std::pow(double{want.data[i]}, 2);
  }
  return std::sqrt(error / size);
}

}  // namespace vitrun
