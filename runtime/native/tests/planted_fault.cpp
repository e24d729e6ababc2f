// Faults that a sanitizer must find, inside the library: its functions called against their contract.
#include <string>
#include <thread>

#include "batches.hpp"
#include "result.hpp"

namespace {

// Rows that a tensor does not have are read.
int read_past_the_end() {
  const effbert::detail::Library &library = effbert::detail::Library::load(FAKE_ONNXRUNTIME);
  const effbert::detail::Value value(library, effbert::detail::DType::int64, {2, 8});
  return static_cast<int>(packed(library, value, {40}, 0, 8).shape()[0]);
}

// Where a row begins does not fit into an int64.
int overflow() {
  const std::int64_t huge = std::int64_t{1} << 40;
  const effbert::detail::Batch batch{1, huge, {{1}}};
  return static_cast<int>(rows_of(batch, {{huge}, 1}).rows);
}

// Two threads write a result at the same time.
int race() {
  const effbert::detail::Library &library = effbert::detail::Library::load(FAKE_ONNXRUNTIME);
  const effbert::detail::Value value(library, effbert::detail::DType::float32, {64, 64});
  std::vector<float> target(64 * 64);
  const auto write = [&] {
    for (std::size_t row = 0; row < 64; ++row) effbert::detail::copy_row(value, row, target, {64, 64}, row);
  };
  std::thread other(write);
  write();
  other.join();
  return 0;
}

}  // namespace

int main(int, char **arguments) {
  const std::string fault = arguments[1];
  return fault == "address" ? read_past_the_end() : fault == "thread" ? race() : overflow();
}
