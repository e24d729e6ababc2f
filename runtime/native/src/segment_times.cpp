#include "segment_times.hpp"

#include <algorithm>
#include <cmath>

namespace effbert::detail {
namespace {

constexpr double kept = 0.95;      // of the weight of a call after each later one
constexpr double farthest = 4;     // times the expected seconds: what a single call may claim
constexpr double quick = 0.2;      // how far the pace of the machine follows a call, as a power
constexpr double slow = 0.05;      // how far a segment's own factor follows a call
constexpr double separate = 1e-4;  // less of a spread in FLOPs does not tell a from b
constexpr double shortest = 1e-9;  // seconds

// Solves for a and b, neither below 0; a is 0 while the calls had much the same FLOPs.
std::array<double, 2> fitted(const std::array<double, 5> &sums) {
  const auto [uu, uv, vv, u, v] = sums;
  const double determinant = uu * vv - uv * uv;
  if (determinant > separate * uu * vv) {
    const double a = (u * vv - v * uv) / determinant, b = (v * uu - u * uv) / determinant;
    if (a >= 0 && b >= 0) return {a, b};
    if (b < 0) return {u / uu, 0};
  }
  return {0, v / vv};
}

}  // namespace

SegmentTimes::SegmentTimes(const std::vector<Segment> &segments) : factors_(segments.size(), 1.0) {
  for (const Segment &segment : segments) flops_.push_back(segment.flops);
}

bool SegmentTimes::fits(std::size_t segment, std::int64_t rows, std::int64_t length,
                        double seconds) const {
  if (seconds <= 0) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  return !line_ || predicted(segment, work(segment, rows, length)) <= seconds;
}

void SegmentTimes::learn(std::size_t segment, std::int64_t rows, std::int64_t length, double took) {
  double seconds = std::max(took, shortest);
  const double flops = work(segment, rows, length);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (line_) {
    const double expected = std::max(predicted(segment, flops), shortest);
    const double share = std::clamp(seconds / expected, 1 / farthest, farthest);
    pace_ *= std::pow(share, quick);
    // Its own factor follows; all together stay 1 on (geometric) average.
    const double change = std::pow(share, slow);
    const double others = std::pow(change, 1.0 / static_cast<double>(factors_.size()));
    for (double &factor : factors_) factor /= others;
    factors_[segment] *= change;
    seconds = share * expected / pace_;
  }
  // Relative to the whole: a times u plus b times v should be 1.
  const double u = factors_[segment] / seconds, v = flops * factors_[segment] / seconds;
  const std::array<double, 5> added = {u * u, u * v, v * v, u, v};
  for (std::size_t i = 0; i < added.size(); ++i) sums_[i] = kept * sums_[i] + added[i];
  line_ = fitted(sums_);
}

double SegmentTimes::work(std::size_t segment, std::int64_t rows, std::int64_t length) const {
  const auto [constant, linear, quadratic] = flops_[segment];
  const double n = static_cast<double>(length);
  const double row = static_cast<double>(constant) +
                     (static_cast<double>(linear) + static_cast<double>(quadratic) * n) * n;
  return std::max(1.0, static_cast<double>(rows) * row);
}

double SegmentTimes::predicted(std::size_t segment, double work) const {
  const auto [a, b] = *line_;
  return pace_ * factors_[segment] * (a + b * work);
}

}  // namespace effbert::detail
