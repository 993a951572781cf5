// Running a session allocates nothing.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "quant/pipeline.h"
#include "runtime/engine.h"
#include "runtime/npy.h"
#include "tests/qbin_testing.h"

namespace {
std::atomic<int64_t> allocations{0};

void* counted(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
}  // namespace

// The whole test program allocates through these.
void* operator new(std::size_t size) {
  return counted(size);
}
void* operator new[](std::size_t size) {
  return counted(size);
}
// Sanitizers have their own of these, which would not fit the deletes below.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size ? size : 1);
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}

namespace vitrun {
namespace {

TEST_CASE("a run allocates nothing, the first one included") {
  for (const std::string name : {"deit_distilled", "swin_padded"}) {
    const std::string stem = VITRUN_TEST_DIR "/golden/models/" + name;
    const Tensor images = read_npy(stem + ".input.npy");
    const Aligned file(
        quantize_model(load_float_model(stem + ".safetensors", ""), tensor_source(images), {})
            .file.serialize());
    const QuantModel model(QbinFile::from_memory(file.bytes(), name));
    std::vector<float> logits(static_cast<size_t>(2 * model.config().num_classes));
    for (int threads : {1, 2}) {
      Engine engine(model, {.threads = threads, .max_batch = 2});
      const int64_t before = allocations.load();
      for (int i = 0; i < 3; i++) engine.run(images.data.data(), 2, logits.data());
      CHECK(allocations.load() == before);
    }
  }
}

}  // namespace
}  // namespace vitrun
