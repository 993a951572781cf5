// How the files of test_bad_input.cc are made: from a good one, by one change.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "runtime/files/crc32.h"
#include "runtime/files/qbin.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

namespace vitrun {

using nlohmann::json;

inline const std::string kVit = golden("models/vit.safetensors"),
                         kRaw = golden("models/vit.input.npy");

// Writes its bad files into the folder and says which program reads them.
using Maker = std::function<Command(const TempFolder&)>;

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE_MESSAGE(at != text.npos, from);
  return text.replace(at, from.size(), to);
}

template <class T>
void put(std::string& bytes, size_t at, T value) {
  std::memcpy(&bytes.at(at), &value, sizeof value);
}

inline std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// --- .safetensors ------------------------------------------------------------------------------

struct Entry {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};
using Entries = std::map<std::string, Entry>;

inline Entries vit_entries() {
  const std::string bytes = read_bytes(kVit);
  uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof length);
  const json header = json::parse(bytes.substr(8, length));
  Entries entries;
  for (const auto& [name, info] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = info["data_offsets"][0], end = info["data_offsets"][1];
    entries[name] = {info["dtype"], info["shape"], bytes.substr(8 + length + begin, end - begin)};
  }
  return entries;
}

inline std::string framed(const std::string& header, const std::string& data = "") {
  std::string length(8, '\0');
  put(length, 0, uint64_t{header.size()});
  return length + header + data;
}

// A well-formed file, but for what `forge` does to its header.
inline std::string safetensors(
    const Entries& entries, const std::function<void(json&)>& forge = [](json&) {}) {
  json header;
  std::string data;
  for (const auto& [name, e] : entries) {
    header[name] = {{"dtype", e.dtype},
                    {"shape", e.shape},
                    {"data_offsets", {data.size(), data.size() + e.data.size()}}};
    data += e.data;
  }
  forge(header);
  return framed(header.dump(), data);
}

inline Maker weights(const std::string& bytes) {
  return [=](const TempFolder& folder) {
    folder.file("bad.json", read_bytes(golden("models/vit.json")));
    return Command{"vitrun", "--model", folder.file("bad.safetensors", bytes), "--raw", kRaw};
  };
}

inline Maker entries(const std::function<void(Entries&)>& edit) {
  Entries all = vit_entries();
  edit(all);
  return weights(safetensors(all));
}

inline Maker header(const std::function<void(json&)>& forge) {
  return weights(safetensors(vit_entries(), forge));
}

inline Maker renamed(const std::string& from, const std::string& to) {
  return entries([&](Entries& e) {
    e[to] = e.at(from);
    e.erase(from);
  });
}

// --- config.json -------------------------------------------------------------------------------

inline Maker config(const std::string& text) {
  return [=](const TempFolder& folder) {
    folder.file("bad.json", text);
    const std::string copy = folder.file("bad.safetensors", read_bytes(kVit));
    return Command{"vitquant", "-w", copy, "--calib-raw", kRaw, "-o", folder / "out.qbin"};
  };
}

inline Maker timm(const std::function<void(json&)>& edit) {
  json root = json::parse(read_bytes(golden("models/vit.json")));
  edit(root);
  return config(root.dump());
}

inline Maker model_arg(const std::string& key, const json& value) {
  return timm([&](json& j) { j["model_args"][key] = value; });
}

inline Maker pretrained(const std::string& key, const json& value) {
  return timm([&](json& j) { j["pretrained_cfg"][key] = value; });
}

inline Maker preprocessor(const std::string& text) {
  return [=](const TempFolder& folder) {
    for (const std::string name : {"model.safetensors", "config.json"})
      folder.file(name, read_bytes(golden("models/hf_deit/" + name)));
    folder.file("preprocessor_config.json", text);
    return Command{"vitrun", "--model", folder / "model.safetensors", "--raw", kRaw};
  };
}

// --- .qbin -------------------------------------------------------------------------------------

// The golden ViT in 4 bits, quantized once.
inline const std::string& good_qbin() {
  static const std::string bytes = [] {
    const TempFolder folder;
    output_of({"vitquant", "--weights", kVit, "--calib-raw", kRaw, "--wbits", "4", "-o",
               folder / "good.qbin"});
    return read_bytes(folder / "good.qbin");
  }();
  return bytes;
}

inline Maker qbin(const std::string& bytes) {
  return [=](const TempFolder& folder) {
    return Command{"vitrun", "--model", folder.file("bad.qbin", bytes), "--raw", kRaw};
  };
}

// Any change of the head, with the checksum that fits.
inline Maker head(const std::function<void(std::string&)>& forge) {
  std::string bytes = good_qbin();
  uint64_t size;
  std::memcpy(&size, &bytes[24], sizeof size);
  forge(bytes);
  put(bytes, 12, qbin_checksum(as_bytes(bytes).first(size)));
  return qbin(bytes);
}

struct Blob {
  DType dtype;
  int bits;
  Dims dims;
  Buffer bytes;
};

struct Parts {
  std::map<std::string, QbinValue> keys;
  std::map<std::string, Graph> graphs;
  std::map<std::string, Blob> tensors;

  template <class T>
  T& get(const std::string& key) {
    return std::get<T>(keys.at(key));
  }
};

// A well-formed container of another model.
inline Maker parts(const std::function<void(Parts&)>& edit) {
  const Aligned good(Buffer(good_qbin().begin(), good_qbin().end()));
  const QbinFile file = QbinFile::from_memory(good.bytes(), "good");
  Parts p{file.metadata(), file.graphs(), {}};
  for (const QbinTensor& t : file.tensors())
    p.tensors[t.name] = {t.dtype, t.bits, t.dims, {t.bytes.begin(), t.bytes.end()}};
  edit(p);
  QbinWriter writer;
  for (const auto& [key, value] : p.keys) writer.set(key, value);
  for (const auto& [name, graph] : p.graphs) writer.add(name, graph);
  for (const auto& [name, b] : p.tensors) writer.add(name, b.dtype, b.bits, b.dims, b.bytes);
  const std::vector<uint8_t> bytes = writer.serialize();
  return qbin({bytes.begin(), bytes.end()});
}

inline Maker key(const std::string& name, const QbinValue& value) {
  return parts([&](Parts& p) { p.keys.at(name) = value; });
}

// Another graph, made from the good one.
inline Maker graph(const std::function<void(Graph&)>& edit) {
  return parts([&](Parts& p) { edit(p.graphs.at("main")); });
}

// The same with one of its nodes changed.
inline Maker node(const std::string& name, const std::function<void(Node&)>& edit) {
  return graph([&](Graph& g) {
    REQUIRE_MESSAGE(g.find(name) >= 0, name);
    edit(g[g.find(name)]);
  });
}

inline Maker attribute(const std::string& node_name, Attribute a, double value) {
  return node(node_name, [&](Node& n) { n.attributes[a] = value; });
}

// Another first element of an array.
template <class T>
inline Maker first(const std::string& name, T value) {
  return parts([&](Parts& p) { p.get<std::vector<T>>(name)[0] = value; });
}

// A tensor of F32 that begins with this value.
inline Maker first_float(const std::string& tensor, float value) {
  return parts([&](Parts& p) {
    p.tensors.at(tensor).dtype = DType::kF32;
    p.tensors.at(tensor).bytes.resize(4 * static_cast<size_t>(p.tensors.at(tensor).dims[0]));
    std::memcpy(p.tensors.at(tensor).bytes.data(), &value, sizeof value);
  });
}

// `skip`: what lies between a key and its first number, the type and, of an array, the count.
inline Maker nan_in(const std::string& key_name, size_t skip) {
  return head(
      [&](std::string& b) { put(b, b.find(key_name) + key_name.size() + skip, std::nan("")); });
}

// --- images ------------------------------------------------------------------------------------

inline Maker image(const std::string& bytes) {
  return [=](const TempFolder& folder) {
    return Command{"vitrun", "--model", kVit, folder.file("bad.jpg", bytes)};
  };
}

inline std::string sample(const std::string& name) {
  return read_bytes(golden("image/decode/" + name));
}

// A PNG whose header claims other sides, with the checksum that fits.
inline std::string sized_png(uint32_t width, uint32_t height) {
  std::string png = sample("rgb.png");
  put(png, 16, __builtin_bswap32(width));
  put(png, 20, __builtin_bswap32(height));
  put(png, 29, __builtin_bswap32(crc32(as_bytes(png).subspan(12, 17))));
  return png;
}

inline std::string bad_huffman() {
  std::string jpeg = sample("baseline.jpg");
  return jpeg.replace(jpeg.find("\xff\xc4") + 5, 16, std::string(16, '\xc8'));
}

// --- arrays, lists and labels ------------------------------------------------------------------

inline Maker raw(const std::string& bytes) {
  return [=](const TempFolder& folder) {
    return Command{"vitrun", "--model", kVit, "--raw", folder.file("bad.npy", bytes)};
  };
}

inline Maker list(const std::string& text, const std::string& program = "viteval") {
  return [=](const TempFolder& folder) {
    folder.file("a.bmp", bmp(20, 20, 1));
    folder.file("broken.png", sample("rgb.png").substr(0, 50));
    const std::string path = folder.file("bad.txt", text);
    if (program == "viteval") return Command{program, "--model", kVit, "--images", path};
    return Command{program, "--weights", kVit, "--calib", path, "-o", folder / "out.qbin"};
  };
}

inline Maker labels(const std::string& text) {
  return [=](const TempFolder& folder) {
    return Command{
        "vitrun", "--model", kVit, "--raw", kRaw, "--labels", folder.file("bad.txt", text)};
  };
}

}  // namespace vitrun
