// The CPUs that a process may use. The files are those that Linux' documentation shows
// (cgroup-v2.rst, sched-bwc.rst).
#include <sched.h>

#include <cmath>

#include "runtime/cpus.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;

namespace {

void write(const TempFolder& folder, const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(folder / path).parent_path());
  folder.file(path, text);
}

}  // namespace

TEST_CASE("quotas of control groups, version 2: the least of a group and those above") {
  const TempFolder mount;
  const std::string root = mount / "";
  CHECK(cpu_quota("0::/a/b\n", root) == double{INFINITY});
  write(mount, "a/b/cpu.max", "max 100000\n");
  CHECK(cpu_quota("0::/a/b\n", root) == double{INFINITY});
  write(mount, "a/cpu.max", "250000 100000\n");
  CHECK(cpu_quota("0::/a/b\n", root) == 2.5);
  write(mount, "a/b/cpu.max", "50000 100000\n");
  CHECK(cpu_quota("0::/a/b\n", root) == 0.5);
  CHECK(cpu_quota("0::/c\n", root) == double{INFINITY});
  write(mount, "cpu.max", "300000 100000\n");  // a container's own group
  CHECK(cpu_quota("0::/\n", root) == 3);
  CHECK(cpu_quota("0::/elsewhere/on/the/host\n", root) == 3);
}

TEST_CASE("quotas of control groups, version 1") {
  const TempFolder mount;
  const std::string root = mount / "", lines = "5:memory:/x\n4:cpu,cpuacct:/a\n";
  write(mount, "cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
  write(mount, "cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  CHECK(cpu_quota(lines, root) == double{INFINITY});
  write(mount, "cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
  CHECK(cpu_quota(lines, root) == 1.5);
  CHECK(cpu_quota("5:cpuset:/a\nnonsense\n", root) == double{INFINITY});
}

TEST_CASE("as many CPUs as the affinity has, at most") {
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(available_cpus() >= 1);
  CHECK(available_cpus() <= CPU_COUNT(&before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(available_cpus() == 1);
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
}
