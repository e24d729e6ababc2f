// Handles that callers hold instead of pointers: one that is null, closed or of something else is
// known as such, and nothing is looked at through it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "run_errors.hpp"

namespace effbert::detail {

// The things of one kind that callers hold. `Handle` is the opaque type of the C header.
template <typename Handle, typename T>
class Handles {
 public:
  // `tag`, below 8, tells kinds apart; `kind` names them in messages.
  Handles(std::uintptr_t tag, const char *kind) : next_(8 | tag), kind_(kind) {}

  Handle *add(std::shared_ptr<T> thing) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::uintptr_t number = next_;
    next_ += 8;  // no number is used twice
    things_.emplace(number, std::move(thing));
    return reinterpret_cast<Handle *>(number);
  }

  // Throws BadHandleError.
  std::shared_ptr<T> get(const Handle *handle) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return find(handle)->second;
  }

  std::shared_ptr<T> remove(const Handle *handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(handle);
    std::shared_ptr<T> thing = std::move(found->second);
    things_.erase(found);
    return thing;
  }

 private:
  using Things = std::unordered_map<std::uintptr_t, std::shared_ptr<T>>;

  typename Things::iterator find(const Handle *handle) const {
    const auto found = things_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (found != things_.end()) return found;
    throw BadHandleError(std::string("This is no ") + kind_ +
                         (handle ? ": it was closed, or is something else." : ": it is null."));
  }

  mutable std::mutex mutex_;
  mutable Things things_;
  std::uintptr_t next_;
  const char *kind_;
};

}  // namespace effbert::detail
