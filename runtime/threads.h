// A pool of threads: the caller and size - 1 workers, which spin briefly for the next task and then
// sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace vitrun {

class ThreadPool {
 public:
  // threads >= 1; fails if the system refuses a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls task(thread) once on each thread 0..size-1, 0 being the caller, and returns when all are
  // done. One run at a time; the task must not throw and must not call run. No allocation.
  template <class Task>
  void run(const Task& task) {
    run(&task,
        [](const void* context, int thread) { (*static_cast<const Task*>(context))(thread); });
  }

 private:
  using Entry = void (*)(const void*, int);
  void run(const void* context, Entry entry);
  void work(int thread);
  void join();

  int size_;
  const void* context_ = nullptr;
  Entry entry_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // a new value starts a task
  std::atomic<int> running_{0};          // workers still busy with it
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// All threads of a pool meet here; as often as wanted.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait();

 private:
  int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> round_{0};
};

// The part [begin, end) of `count` items, in multiples of `grain`, that falls to a thread. Parts
// are contiguous and fixed by (count, threads): a core goes on with the rows it produced.
struct Range {
  int64_t begin, end;
};
Range share(int64_t count, int thread, int threads, int64_t grain = 1);

}  // namespace vitrun
