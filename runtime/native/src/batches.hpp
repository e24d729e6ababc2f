// Which rows run together: few enough for the memory, equally long where padding is seen.
#pragma once

#include <vector>

#include "inputs.hpp"

namespace effbert::detail {

// Rows of a batch that run together, and how many of their columns.
struct Part {
  std::vector<std::int64_t> rows;
  std::int64_t length = 0;
};

struct SplitRules {
  bool padding_free = true;      // if not, rows of equal length run together, without padding
  std::int64_t max_tokens = 0;   // of a part, padding included; it has one row at least
  std::int64_t shortest = 2;     // tokens that a row must have where padding is left out
};

// Throws InputError if padding would be seen and is not at the end of the rows, or a row is too short.
std::vector<Part> split_batch(const Batch &batch, std::size_t mask, const SplitRules &rules);

// The inputs of some rows.
Batch rows_of(const Batch &batch, const Part &part);

// Indices of rows in groups of similar length, the shortest first.
std::vector<std::vector<std::size_t>> by_length(const std::vector<std::size_t> &lengths,
                                                std::size_t rows);

}  // namespace effbert::detail
