#include "threads.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace effbert::detail {
namespace {

std::string first_line(const std::string &file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The cores of the machine, of which each may be several CPUs; 0 if it does not say.
int physical_cores() {
  std::set<std::string> cores;
  const int most = static_cast<int>(std::thread::hardware_concurrency()) * 2 + 64;
  for (int cpu = 0; cpu < most; ++cpu) {
    const std::string siblings = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                            "/topology/thread_siblings_list");
    if (!siblings.empty()) cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

int allowed_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

// The time of CPUs that a group grants; none if it has no limit.
std::optional<double> quota(const std::string &group) {
  std::istringstream both(first_line(group + "/cpu.max"));
  std::string granted, period;
  if (!(both >> granted >> period)) {
    granted = first_line(group + "/cpu.cfs_quota_us");
    period = first_line(group + "/cpu.cfs_period_us");
  }
  const double a = std::strtod(granted.c_str(), nullptr), b = std::strtod(period.c_str(), nullptr);
  if (a > 0 && b > 0) return a / b;
  return std::nullopt;
}

// The folders of the groups of this process and of those above, where they are usually mounted. In
// a container the mounted root is the own group.
std::vector<std::string> groups() {
  std::vector<std::string> found;
  std::ifstream stream("/proc/self/cgroup");
  for (std::string line; std::getline(stream, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string root = "/sys/fs/cgroup";
    if (controllers != ",,") {
      if (controllers.find(",cpu,") == std::string::npos) continue;
      root += "/cpu";
    }
    std::string path = line.substr(second + 1);
    while (path.size() > 1) {
      found.push_back(root + path);
      path.resize(std::min(path.rfind('/'), path.size() - 1));
    }
    found.push_back(root);
  }
  return found;
}

}  // namespace

int usual_threads() {
  int threads = allowed_cpus();
  if (const int cores = physical_cores()) threads = std::min(threads, cores);
  for (const std::string &group : groups()) {
    if (const auto granted = quota(group)) {
      threads = std::min(threads, static_cast<int>(std::ceil(*granted)));
    }
  }
  return std::max(threads, 1);
}

}  // namespace effbert::detail
