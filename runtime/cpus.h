// How many CPUs this process may use.
#pragma once

#include <string>

namespace vitrun {

// Returns the number of CPUs of the process's affinity, and no more than the quotas of its cgroup
// and those above it give it time for; at least 1. It reads small files of the system each time.
int available_cpus();

// Returns the CPUs' worth of time that the control groups of `membership` (as /proc/self/cgroup
// lists them, of version 1 or 2, mounted at `mount`) allow; infinity if they set no quota.
double cpu_quota(const std::string& membership, const std::string& mount);

}  // namespace vitrun
