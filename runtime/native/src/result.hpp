// What a call returns, and how the answers of rows that leave get there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "value.hpp"

namespace effbert::detail {

// One answer of the model: float32 [rows, ...]; columns that are padding may be zeros.
struct Output {
  std::string name;
  Shape shape;
  std::vector<float> values;
};

// Row i answers row i of the inputs.
struct Result {
  // Makes room for so many rows of so many tokens.
  Result(std::shared_ptr<const Bundle> opened, std::int64_t row_count, std::int64_t tokens);

  std::shared_ptr<const Bundle> bundle;
  std::int64_t rows, length;
  std::vector<Output> outputs;        // in the order of the manifest
  std::vector<std::int64_t> exits;    // 0-based index of the exit in the chain
  std::vector<std::int64_t> layers;   // 1-based encoder layer; [rows, length] if tokens exit alone
  std::vector<float> signals;         // what the exit policy compared
  std::vector<std::uint8_t> flags;    // EFFBERT_TRUNCATED, EFFBERT_DEADLINE
};

// Whether tokens exit one by one.
bool tokens_exit(const Manifest &manifest);
// A tensor that segments give under this name.
const Tensor &output_tensor(const Manifest &manifest, const std::string &name);

// Copies row `from` of a value to row `to` of an array of this shape; the value may have fewer columns.
template <typename T>
void copy_row(const Value &value, std::size_t from, std::vector<T> &target, const Shape &shape,
              std::size_t to) {
  const std::size_t have = product(value.shape(), 1), room = product(shape, 1);
  const T *source = value.data<T>() + from * have;
  std::copy(source, source + std::min(have, room), target.begin() + static_cast<std::ptrdiff_t>(to * room));
}

}  // namespace effbert::detail
