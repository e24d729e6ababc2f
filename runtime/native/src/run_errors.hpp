// What may go wrong once a bundle was read.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace effbert::detail {

// Answers of some rows are not finite.
class NumericalError : public std::runtime_error {
 public:
  NumericalError(const std::vector<std::int64_t> &which, const std::string &why)
      : std::runtime_error(sentence(which, why)), rows(which), reason(why) {}

  std::vector<std::int64_t> rows;
  std::string reason;

 private:
  static std::string sentence(const std::vector<std::int64_t> &which, const std::string &why) {
    std::string text = "Rows [";
    for (std::size_t i = 0; i < which.size(); ++i) text += (i ? ", " : "") + std::to_string(which[i]);
    return text + "] have " + why;
  }
};

struct CancelledError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Memory ran out.
struct ResourceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// onnxruntime refused a segment, or failed.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// onnxruntime cannot be loaded, or is too old.
struct MissingLibraryError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct BadHandleError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace effbert::detail
