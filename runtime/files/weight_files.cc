#include "runtime/files/weight_files.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "models/base/error.h"
#include "models/checkpoints/json.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr int kMaxIndexDepth = 4;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// Returns N of "model-00001-of-0000N.safetensors", 1 for any other name.
int shard_count(const fs::path& path) {
  const std::string stem = path.stem().string();
  const size_t of = stem.rfind("-of-");
  if (of == stem.npos || !is_digits(stem.substr(of + 4)) || stem.size() - of > 12) return 1;
  const size_t dash = stem.rfind('-', of - 1);
  if (dash == stem.npos || !is_digits(stem.substr(dash + 1, of - dash - 1))) return 1;
  return std::stoi(stem.substr(of + 4));
}

// Returns the index beside a shard, "" if there is none.
std::string index_beside(const fs::path& shard) {
  const std::string name = shard.filename().string();
  const fs::path own = fs::path(shard).replace_filename(
      name.substr(0, name.rfind('-', name.rfind("-of-") - 1)) + ".safetensors.index.json");
  if (is_there(own)) return own.string();
  const fs::path usual = fs::path(shard).replace_filename(kIndexName);
  return is_there(usual) ? usual.string() : "";
}

void refuse_lone_shard(const std::string& path) {
  const int count = shard_count(path);
  if (count < 2) return;
  const std::string index = index_beside(path);
  if (index.empty())
    fail(path, ": one shard of ", count, "; it needs the others and ", kIndexName, " beside them");
  fail(path, ": one shard of ", count, "; give the index file, ", index);
}

// Returns the .safetensors files of a folder; `other` becomes a file of weights in another format.
std::vector<std::string> weights_in(const fs::path& folder, std::string& other) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".safetensors") found.push_back(entry.path().string());
    if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".h5")
      other = entry.path().filename().string();
  }
  std::ranges::sort(found);
  return found;
}

// Returns the folder of files in a folder of Hugging Face's cache (models--NAME), which holds them
// in its only snapshot; any other folder is returned as it is.
fs::path snapshot_of(const fs::path& folder) {
  if (!is_there(folder / "snapshots")) return folder;
  std::vector<fs::path> snapshots;
  for (const auto& entry : fs::directory_iterator(folder / "snapshots"))
    snapshots.push_back(entry.path());
  if (snapshots.size() != 1)
    fail(folder.string(), ": ", snapshots.size(), " snapshots, expected one; name one of them");
  return snapshots.front();
}

// Returns the file to open for a path, which may be a folder.
std::string resolve(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  const fs::path folder = snapshot_of(path);
  for (const char* name : {"model.safetensors", kIndexName})
    if (is_there(folder / name)) return (folder / name).string();
  std::string other;
  const std::vector<std::string> found = weights_in(folder, other);
  if (found.size() == 1) return found.front();
  if (!found.empty())
    fail(path, ": ", found.size(), " .safetensors files and no ", kIndexName, "; name one of them");
  fail(path, ": no .safetensors in this folder", other.empty() ? "" : ", only '", other,
       other.empty() ? "" : "', which has to be converted");
}

// Reads an index, {"weight_map": {TENSOR: FILE}}. Files must lie beside it.
std::map<std::string, std::string> read_index(const std::string& path) {
  const json index = read_json(path, kMaxIndexDepth);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty())
    fail(path,
         ": no 'weight_map', so this is no index of shards; give the .safetensors or its "
         "folder");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find('/') != name.npos)
      fail(path, ": tensor '", tensor, "' is in ", file.dump().substr(0, 60),
           ", expected the name of a file beside the index");
    files[tensor] = name;
  }
  return files;
}

}  // namespace

WeightFiles::WeightFiles(const std::string& path) : path_(resolve(path)) {
  if (path_.ends_with(".json")) {
    open_index();
    return;
  }
  refuse_lone_shard(path_);
  files_.push_back(std::make_unique<SafetensorsFile>(path_));
  for (const auto& [name, info] : files_.back()->tensors()) file_of_[name] = files_.back().get();
}

void WeightFiles::open_index() {
  const std::map<std::string, std::string> index = read_index(path_);
  std::set<std::string> names;
  for (const auto& [tensor, file] : index) names.insert(file);
  for (const std::string& name : names) {
    const fs::path shard = fs::path(path_).replace_filename(name);
    if (!is_there(shard))
      fail(path_, ": the shard '", name, "' is missing; it has ",
           std::ranges::count_if(index, [&](const auto& entry) { return entry.second == name; }),
           " tensors");
    files_.push_back(std::make_unique<SafetensorsFile>(shard.string()));
    for (const auto& [tensor, info] : files_.back()->tensors()) {
      const auto stated = index.find(tensor);
      if (stated == index.end())
        fail(shard.string(), ": tensor '", tensor, "' is not in the index ", path_);
      if (stated->second != name)
        fail(shard.string(), ": tensor '", tensor, "' is in this shard and by the index in '",
             stated->second, "'");
      file_of_[tensor] = files_.back().get();
    }
  }
  for (const auto& [tensor, file] : index)
    if (!file_of_.contains(tensor))
      fail(path_, ": tensor '", tensor, "' is not in the shard '", file, "'");
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

Dims WeightFiles::joined_dims(const std::vector<std::string>& names) const {
  const Dims& first = info(names.front()).dims;
  Dims dims = first;
  for (size_t i = 1; i < names.size(); i++) {
    const Dims& more = names[i].empty() ? first : info(names[i]).dims;
    if (more.empty() || more != first)
      fail(path_, ": tensor '", names[i], "' has shape ", to_string(more), ", expected ",
           to_string(first), " as '", names.front(), "'");
    dims[0] += more[0];
  }
  return dims;
}

Tensor WeightFiles::load_joined(const std::vector<std::string>& names) const {
  Tensor tensor = load(names.front());
  if (names.size() == 1) return tensor;
  tensor.dims = joined_dims(names);
  tensor.data.reserve(static_cast<size_t>(element_count(tensor.dims)));
  for (size_t i = 1; i < names.size(); i++) {
    const Tensor more = names[i].empty() ? Tensor(info(names.front()).dims) : load(names[i]);
    tensor.data.insert(tensor.data.end(), more.data.begin(), more.data.end());
  }
  return tensor;
}

}  // namespace vitrun
