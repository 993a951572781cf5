#include "runtime/cpus.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace vitrun {
namespace {

// The content of a small file of the system; "" where it cannot be read.
std::string read_small(const std::string& path) {
  std::string text(4096, 0);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? 0 : read(fd, text.data(), text.size());
  if (fd >= 0) close(fd);
  text.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return text;
}

// The quota that one folder of a control group sets: "cpu.max" of version 2 has "max 100000" or
// "150000 100000"; version 1 has a file for either number, and -1 for none.
double quota_in(const std::string& folder) {
  std::string numbers = read_small(folder + "/cpu.max");
  if (numbers.empty())
    numbers =
        read_small(folder + "/cpu.cfs_quota_us") + " " + read_small(folder + "/cpu.cfs_period_us");
  char* end = nullptr;
  const double time = std::strtod(numbers.c_str(), &end);  // "max" becomes 0
  const double period = std::strtod(end, nullptr);
  return time > 0 && period > 0 ? time / period : double{INFINITY};
}

// The least quota of a group below `mount` and all groups above it.
double least_quota(const std::string& mount, std::string group) {
  double least = quota_in(mount);
  for (; group.size() > 1;
       group.resize(group.find_last_of('/') == group.npos ? 0 : group.rfind('/')))
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
  std::string_view rest = membership;
  while (!rest.empty()) {  // "0::/a/b" or "4:cpu,cpuacct:/a/b"
    const std::string line(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
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
  const double quota = cpu_quota(read_small("/proc/self/cgroup"), "/sys/fs/cgroup");
  const int cpus = std::max(affinity(), 1);
  return quota < cpus ? std::max(static_cast<int>(quota), 1) : cpus;
}

}  // namespace vitrun
