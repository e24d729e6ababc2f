#include "batches.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace effbert::detail {
namespace {

void split(std::vector<Part> &parts, const std::vector<std::int64_t> &rows, std::int64_t length,
           std::int64_t max_tokens) {
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(1, max_tokens / length));
  for (std::size_t start = 0; start < rows.size(); start += size) {
    const std::size_t end = std::min(rows.size(), start + size);
    parts.push_back({{rows.begin() + static_cast<std::ptrdiff_t>(start),
                      rows.begin() + static_cast<std::ptrdiff_t>(end)},
                     length});
  }
}

std::map<std::int64_t, std::vector<std::int64_t>> equal_lengths(
    const Batch &batch, const std::vector<std::int64_t> &mask, std::int64_t shortest) {
  std::map<std::int64_t, std::vector<std::int64_t>> groups;
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const auto begin = mask.begin() + row * batch.length, end = begin + batch.length;
    const auto padding = std::find(begin, end, 0);
    if (std::find(padding, end, 1) != end) {
      throw InputError(
          "Input 'attention_mask': this model computes padding too, so rows are run at their own "
          "length; expected ones followed by zeros in every row.");
    }
    groups[padding - begin].push_back(row);
  }
  if (!groups.empty() && groups.begin()->first < shortest) {
    throw InputError("Input 'attention_mask': row " + std::to_string(groups.begin()->second[0]) +
                     " has " + std::to_string(groups.begin()->first) + " tokens, expected " +
                     std::to_string(shortest) + " or more.");
  }
  return groups;
}

}  // namespace

std::vector<Part> split_batch(const Batch &batch, std::size_t mask, const SplitRules &rules) {
  std::vector<Part> parts;
  if (rules.padding_free) {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(batch.rows));
    std::iota(rows.begin(), rows.end(), 0);
    split(parts, rows, batch.length, rules.max_tokens);
    return parts;
  }
  for (const auto &[length, rows] : equal_lengths(batch, batch.columns[mask], rules.shortest)) {
    split(parts, rows, length, rules.max_tokens);
  }
  return parts;
}

Batch rows_of(const Batch &batch, const Part &part) {
  Batch taken;
  taken.rows = static_cast<std::int64_t>(part.rows.size());
  taken.length = part.length;
  for (const std::vector<std::int64_t> &column : batch.columns) {
    std::vector<std::int64_t> &values = taken.columns.emplace_back();
    values.reserve(part.rows.size() * static_cast<std::size_t>(part.length));
    for (const std::int64_t row : part.rows) {
      const auto begin = column.begin() + row * batch.length;
      values.insert(values.end(), begin, begin + part.length);
    }
  }
  return taken;
}

std::vector<std::vector<std::size_t>> by_length(const std::vector<std::size_t> &lengths,
                                                std::size_t rows) {
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lengths[a] < lengths[b]; });
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i % rows == 0) groups.emplace_back();
    groups.back().push_back(order[i]);
  }
  return groups;
}

}  // namespace effbert::detail
