#include "inputs.hpp"

#include <algorithm>

namespace effbert::detail {
namespace {

using Column = std::vector<std::int64_t>;

std::string place(std::size_t index, std::int64_t length) {
  const auto columns = static_cast<std::size_t>(length);
  return "[" + std::to_string(index / columns) + ", " + std::to_string(index % columns) + "]";
}

void check_mask(const Column &mask, std::int64_t rows, std::int64_t length) {
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] != 0 && mask[i] != 1) {
      throw InputError("Input 'attention_mask': got " + std::to_string(mask[i]) + " at " +
                       place(i, length) + ", expected 0 or 1.");
    }
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto begin = mask.begin() + row * length;
    if (std::find(begin, begin + length, 1) == begin + length) {
      throw InputError("Input 'attention_mask': row " + std::to_string(row) +
                       " has no 1, so there is nothing to read.");
    }
  }
}

// Pieces point back to a first piece; padding is put outside all words.
void check_words(Column &words, const Column &mask, std::int64_t length) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (mask[i] == 0) words[i] = no_word;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::int64_t word = words[i], column = static_cast<std::int64_t>(i) % length;
    if (word == no_word) continue;
    const std::size_t row = i - static_cast<std::size_t>(column);
    if (word < 0 || word > column || words[row + static_cast<std::size_t>(word)] != word) {
      throw InputError("Input 'word_map': got " + std::to_string(word) + " at " + place(i, length) +
                       ", expected the index of the word's first piece, which is its own, or -1 "
                       "outside words.");
    }
  }
}

}  // namespace

InputCheck::InputCheck(const Manifest &manifest) : manifest_(manifest) {
  for (const Input &input : manifest.inputs) names_.push_back(input.name);
  const auto found = std::find(names_.begin(), names_.end(), mask_name);
  mask_ = static_cast<std::size_t>(found - names_.begin());
  if (found == names_.end()) names_.push_back(mask_name);
}

Batch InputCheck::operator()(const GivenInputs &given) const {
  const Limits &limits = manifest_.limits;
  if (given.ids == nullptr && given.rows != 0) throw InputError("Input 'input_ids' is missing.");
  if (given.rows < 0 || given.rows > (std::int64_t{1} << 31)) {
    throw InputError("Input 'input_ids': got " + std::to_string(given.rows) + " rows.");
  }
  if (given.rows > 0 && (given.length < limits.min_length || given.length > limits.max_length)) {
    throw InputError("Input 'input_ids': got " + std::to_string(given.length) +
                     " tokens a row, expected integers [batch, " + std::to_string(limits.min_length) +
                     ".." + std::to_string(limits.max_length) + "]; " +
                     (given.length > limits.max_length
                          ? "cut the rows, or pass texts, which are truncated."
                          : "pad the rows."));
  }
  Batch batch;
  batch.rows = given.rows;
  batch.length = given.rows ? given.length : limits.min_length;
  for (std::size_t i = 0; i < names_.size(); ++i) batch.columns.push_back(column(i, given));
  if (given.rows == 0) return batch;
  const Column &mask = batch.columns[mask_];
  check_mask(mask, batch.rows, batch.length);
  for (std::size_t i = 0; i < names_.size(); ++i) {
    Column &values = batch.columns[i];
    if (names_[i] == ids_name) {
      check_range(ids_name, values, batch.length, limits.vocab_size, "token ids");
    } else if (names_[i] == types_name) {
      check_range(types_name, values, batch.length, std::max(1, limits.type_vocab_size), "token types");
    } else if (names_[i] == words_name) {
      check_words(values, mask, batch.length);
    }
  }
  return batch;
}

Column InputCheck::column(std::size_t index, const GivenInputs &given) const {
  const std::string &name = names_[index];
  const std::int64_t *data = name == ids_name     ? given.ids
                             : name == mask_name  ? given.mask
                             : name == types_name ? given.types
                             : name == words_name ? given.words
                                                  : nullptr;
  const auto size = static_cast<std::size_t>(given.rows * given.length);
  if (data != nullptr) return Column(data, data + size);
  const bool own_mask = index >= manifest_.inputs.size();  // the model reads none
  const std::optional<int> missing = own_mask ? 1 : manifest_.inputs[index].missing;
  if (!missing && given.rows > 0) throw InputError("Input '" + name + "' is missing.");
  return Column(size, missing.value_or(0));
}

void InputCheck::check_range(const std::string &name, const Column &values, std::int64_t length,
                             std::int64_t count, const char *what) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= count) {
      throw InputError("Input '" + name + "': got " + std::to_string(values[i]) + " at " +
                       place(i, length) + ", expected " + what + " from 0 to " +
                       std::to_string(count - 1) + ".");
    }
  }
}

}  // namespace effbert::detail
