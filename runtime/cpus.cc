#include "runtime/cpus.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

namespace vitrun {
namespace {

// The quota that one folder of a control group sets: "cpu.max" of version 2 has "max 100000" or
// "150000 100000"; version 1 has a file for either number, and -1 for none.
double quota_in(const std::string& folder) {
  std::string quota;
  double period = 0;
  std::ifstream both(folder + "/cpu.max");
  if (!(both >> quota >> period)) {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  const double time = std::strtod(quota.c_str(), nullptr);  // "max" becomes 0
  return time > 0 && period > 0 ? time / period : double{INFINITY};
}

// The least quota of a group below `mount` and all groups above it.
double least_quota(const std::string& mount, std::string group) {
  double least = quota_in(mount);
  for (; group.size() > 1; group.erase(std::max<size_t>(group.rfind('/'), 0)))
    least = std::min(least, quota_in(mount + group));
  return least;
}

int affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // of a system of over 1024
}

}  // namespace

double cpu_quota(const std::string& membership, const std::string& mount) {
  double least = INFINITY;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "0::/a/b" or "4:cpu,cpuacct:/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) least = std::min(least, least_quota(mount, group));
    if (("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    for (const std::string& name : {controllers, std::string("cpu")})
      least = std::min(least, least_quota(mount + "/" + name, group));
  }
  return least;
}

int available_cpus() {
  std::ifstream file("/proc/self/cgroup");
  std::stringstream membership;
  membership << file.rdbuf();
  const double quota = cpu_quota(membership.str(), "/sys/fs/cgroup");
  const int cpus = std::max(affinity(), 1);
  return quota < cpus ? std::max(static_cast<int>(quota), 1) : cpus;
}

}  // namespace vitrun
