// Prints a hash of the answers of each model, the same for every ISA of this machine, 1 to 3
// threads and batches of 1 and 2; fails where two differ. The answers are logits, or what a
// detector finds. Needs the inference library only, so that it runs wherever that is built for;
// tests/checks/check_determinism compares machines.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/registry.h"
#include "models/base/error.h"
#include "runtime/integer/engine.h"
#include "runtime/integer/integer_detector.h"

namespace vitrun {
namespace {

constexpr int kImages = 2;

std::vector<float> images_for(const ModelInfo& c) {
  std::vector<float> x(size_t{kImages} * 3 * static_cast<size_t>(c.image_height * c.image_width));
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i * 7919 % 2001) / 1000 - 1;
  return x;
}

std::vector<float> logits_of(const QuantModel& model, const EngineOptions& options) {
  Engine engine(model.graph(), options);
  const std::vector<float> x = images_for(model.info());
  const size_t classes = static_cast<size_t>(model.info().num_classes);
  std::vector<float> logits(kImages * classes);
  const size_t batch = static_cast<size_t>(options.max_batch), size = x.size() / kImages;
  for (size_t i = 0; i < kImages; i += batch)
    engine.run(x.data() + i * size, options.max_batch, logits.data() + i * classes);
  return logits;
}

// The boxes, scores, classes and masks' runs that a detector finds in a picture.
std::vector<float> objects_of(const QuantModel& model, const EngineOptions& options) {
  IntegerDetector detector(model, *options.kernels, options.threads);
  constexpr int kWidth = 61, kHeight = 83;
  std::vector<uint8_t> rgb(size_t{3} * kWidth * kHeight);
  for (size_t i = 0; i < rgb.size(); i++) rgb[i] = static_cast<uint8_t>(i * i / 61 % 251);
  const Detections all = detector.run({rgb.data(), kWidth, kHeight, ptrdiff_t{3} * kWidth});
  if (all.found.empty()) fail("nothing is found");
  std::vector<float> values;
  for (const Detection& d : all.found)
    values.insert(values.end(),
                  {d.box.x1, d.box.y1, d.box.x2, d.box.y2, d.score, static_cast<float>(d.label)});
  for (const Rle& mask : all.masks)
    values.insert(values.end(), mask.counts.begin(), mask.counts.end());
  return values;
}

std::vector<float> answers_of(const QuantModel& model, const EngineOptions& options) {
  return model.detector() ? objects_of(model, options) : logits_of(model, options);
}

// FNV-1a over the bytes.
uint64_t hash_of(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325;
  for (float v : values) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ (bits >> shift & 255)) * 0x100000001b3;
  }
  return hash;
}

void check_model(const char* path) {
  const QuantModel model(QbinFile::open(path));
  const uint64_t hash = hash_of(answers_of(model, {.kernels = find_kernels("scalar")}));
  const std::vector<int> batches = model.detector() ? std::vector{1} : std::vector{1, 2};
  std::string isas;
  for (const Kernels* k : compiled_kernels()) {
    if (!is_supported(*k)) continue;
    isas += cat(" ", k->name);
    for (int threads : {1, 2, 3})
      for (int batch : batches)
        if (hash_of(answers_of(model, {.threads = threads, .max_batch = batch, .kernels = k})) !=
            hash)
          fail(path, ": other answers with ", k->name, ", ", threads, " threads, batch ", batch);
  }
  const char* name = std::strrchr(path, '/');
  std::printf("%s %016llx%s\n", name ? name + 1 : path, static_cast<unsigned long long>(hash),
              isas.c_str());
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; i++) vitrun::check_model(argv[i]);
    return argc > 1 ? 0 : 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "vitrun_hash: %s\n", e.what());
    return 1;
  }
}
