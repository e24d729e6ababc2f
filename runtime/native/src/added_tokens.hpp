// Tokens that are found in a text before it is split into words.
#pragma once

#include <array>
#include <unordered_map>

#include "characters.hpp"
#include "normalizer.hpp"
#include "token_model.hpp"

namespace effbert::detail {

class AddedTokens {
 public:
  // `special_in_text`: special tokens that are written in a text are found.
  //
  // Throws TokenizerError if a token's id is not the one it gets when it is added in this order, or
  // if it is found in a way that is not known exactly.
  AddedTokens(std::vector<Part> parts, const TokenModel &model, const Normalizer *normalizer,
              bool special_in_text);

  // Splits a text at the tokens that stand in it, and normalizes the rest.
  std::vector<Piece> split(Characters text) const;

  const std::string *spelling(std::int32_t id) const;

 private:
  struct Added {
    Characters text;  // what it is found by
    std::string spelling;
    std::int32_t id;
    bool before, after;  // takes the spaces there
    bool hidden;         // covers its place, but is read as text
  };
  struct Group {
    std::vector<Added> tokens;
    std::unordered_map<char32_t, std::vector<std::size_t>> by_first;  // the longest first

    void add(Added token);
    const Added *longest(const Characters &text, std::size_t at) const;
    void split(const Characters &text, std::vector<Piece> &to) const;
  };

  const Normalizer *normalizer_;
  Group as_written_, normalized_;
  std::unordered_map<std::int32_t, std::string> spellings_;
};

}  // namespace effbert::detail
