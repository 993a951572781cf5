// The program make_input: it makes the small files that a situation (README.md here) needs, from a
// golden model or from nothing.
//
//   make_input image OUT.bmp WIDTH HEIGHT SEED
//   make_input array OUT.npy SEED N C H W           values of -2 to 2
//   make_input rename IN.safetensors OUT.safetensors FROM=TO...
//       each name that begins with FROM begins with TO instead; the first that fits counts
//   make_input fill IN.safetensors OUT.safetensors TENSOR VALUE [EVERY]
//       every element, or each that is EVERY after the last, becomes VALUE
//   make_input drop IN.safetensors OUT.safetensors TENSOR...
//   make_input rows IN.safetensors OUT.safetensors COUNT TENSOR...    its first COUNT rows remain
//   make_input merge A.safetensors B.safetensors OUT.safetensors
//   make_input shard IN.safetensors FOLDER COUNT    and model.safetensors.index.json
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "runtime/files/npy.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/program/bmp.h"

using namespace vitrun;

namespace {

using Words = std::vector<std::string>;

void write(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  if (!(out << bytes).flush()) fail(path, ": cannot be written");
}

Weights read(const std::string& path) {
  const SafetensorsFile file(path);
  Weights weights;
  for (const auto& [name, info] : file.tensors())
    if (!name.ends_with("relative_position_index")) weights[name] = file.load(name);  // no floats
  return weights;
}

// Writes float32 tensors.
void write(const std::string& path, const Weights& weights) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  size_t end = 0;
  std::string data;
  for (const auto& [name, tensor] : weights) {
    const size_t begin = end;
    end += tensor.data.size() * sizeof(float);
    data.append(reinterpret_cast<const char*>(tensor.data.data()), end - begin);
    header[name] = {{"dtype", "F32"}, {"shape", tensor.dims}, {"data_offsets", {begin, end}}};
  }
  const std::string text = header.dump();
  std::string length;
  for (size_t i = 0; i < 8; i++) length += static_cast<char>(text.size() >> 8 * i & 255);
  write(path, length + text + data);
}

void make_array(const Words& w) {
  Tensor t({std::stoi(w[4]), std::stoi(w[5]), std::stoi(w[6]), std::stoi(w[7])});
  uint32_t state = static_cast<uint32_t>(std::stoi(w[3])) * 2654435761u + 1;
  for (float& v : t.data) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / static_cast<float>(1 << 22) - 2;
  }
  write_npy(w[2], t);
}

void rename(const Words& w) {
  Weights out;
  for (auto& [name, tensor] : read(w[2])) {
    std::string renamed = name;
    for (size_t i = 4; i < w.size(); i++) {
      const size_t equals = w[i].find('=');
      const std::string from = w[i].substr(0, equals);
      if (!name.starts_with(from)) continue;
      renamed = w[i].substr(equals + 1) + name.substr(from.size());
      break;
    }
    out[renamed] = tensor;
  }
  write(w[3], out);
}

void fill(const Words& w) {
  Weights weights = read(w[2]);
  if (!weights.contains(w[4])) fail(w[2], " has no tensor ", w[4]);
  Tensor& t = weights[w[4]];
  const size_t step = w.size() > 6 ? std::stoul(w[6]) : 1;
  for (size_t i = 0; i < t.data.size(); i += step) t.data[i] = std::stof(w[5]);
  write(w[3], weights);
}

void drop(const Words& w) {
  Weights weights = read(w[2]);
  for (size_t i = 4; i < w.size(); i++)
    if (weights.erase(w[i]) == 0) fail(w[2], " has no tensor ", w[i]);
  write(w[3], weights);
}

void rows(const Words& w) {
  Weights weights = read(w[2]);
  const int64_t count = std::stoi(w[4]);
  for (size_t i = 5; i < w.size(); i++) {
    if (!weights.contains(w[i])) fail(w[2], " has no tensor ", w[i]);
    weights[w[i]] = slice(weights[w[i]], 0, count);
  }
  write(w[3], weights);
}

void merge(const Words& w) {
  Weights weights = read(w[2]);
  for (auto& [name, tensor] : read(w[3])) weights[name] = tensor;
  write(w[4], weights);
}

void shard(const Words& w) {
  const size_t count = std::stoul(w[4]);
  std::vector<Weights> parts(count);
  nlohmann::json index = {{"metadata", nlohmann::json::object()}};
  std::filesystem::create_directories(w[3]);
  size_t next = 0;
  const auto file = [&](size_t part) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", part + 1, count);
    return std::string(name);
  };
  for (auto& [name, tensor] : read(w[2])) {
    const size_t part = next++ % count;
    index["weight_map"][name] = file(part);
    parts[part][name] = tensor;
  }
  for (size_t i = 0; i < count; i++) write(w[3] + "/" + file(i), parts[i]);
  write(w[3] + "/model.safetensors.index.json", index.dump(1));
}

}  // namespace

int main(int argc, char** argv) {
  const Words w(argv, argv + argc);
  const std::string what = w.size() > 3 ? w[1] : "";
  try {
    if (what == "image" && w.size() == 6)
      write(w[2], bmp(std::stoi(w[3]), std::stoi(w[4]), std::stoi(w[5])));
    else if (what == "array" && w.size() == 8)
      make_array(w);
    else if (what == "rename" && w.size() > 4)
      rename(w);
    else if (what == "fill" && w.size() > 5)
      fill(w);
    else if (what == "drop" && w.size() > 4)
      drop(w);
    else if (what == "rows" && w.size() > 5)
      rows(w);
    else if (what == "merge" && w.size() == 5)
      merge(w);
    else if (what == "shard" && w.size() == 5)
      shard(w);
    else
      fail("make_input_main.cc says how it is used");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_input: %s\n", e.what());
    return 1;
  }
}
