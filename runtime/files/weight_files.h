// The tensors of a float model, from one .safetensors or from the shards that an index names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/files/safetensors.h"

namespace vitrun {

// Immutable; many threads may call load().
class WeightFiles {
 public:
  // Opens a .safetensors, an index of shards (model.safetensors.index.json), or a folder that holds
  // either. Fails, naming the file and the tensor, on a shard without the others, a shard that is
  // missing, a tensor that the index and the shards do not agree on, and a folder without weights.
  explicit WeightFiles(const std::string& path);

  // The file that was opened: that in the folder where a folder was named.
  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;
  const TensorInfo& info(const std::string& name) const {
    return file_of_.at(name)->tensors().at(name);
  }
  Tensor load(const std::string& name) const { return file_of_.at(name)->load(name); }

  // Tensors of one shape, put one after another along the first axis. An empty name stands for
  // zeros.
  Dims joined_dims(const std::vector<std::string>& names) const;
  Tensor load_joined(const std::vector<std::string>& names) const;

 private:
  void open_index();

  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;  // by tensor
};

}  // namespace vitrun
