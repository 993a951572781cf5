// Running a session allocates nothing, and no allocation that fails does harm.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "quant/pipeline.h"
#include "runtime/engine.h"
#include "runtime/npy.h"
#include "runtime/vitrun.h"
#include "tests/qbin_testing.h"

namespace {
std::atomic<int64_t> allocations{0}, live{0};
thread_local int64_t fail_in = -1;  // this thread's allocations until one fails; below 0: none does

void* counted(std::size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (fail_in >= 0 && fail_in-- == 0) return nullptr;
  void* p = std::malloc(size ? size : 1);
  if (p) live.fetch_add(1, std::memory_order_relaxed);
  return p;
}

void release(void* p) noexcept {
  if (p) live.fetch_sub(1, std::memory_order_relaxed);
  std::free(p);
}
}  // namespace

// The whole test program allocates through these.
void* operator new(std::size_t size) {
  if (void* p = counted(size)) return p;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
// Sanitizers have their own of these, which would not fit the deletes below.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size);
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* p) noexcept {
  release(p);
}
void operator delete[](void* p) noexcept {
  release(p);
}
void operator delete(void* p, std::size_t) noexcept {
  release(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  release(p);
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

// A model opened, used and closed through the C ABI; the first status that is not VIT_OK.
vit_status use_library(const std::string& path, const std::vector<uint8_t>& rgb, int width,
                       int threads) {
  vit_model* model = nullptr;
  vit_session* session = nullptr;
  const vit_session_options options = {sizeof options, threads, 1, nullptr};
  vit_status status = vit_model_open(path.c_str(), nullptr, &model);
  if (!status) status = vit_session_create(model, &options, &session);
  float logits[10];
  if (!status) status = vit_session_run_rgb(session, rgb.data(), width, width, 3 * width, logits);
  vit_session_free(session);
  vit_model_close(model);
  return status;
}

TEST_CASE("every allocation of the C ABI may fail: a status, and nothing is left behind") {
  const std::string path = VITRUN_TEST_DIR "/../models/cifar10/vit.qbin";
  const std::vector<uint8_t> rgb(3 * 40 * 40, 100);
  for (int threads : {1, 2}) {
    REQUIRE(use_library(path, rgb, 40, threads) == VIT_OK);
    const int64_t before = live.load();
    int64_t failures = 0;
    for (bool failed = true; failed; failures++) {
      fail_in = failures;
      const vit_status status = use_library(path, rgb, 40, threads);
      failed = fail_in < 0;
      fail_in = -1;
      CHECK(status == (failed ? VIT_ERROR_MEMORY : VIT_OK));
      CHECK(live.load() == before);
    }
    CHECK(failures > 100);
    MESSAGE((failures - 1) << " allocations failed in turn, " << threads << " threads");
  }
}

}  // namespace
}  // namespace vitrun
