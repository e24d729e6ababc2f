#include "stopping.hpp"

#include <algorithm>
#include <cmath>

#include "run_errors.hpp"

namespace effbert::detail {

void Cancel::cancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  cancelled_ = true;
  for (RunOptions *options : running_) options->stop();
}

bool Cancel::cancelled() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_;
}

void Cancel::check() const {
  if (cancelled()) throw CancelledError("The run was cancelled by the caller.");
}

Stoppable::Stoppable(const Engine &engine, Cancel *cancel) : engine_(engine), cancel_(cancel) {
  if (cancel == nullptr) return;
  own_.emplace(engine.library());
  const std::lock_guard<std::mutex> lock(cancel->mutex_);
  cancel->running_.insert(&*own_);
}

Stoppable::~Stoppable() {
  if (cancel_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(cancel_->mutex_);
  cancel_->running_.erase(&*own_);
}

Deadline::Deadline(double milliseconds) {
  if (std::isnan(milliseconds)) throw InputError("deadline_ms: got nan, expected milliseconds.");
  constexpr double longest = 1e12;  // 30 years, which a clock can count
  if (milliseconds < 0 || milliseconds > longest) return;
  moment_ = std::chrono::steady_clock::now() +
            std::chrono::nanoseconds(static_cast<std::int64_t>(milliseconds * 1e6));
}

double Deadline::left() const {
  if (!moment_) return HUGE_VAL;
  return std::chrono::duration<double>(*moment_ - std::chrono::steady_clock::now()).count();
}

}  // namespace effbert::detail
