#include "runtime/threads.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "models/base/error.h"
#include "runtime/cpus.h"

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

int spins_of(int threads) {
  return threads > 1 && threads <= available_cpus() ? kSpins : 0;
}

// Waits until `value` differs from `old`: spins, then sleeps in the kernel.
template <class T>
void wait_change(const std::atomic<T>& value, T old, int spins) {
  for (int i = 0; i < spins; i++) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(threads), spins_(spins_of(threads)), owner_(getpid()) {
  if (threads < 1) fail("a thread pool needs at least one thread, got ", threads);
  workers_.reserve(static_cast<size_t>(threads - 1));
  start();
}

ThreadPool::~ThreadPool() {
  if (!forked()) join();
}

void* ThreadPool::begin(void* worker) {
  const Worker& w = *static_cast<Worker*>(worker);
  w.pool->work(w.thread, w.seen);
  return nullptr;
}

// Workers find their fields in workers_, which never moves: its room was reserved.
void ThreadPool::start() {
  const uint32_t seen = generation_.load(std::memory_order_relaxed);
  for (int i = 1; i < size_; i++) {
    Worker& worker = workers_.emplace_back(Worker{this, i, seen, pthread_t{}});
    const int error = pthread_create(&worker.id, nullptr, begin, &worker);
    if (error == 0) continue;
    workers_.pop_back();
    join();
    throw SystemError(cat("cannot start ", size_, " threads: ", std::strerror(error)));
  }
}

void ThreadPool::revive() {
  if (size_ == 1 || !forked()) return;
  if (busy_.load())
    throw SystemError("it was running in the parent when the process forked: make a new one");
  workers_.clear();
  stop_.store(false);
  start();
  owner_ = getpid();
}

void ThreadPool::join() {
  stop_.store(true, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (const Worker& w : workers_) pthread_join(w.id, nullptr);
  workers_.clear();
}

void ThreadPool::call(int thread) noexcept {
  try {
    entry_(context_, thread);
  } catch (...) {
    if (!failed_.exchange(true)) error_ = std::current_exception();
  }
}

void ThreadPool::run(const void* context, Entry entry) {
  if (size_ == 1) return entry(context, 0);
  context_ = context;
  entry_ = entry;
  busy_.store(true, std::memory_order_relaxed);
  running_.store(size_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  call(0);
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;)
    wait_change(running_, left, spins_);
  busy_.store(false, std::memory_order_relaxed);
  if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(int thread, uint32_t seen) {
  for (;;) {
    wait_change(generation_, seen, spins_);
    seen++;
    if (stop_.load(std::memory_order_acquire)) return;
    call(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void Barrier::wait() {
  if (threads_ == 1) return;
  const uint32_t round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_)
    return wait_change(round_, round, spins_);
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
