// Stopping a run: by the caller, from any thread, or at a deadline.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <set>

#include "graph.hpp"

namespace effbert::detail {

// Stops every call that holds it; once used it stays cancelled.
class Cancel {
 public:
  void cancel();
  bool cancelled() const;
  void check() const;  // throws CancelledError if `cancel` was called

 private:
  friend class Stoppable;
  mutable std::mutex mutex_;
  bool cancelled_ = false;
  std::set<RunOptions *> running_;
};

// Options of a call that `cancel`, which may be null, stops while this lives.
class Stoppable {
 public:
  Stoppable(const Engine &engine, Cancel *cancel);
  ~Stoppable();
  Stoppable(const Stoppable &) = delete;
  Stoppable &operator=(const Stoppable &) = delete;

  const RunOptions &options() const { return own_ ? *own_ : engine_.quiet(); }
  void check() const {
    if (cancel_ != nullptr) cancel_->check();
  }

 private:
  const Engine &engine_;
  Cancel *cancel_;
  std::optional<RunOptions> own_;
};

// A moment so many milliseconds from now; a negative number never comes.
class Deadline {
 public:
  explicit Deadline(double milliseconds);  // throws InputError for NaN
  bool never() const { return !moment_; }
  double left() const;  // seconds; below 0 if it is over

 private:
  std::optional<std::chrono::steady_clock::time_point> moment_;
};

}  // namespace effbert::detail
