// Fuzz targets for every reader of untrusted bytes, on libFuzzer: one program a target, chosen by
// VITRUN_FUZZ (tests/fuzz builds and runs them all). A target may throw vitrun::Error or return a
// status; anything else is a finding.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "models/config.h"
#include "models/status.h"
#include "runtime/dataset.h"
#include "runtime/image.h"
#include "runtime/npy.h"
#include "runtime/qbin.h"
#include "runtime/safetensors.h"
#include "runtime/vitrun.h"
#include "tests/qbin_testing.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace vitrun {
namespace {

using Bytes = std::span<const uint8_t>;

// A file in memory that readers of paths can open.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : fd_(memfd_create("fuzz", 0)) {
    if (write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) abort();
  }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

std::string text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void fuzz_qbin(Bytes bytes) {
  const Aligned copy(Buffer(bytes.begin(), bytes.end()));
  QbinFile::from_memory(copy.bytes(), "fuzz").verify();
}

// The whole life of a model through the C ABI; small ones are run.
void fuzz_model(Bytes bytes) {
  const Aligned copy(Buffer(bytes.begin(), bytes.end()));
  vit_model* model = nullptr;
  if (vit_model_open_memory(copy.bytes().data(), copy.bytes().size(), nullptr, &model)) {
    if (model || !*vit_last_error()) abort();
    return;
  }
  const int width = vit_model_width(model), height = vit_model_height(model);
  vit_session* session = nullptr;
  if (width <= 64 && height <= 64 && !vit_session_create(model, nullptr, &session)) {
    const std::vector<float> image(static_cast<size_t>(3 * width * height), 0.5f);
    std::vector<float> logits(static_cast<size_t>(vit_model_classes(model)));
    vit_session_run_float(session, image.data(), 1, logits.data());
    const std::vector<uint8_t> rgb(3 * 7 * 5, 200);
    vit_session_run_rgb(session, rgb.data(), 7, 5, 21, logits.data());
    vit_session_free(session);
  }
  vit_model_close(model);
}

void fuzz_safetensors(Bytes bytes) {
  const MemoryFile file(bytes);
  const SafetensorsFile tensors(file.path());
  for (const auto& [name, info] : tensors.tensors()) {
    try {
      tensors.load(name);
    } catch (const Error&) {
    }
  }
}

// The shapes of a small ViT: those with two blocks of width 16.
ShapeMap shapes() {
  ShapeMap s = {{"cls_token", {1, 1, 16}},
                {"pos_embed", {1, 17, 16}},
                {"patch_embed.proj.weight", {16, 3, 4, 4}},
                {"patch_embed.proj.bias", {16}},
                {"norm.weight", {16}},
                {"norm.bias", {16}},
                {"head.weight", {10, 16}},
                {"head.bias", {10}}};
  for (const char* block : {"blocks.0.", "blocks.1."})
    for (const auto& [name, n, k] : {std::tuple{"attn.qkv", 48, 16},
                                     {"attn.proj", 16, 16},
                                     {"mlp.fc1", 64, 16},
                                     {"mlp.fc2", 16, 64},
                                     {"norm1", 16, 0},
                                     {"norm2", 16, 0}}) {
      s[std::string(block) + name + ".weight"] = k ? Dims{n, k} : Dims{n};
      s[std::string(block) + name + ".bias"] = {n};
    }
  return s;
}

void fuzz_config(Bytes bytes) {
  static const ShapeMap known = shapes();
  ModelConfig config = config_from_json(text(bytes), known, "fuzz");
  apply_preprocessor_json(text(bytes), config, "fuzz");
}

void fuzz_npy(Bytes bytes) {
  const MemoryFile file(bytes);
  read_npy(file.path());
}

void fuzz_image(Bytes bytes) {
  decode_image(bytes, "fuzz");
}

void fuzz_list(Bytes bytes) {
  const MemoryFile file(bytes);
  load_samples(file.path());
}

// A .qbin's checksum and size are put right after most mutations: else nothing behind them is seen.
size_t mutate_qbin(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (size < sizeof(QbinHeader) || seed % 8 == 0) return size;
  QbinHeader header;
  std::memcpy(&header, data, sizeof header);
  if (seed % 4) header.file_size = size;
  header.head_size = std::min<uint64_t>(header.head_size, size);
  std::memcpy(data, &header, sizeof header);
  if (header.head_size < sizeof header) return size;
  header.checksum = qbin_checksum(Bytes(data, header.head_size));
  std::memcpy(data, &header, sizeof header);
  return size;
}

}  // namespace
}  // namespace vitrun

#define VITRUN_JOIN(a, b) a##b
#define VITRUN_TARGET(name) VITRUN_JOIN(fuzz_, name)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    vitrun::VITRUN_TARGET(VITRUN_FUZZ)({data, size});
  } catch (const vitrun::Error&) {
  }
  return 0;
}

#ifdef VITRUN_FUZZ_QBIN
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  return vitrun::mutate_qbin(data, size, max_size, seed);
}
#endif
