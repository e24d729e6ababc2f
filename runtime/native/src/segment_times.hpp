// How long the next segments will take, learned from those that ran under a deadline.
//
// runtime/chain/segment_times.py explains the model: a + b * FLOPs, times a factor of each segment,
// times the pace of the machine.
#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <vector>

#include "manifest.hpp"

namespace effbert::detail {

// Predicts and learns seconds; any number of threads may use it together.
class SegmentTimes {
 public:
  explicit SegmentTimes(const std::vector<Segment> &segments);

  // Whether a segment ends within so many seconds; yes while nothing is known and any are left.
  bool fits(std::size_t segment, std::int64_t rows, std::int64_t length, double seconds) const;
  // Takes note of what a segment took.
  void learn(std::size_t segment, std::int64_t rows, std::int64_t length, double seconds);

 private:
  double work(std::size_t segment, std::int64_t rows, std::int64_t length) const;
  double predicted(std::size_t segment, double work) const;

  mutable std::mutex mutex_;
  std::vector<std::array<std::int64_t, 3>> flops_;
  std::vector<double> factors_;
  double pace_ = 1;
  std::array<double, 5> sums_{};
  std::optional<std::array<double, 2>> line_;
};

}  // namespace effbert::detail
