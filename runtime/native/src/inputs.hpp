// Token ids, masks and token types, checked before any engine sees them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace effbert::detail {

constexpr const char *ids_name = "input_ids";
constexpr const char *mask_name = "attention_mask";
constexpr const char *types_name = "token_type_ids";
constexpr const char *words_name = "word_map";
constexpr std::int64_t no_word = -1;  // in a word map: special tokens and padding

// What the caller gives: rows * length numbers each; null is filled in where the bundle allows it.
struct GivenInputs {
  std::int64_t rows = 0, length = 0;
  const std::int64_t *ids = nullptr, *mask = nullptr, *types = nullptr, *words = nullptr;
};

// Checked inputs; columns [rows, length] in the order of InputCheck::names.
struct Batch {
  std::int64_t rows = 0, length = 0;
  std::vector<std::vector<std::int64_t>> columns;
};

// What the inputs of one bundle must look like.
class InputCheck {
 public:
  explicit InputCheck(const Manifest &manifest);

  // Inputs of the bundle, and always an attention mask.
  const std::vector<std::string> &names() const { return names_; }
  std::size_t mask() const { return mask_; }  // its index there

  // Throws InputError: says which input does not fit, and why.
  Batch operator()(const GivenInputs &given) const;

 private:
  std::vector<std::int64_t> column(std::size_t index, const GivenInputs &given) const;
  void check_range(const std::string &name, const std::vector<std::int64_t> &values,
                   std::int64_t length, std::int64_t count, const char *what) const;

  const Manifest &manifest_;
  std::vector<std::string> names_;
  std::size_t mask_ = 0;
};

}  // namespace effbert::detail
