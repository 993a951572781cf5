#include "runtime/threads.h"

#include <algorithm>
#include <system_error>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr int kSpins = 2000;  // takes longer than the gap between two nodes

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` differs from `old`: spins, then sleeps in the kernel.
template <class T>
void wait_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; i++) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(threads) {
  if (threads < 1) fail("a thread pool needs at least one thread, got ", threads);
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back(&ThreadPool::work, this, i);
  } catch (const std::system_error& e) {
    join();
    throw SystemError(cat("cannot start ", threads, " threads: ", e.what()));
  }
}

ThreadPool::~ThreadPool() {
  join();
}

void ThreadPool::join() {
  stop_.store(true, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& w : workers_) w.join();
  workers_.clear();
}

void ThreadPool::run(const void* context, Entry entry) {
  context_ = context;
  entry_ = entry;
  running_.store(size_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  if (size_ > 1) generation_.notify_all();
  entry(context, 0);
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;)
    wait_change(running_, left);
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    wait_change(generation_, seen);
    seen++;
    if (stop_.load(std::memory_order_acquire)) return;
    entry_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void Barrier::wait() {
  if (threads_ == 1) return;
  const uint32_t round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_)
    return wait_change(round_, round);
  arrived_.store(0, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
}

Range share(int64_t count, int thread, int threads, int64_t grain) {
  const int64_t blocks = (count + grain - 1) / grain;
  auto cut = [&](int64_t i) { return std::min(count, blocks * i / threads * grain); };
  return {cut(thread), cut(thread + 1)};
}

}  // namespace vitrun
