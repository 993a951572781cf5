// Mixed load through the C ABI for a while: several threads open, run and close several models in
// every way, errors among them. Answers must stay the same bits, file descriptors the same number,
// and memory, once warm, must not grow. Usage: vitrun_soak SECONDS MODEL.qbin...
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/api/vitrun.h"
#include "tests/runtime/api/logits.h"

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryCounts = false;  // sanitizers keep freed memory
#else
constexpr bool kMemoryCounts = true;
#endif
constexpr int kWorkers = 4, kLives = 5, kBatch = 3;
constexpr size_t kSlack = 4 << 20;  // bytes by which the allocator's own keeping may differ

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "soak: %s (%s)\n", what.c_str(), vit_last_error());
  std::exit(1);
}

void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

struct Subject {
  std::string path;
  vit_model* model = nullptr;  // open all the time, shared by all threads
  size_t pixels = 0, classes = 0;
  std::vector<float> floats, float_answer, rgb_answer;
};

constexpr int kSide = 50;
const std::vector<uint8_t>& picture() {
  static const std::vector<uint8_t> rgb = [] {
    std::vector<uint8_t> all(3 * kSide * kSide);
    for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<uint8_t>(i * 37 + i / 150 * 11);
    return all;
  }();
  return rgb;
}

void run(const Subject& s, vit_session* session, int batch) {
  std::vector<float> in, out(s.classes * static_cast<size_t>(batch));
  for (int i = 0; i < batch; i++) in.insert(in.end(), s.floats.begin(), s.floats.end());
  require(!vitrun::run_float(session, in.data(), batch, out), "run_float fails");
  for (size_t i = 0; i < out.size(); i++)
    if (std::memcmp(&out[i], &s.float_answer[i % s.classes], sizeof(float)))
      fail("another answer to the same floats from " + s.path);
  out.resize(s.classes);
  require(!vitrun::run_rgb(session, picture().data(), kSide, kSide, 3 * kSide, out),
          "run_rgb fails");
  if (std::memcmp(out.data(), s.rgb_answer.data(), s.classes * sizeof(float)))
    fail("another answer to the same picture from " + s.path);
}

Subject prepare(const std::string& path) {
  Subject s;
  s.path = path;
  vit_session* session = nullptr;
  require(!vit_model_open(path.c_str(), nullptr, &s.model), "cannot open a model");
  require(!vit_session_create(s.model, nullptr, &session), "cannot create a session");
  s.pixels = static_cast<size_t>(vit_model_width(s.model) * vit_model_height(s.model));
  s.classes = static_cast<size_t>(vit_model_classes(s.model));
  s.floats.resize(3 * s.pixels);
  for (size_t i = 0; i < s.floats.size(); i++)
    s.floats[i] = 0.01f * static_cast<float>(i % 301) - 1.5f;
  s.float_answer.resize(s.classes), s.rgb_answer.resize(s.classes);
  vitrun::run_float(session, s.floats.data(), 1, s.float_answer);
  vitrun::run_rgb(session, picture().data(), kSide, kSide, 3 * kSide, s.rgb_answer);
  vit_session_free(session);
  return s;
}

void be_refused(const std::string& path) {
  vit_model* model = nullptr;
  require(vit_model_open("/none.qbin", nullptr, &model) == VIT_ERROR_FILE && !model,
          "opens nothing");
  require(vit_model_open("/proc/self/exe", nullptr, &model) == VIT_ERROR_MODEL && !model,
          "opens a program");
  const vit_session_options bad = {sizeof bad, -1, 0, nullptr};
  vit_session* session = nullptr;
  require(!vit_model_open(path.c_str(), nullptr, &model), "cannot open a model");
  require(vit_session_create(model, &bad, &session) == VIT_ERROR_ARGUMENT && !session,
          "-1 threads");
  vit_model_close(model);
}

// One thing that a program may do with a model, with all that it opened closed at the end.
void one_life(const Subject& s, std::mt19937& random) {
  if (random() % 8 == 0) return be_refused(s.path);
  vit_model* own = nullptr;
  const vit_model_options options = {sizeof options, random() % 4 == 0};
  if (random() % 2) require(!vit_model_open(s.path.c_str(), &options, &own), "cannot open a model");
  const vit_session_options how = {sizeof how, 1 + static_cast<int>(random() % 2), kBatch,
                                   random() % 4 ? nullptr : "scalar"};
  vit_session* session = nullptr;
  require(!vit_session_create(own ? own : s.model, &how, &session), "cannot create a session");
  const bool early = random() % 2;
  if (early) vit_model_close(own);  // the session keeps it
  for (unsigned runs = random() % 4 + 1; runs > 0; runs--)
    run(s, session, 1 + static_cast<int>(random() % kBatch));
  vit_session_free(session);
  if (!early) vit_model_close(own);
}

size_t descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count++;
  return count;
}

size_t resident_bytes() {
  size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// All workers for `lives` lives each.
void round_of_load(const std::vector<Subject>& subjects, unsigned seed, int lives) {
  std::vector<std::thread> workers;
  for (unsigned w = 0; w < kWorkers; w++)
    workers.emplace_back([&, w] {
      std::mt19937 random(seed * kWorkers + w);
      for (int i = 0; i < lives; i++) one_life(subjects[random() % subjects.size()], random);
    });
  for (std::thread& worker : workers) worker.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("usage: vitrun_soak SECONDS MODEL.qbin...\n", stderr), 2;
  const std::chrono::duration<double> seconds(std::atof(argv[1]));
  std::vector<Subject> subjects;
  for (int i = 2; i < argc; i++) subjects.push_back(prepare(argv[i]));
  const size_t open_files = descriptors();
  std::vector<size_t> memory;
  const auto begin = std::chrono::steady_clock::now();
  unsigned rounds = 0;
  do {
    round_of_load(subjects, rounds++, kLives);
    memory.push_back(resident_bytes());
    if (descriptors() != open_files)
      fail("descriptors leak: " + std::to_string(descriptors()) + ", at first " +
           std::to_string(open_files));
  } while (std::chrono::steady_clock::now() - begin < seconds || rounds < 12);
  for (const Subject& s : subjects) vit_model_close(s.model);

  // Warm after a quarter; the last quarter may not reach above the second.
  const auto quarter = static_cast<ptrdiff_t>(memory.size() / 4);
  const size_t warm = *std::max_element(memory.begin() + quarter, memory.begin() + 2 * quarter);
  const size_t last = *std::max_element(memory.end() - quarter, memory.end());
  std::printf(
      "%u rounds, %u lives of models and sessions; %zu descriptors throughout; RSS %.1f MB after a "
      "quarter, %.1f MB in the last\n",
      rounds, rounds * kWorkers * kLives, open_files, static_cast<double>(warm) / 1e6,
      static_cast<double>(last) / 1e6);
  if (kMemoryCounts && last > warm + kSlack) fail("memory grows");
  return 0;
}
