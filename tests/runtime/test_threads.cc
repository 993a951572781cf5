// The thread pool, the barrier and the split of the work.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <optional>

#include "models/base/error.h"
#include "runtime/threads.h"

namespace vitrun {
namespace {

TEST_CASE("every thread runs every task once") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    std::vector<int> runs(static_cast<size_t>(threads));
    for (int i = 0; i < 1000;
         i++)  // also through the workers' sleep: the first ones find them spinning
      pool.run([&](int thread) { runs[static_cast<size_t>(thread)]++; });
    for (int r : runs) CHECK(r == 1000);
  }
}

TEST_CASE("a task's writes are seen by the caller and by the next task") {
  ThreadPool pool(3);
  std::vector<int> a(300), b(300);
  for (int round = 0; round < 200; round++) {
    pool.run([&](int t) {
      const Range r = share(300, t, 3);
      for (int64_t i = r.begin; i < r.end; i++) a[static_cast<size_t>(i)] = round;
    });
    pool.run([&](int t) {
      const Range r = share(300, t, 3);
      for (int64_t i = r.begin; i < r.end; i++)
        b[static_cast<size_t>(i)] = a[static_cast<size_t>(299 - i)];
    });
    for (int x : b) REQUIRE(x == round);
  }
}

TEST_CASE("what a task throws comes out of run, and the pool goes on") {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int thrower = 0; thrower < threads; thrower++) {
      CHECK_THROWS_WITH_AS(pool.run([&](int t) {
        if (t == thrower) fail("thread ", t);
      }),
                           ("thread " + std::to_string(thrower)).c_str(), Error);
    }
    std::atomic<int> runs{0};
    pool.run([&](int) { runs++; });
    CHECK(runs == threads);
  }
}

TEST_CASE("nobody passes the barrier before all have reached it") {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  Barrier barrier(pool);
  std::atomic<int> arrived{0};
  std::atomic<bool> early{false};
  pool.run([&](int) {
    for (int round = 1; round <= 500; round++) {
      arrived.fetch_add(1);
      barrier.wait();
      if (arrived.load() < round * kThreads) early = true;
      barrier.wait();
    }
  });
  CHECK(!early);
  CHECK(arrived == 500 * kThreads);
}

#ifndef __SANITIZE_THREAD__  // which refuses threads in a child
// The exit status of a child that runs body(); 14 (SIGALRM) + 128 if it hangs.
template <class Body>
int in_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(body());
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_CASE("a pool works in a child of fork(), and goes there and in the parent") {
  if (*VITRUN_EMULATOR) return;  // qemu-user 7.2 aborts where a child of fork() starts threads
  for (int threads : {1, 3}) {
    std::optional<ThreadPool> pool(threads);
    std::atomic<int> runs{0};
    const auto count = [&](int) { runs++; };
    pool->run(count);
    CHECK(in_child([&] {
            pool->revive();
            pool->run(count);
            pool->run(count);
            pool.reset();
            return runs.load();
          }) == 3 * threads);
    CHECK(in_child([&] {
            pool.reset();  // without a run
            return 7;
          }) == 7);
    pool->revive();
    pool->run(count);
    CHECK(runs == 2 * threads);
  }
}

TEST_CASE("a pool that was running when the process forked says so in the child") {
  ThreadPool pool(2);
  int status = 0;
  pool.run([&](int thread) {
    if (thread == 0)
      status = in_child([&] {
        try {
          pool.revive();
        } catch (const SystemError&) {
          return 5;
        }
        return 6;
      });
  });
  CHECK(status == 5);
}
#endif

TEST_CASE("shares are contiguous, whole and in multiples of the grain") {
  for (int64_t count : {0, 1, 5, 16, 197, 1000})
    for (int threads : {1, 2, 3, 7})
      for (int64_t grain : {1, 4, 16}) {
        int64_t next = 0;
        for (int t = 0; t < threads; t++) {
          const Range r = share(count, t, threads, grain);
          CHECK(r.begin == next);
          CHECK((r.begin % grain == 0 || r.begin == count));
          next = r.end;
        }
        CHECK(next == count);
      }
}

TEST_CASE("a pool without threads is refused") {
  CHECK_THROWS_AS(ThreadPool(0), Error);
}

}  // namespace
}  // namespace vitrun
