// Running a session allocates nothing, and no allocation or system call that fails does harm.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include "quant/pipeline.h"
#include "runtime/api/vitrun.h"
#include "runtime/files/npy.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/api/logits.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/integer/allocations.h"

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

// Inlined into a delete, it would look to GCC like a delete of what malloc returned.
[[gnu::noinline]] void release(void* p) noexcept {
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

namespace {
thread_local int calls_until_failure = -1;  // of those below; below 0: none fails

bool refused(int error) {
  if (calls_until_failure < 0 || calls_until_failure-- != 0) return false;
  errno = error;
  return true;
}
}  // namespace

// The linker sends this program's calls of NAME to __wrap_NAME (tests/CMakeLists.txt).
extern "C" {
int __real_open(const char* path, int flags, ...);
int __real_fstat(int fd, struct stat* info);
void* __real_mmap(void* at, size_t size, int access, int flags, int fd, off_t offset);

int __wrap_open(const char* path, int flags, ...) {
  if (refused(EMFILE)) return -1;
  va_list more;
  va_start(more, flags);
  const unsigned mode = flags & O_CREAT ? va_arg(more, unsigned) : 0;
  va_end(more);
  return __real_open(path, flags, mode);
}
int __wrap_fstat(int fd, struct stat* info) {
  return refused(EIO) ? -1 : __real_fstat(fd, info);
}
void* __wrap_mmap(void* at, size_t size, int access, int flags, int fd, off_t offset) {
  return refused(ENOMEM) ? MAP_FAILED : __real_mmap(at, size, access, flags, fd, offset);
}
}

namespace vitrun {

int64_t allocation_count() {
  return allocations.load();
}

void fail_allocation_in(int64_t count) {
  fail_in = count;
}

namespace {

TEST_CASE("a run allocates nothing, the first one included") {
  for (const std::string name : {"deit_distilled", "swin_padded"}) {
    const std::string stem = VITRUN_TEST_DIR "/golden/models/" + name;
    const Tensor images = read_npy(stem + ".input.npy");
    const Aligned file(
        quantize_model(load_float_model(stem + ".safetensors"), tensor_source(images), {})
            .file.serialize());
    const QuantModel model(QbinFile::from_memory(file.bytes(), name));
    std::vector<float> logits(static_cast<size_t>(2 * model.info().num_classes));
    for (int threads : {1, 2}) {
      Engine engine(model.graph(), {.threads = threads, .max_batch = 2});
      const int64_t before = allocations.load();
      for (int i = 0; i < 3; i++) engine.run(images.data.data(), 2, logits.data());
      CHECK(allocations.load() == before);
    }
  }
}

TEST_CASE("a choice of outputs and sizes that comes again allocates nothing, nor do its runs") {
  const std::string path = VITRUN_TEST_DIR "/../models/cifar10/vit.qbin";
  vit_model* model = nullptr;
  vit_session* session = nullptr;
  const vit_session_options options = {sizeof options, 2, 2, nullptr};
  REQUIRE(vit_model_open(path.c_str(), nullptr, &model) == VIT_OK);
  REQUIRE(vit_session_create(model, &options, &session) == VIT_OK);
  const char* const kOutputs[] = {"logits", "embedding", "features"};
  std::vector<float> values[3];
  vit_output out[3];
  for (int i = 0; i < 3; i++) {
    const int rows = vit_model_output_rows(model, i), cols = vit_model_output_cols(model, i);
    values[i].resize(static_cast<size_t>(2 * rows * cols));
    out[i] = {kOutputs[i], values[i].data(), values[i].size()};
  }
  const std::vector<float> images(2 * 3 * 32 * 32, 0.25f);
  const std::vector<uint8_t> rgb(3 * 40 * 40, 100);
  // Each of the three alone, and all together: as many choices as a session keeps.
  for (int choice = 0; choice < 4; choice++)
    REQUIRE(vit_session_prepare(session, 0, 0, kOutputs + choice % 3, choice < 3 ? 1 : 3) ==
            VIT_OK);
  REQUIRE(vit_session_run_rgb(session, rgb.data(), 40, 40, 120, out, 3) == VIT_OK);
  const size_t memory = vit_session_memory(session);
  for (int choice = 0; choice < 4; choice++) {
    CAPTURE(choice);
    const int first = choice % 3, count = choice < 3 ? 1 : 3;
    REQUIRE(vit_session_prepare(session, 0, 0, kOutputs + first, count) == VIT_OK);
    const int64_t before = allocations.load();
    REQUIRE(vit_session_run_float(session, images.data(), 2, out + first, count) == VIT_OK);
    REQUIRE(vit_session_run_rgb(session, rgb.data(), 40, 40, 120, out + first, count) == VIT_OK);
    CHECK(allocations.load() == before);
  }
  CHECK(vit_session_memory(session) == memory);
  vit_session_free(session);
  vit_model_close(model);

  // The engine itself allocates nothing when it chooses again either.
  const QuantModel opened(QbinFile::open(path));
  Engine engine(opened.graph(), {.max_batch = 2});
  const std::vector<std::vector<std::string>> choices = {
      {"logits"}, {"embedding"}, {"features"}, {"features", "logits"}};
  const std::vector<MapSize> sizes = {{32, 32}};
  for (const auto& names : choices) engine.select(sizes, names);
  const int64_t before = allocations.load();
  for (const auto& names : choices) {
    engine.select(sizes, names);
    float* pointers[2] = {values[2].data(), values[0].data()};
    engine.run(images.data(), 1, pointers);
  }
  CHECK(allocations.load() == before);
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
  if (!status) status = vitrun::run_rgb(session, rgb.data(), width, width, 3 * width, logits);
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

// Open descriptors, and mappings of that file.
std::pair<int, int> held(const std::string& path) {
  std::pair<int, int> count{0, 0};
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count.first++;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) count.second += line.ends_with(path);
  return count;
}

TEST_CASE("every system call that opens a model may fail: a status, and nothing is left behind") {
  const std::string path =
      std::filesystem::canonical(VITRUN_TEST_DIR "/../models/cifar10/vit.qbin");
  const std::pair<int, int> before = held(path);
  int calls = 0;
  for (const std::string wanted : {"cannot open", "cannot stat", "cannot map", ""}) {
    CAPTURE(wanted);
    const int64_t allocated = live.load();
    vit_model* model = nullptr;
    calls_until_failure = calls++;
    const vit_status status = vit_model_open(path.c_str(), nullptr, &model);
    const bool all_called = calls_until_failure == 0;
    calls_until_failure = -1;
    CHECK(status == (wanted.empty() ? VIT_OK : VIT_ERROR_FILE));
    CHECK((model != nullptr) == wanted.empty());
    if (wanted.empty()) {
      CHECK(all_called);  // these three and no more
      CHECK(held(path).second == before.second + 1);
    } else {
      CHECK(std::string(vit_last_error()).starts_with(path + ": " + wanted));
    }
    vit_model_close(model);
    CHECK(held(path) == before);
    CHECK(live.load() == allocated);
  }
}

}  // namespace
}  // namespace vitrun
