// A pool of threads: the caller and size - 1 workers. Workers spin briefly for the next task, then
// sleep. Where there are more threads than CPUs (cpus.h) they sleep at once, since the one that
// they wait for may need the CPU.
//
// fork() copies a pool without its workers: revive() starts them anew in the child.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <vector>

namespace vitrun {

class ThreadPool {
 public:
  // threads must be at least 1. Fails if the system refuses a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  int spins() const { return spins_; }  // looks at a flag before a thread sleeps

  // Makes the pool usable in a child of fork(); does nothing elsewhere. Fails if the system refuses
  // a thread, or if a task was being run when the process forked.
  void revive();

  // Calls task(thread) once on each thread 0..size-1, where 0 is the caller, and returns when all
  // are done. Allocates nothing. Only one run may go on at a time; the task must not call run. What
  // a task throws ends its thread's share alone: run() throws the first of it when all are done.
  template <class Task>
  void run(const Task& task) {
    run(&task,
        [](const void* context, int thread) { (*static_cast<const Task*>(context))(thread); });
  }

 private:
  using Entry = void (*)(const void*, int);
  struct Worker {
    ThreadPool* pool;
    int thread;
    uint32_t seen;  // the generation at its start
    pthread_t id;
  };
  static void* begin(void* worker);
  void start();
  void run(const void* context, Entry entry);
  void work(int thread, uint32_t seen);
  void call(int thread) noexcept;
  void join();
  bool forked() const { return owner_ != getpid(); }

  int size_;
  int spins_;
  pid_t owner_;  // the process whose threads the workers are
  const void* context_ = nullptr;
  Entry entry_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // a new value starts a task
  std::atomic<int> running_{0};          // workers that have not finished the task
  std::atomic<bool> stop_{false};
  std::atomic<bool> busy_{false};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;     // written by the first thread that fails
  std::vector<Worker> workers_;  // no std::thread, which a child of fork() could not let go
};

// Holds each thread of a pool in wait() until all have called it. It may be used any number of
// times.
class Barrier {
 public:
  explicit Barrier(const ThreadPool& pool) : threads_(pool.size()), spins_(pool.spins()) {}
  void wait();

 private:
  int threads_, spins_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> round_{0};
};

struct Range {
  int64_t begin, end;
};
// Returns the items [begin, end) of `count` that fall to a thread, in multiples of `grain`. Shares
// are contiguous and depend on (count, threads) alone, so a core goes on with rows that it
// produced.
Range share(int64_t count, int thread, int threads, int64_t grain = 1);

}  // namespace vitrun
