// vitbench page prints one page about a machine: its hardware, and how fast whole models run on it.
#include <sys/utsname.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/vitbench/vitbench.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

// The text after the colon in the first line of a file that begins with `key`, or "" if none does.
std::string field(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const size_t first = line.find_first_not_of(" \t", colon + 1);
    return first == std::string::npos ? "" : line.substr(first);
  }
  return "";
}

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line.substr(0, line.find('\0'));  // device-tree strings end with '\0'
}

// The highest frequency of CPU 0 in MHz, or 0 if the system does not tell.
double frequency() {
  if (const std::string khz = first_line("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
      !khz.empty())
    return std::atof(khz.c_str()) / 1000;
  return std::atof(field("/proc/cpuinfo", "cpu MHz").c_str());
}

}  // namespace

std::string cpu_name() {
  for (const char* key : {"model name", "Model", "Hardware"})
    if (const std::string name = field("/proc/cpuinfo", key); !name.empty()) return name;
  if (const std::string board = first_line("/proc/device-tree/model"); !board.empty()) return board;
  return "CPU part " + field("/proc/cpuinfo", "CPU part");
}

int bench_page(const BenchOptions& options) {
  utsname system{};
  uname(&system);
  const std::string memory = field("/proc/meminfo", "MemTotal");
  const nlohmann::ordered_json j = {{"cpu", cpu_name()},
                                    {"cpus", std::thread::hardware_concurrency()},
                                    {"mhz", std::lround(frequency())},
                                    {"memory_mb", std::lround(std::atof(memory.c_str()) / 1024)},
                                    {"machine", system.machine},
                                    {"system", std::string(system.sysname) + " " + system.release},
                                    {"isas", isa_names()}};
  if (options.json)
    std::printf("%s\n", j.dump().c_str());
  else
    for (const auto& [key, value] : j.items())
      std::printf("%-10s %s\n", key.c_str(),
                  value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  BenchOptions models = options;
  models.archs = {"deit_tiny_patch16_224", "deit_small_patch16_224",
                  "swin_tiny_patch4_window7_224"};
  return bench_model(models);
}

}  // namespace vitrun
