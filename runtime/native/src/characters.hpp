// A text as characters that know where in the caller's text they came from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "utf8.hpp"

namespace effbert::detail {

struct Character {
  char32_t code;
  std::uint32_t from, to;  // characters of the caller's text
};
using Characters = std::vector<Character>;

// A piece of a text between two splits; an added token has an id already.
struct Piece {
  Characters text;
  std::int32_t id = -1;
};

inline Characters to_characters(std::string_view text) {
  Characters found;
  found.reserve(text.size());
  char32_t code;
  for (std::size_t at = 0; next_character(text, at, code);) {
    const auto index = static_cast<std::uint32_t>(found.size());
    found.push_back({code, index, index + 1});
  }
  return found;
}

inline std::string to_utf8(const Character *begin, const Character *end) {
  std::string text;
  for (; begin != end; ++begin) append_utf8(text, begin->code);
  return text;
}

// A character and what it changes, as the tokenizers library counts it: 1 is added, 0 replaces one,
// -n replaces one and removes n after it.
using Change = std::pair<char32_t, int>;

// Applies changes from the first character on. An added one stands where the one before it stood.
inline Characters transformed(const Characters &old, const std::vector<Change> &changes) {
  Characters changed;
  changed.reserve(changes.size());
  std::size_t at = 0;
  for (const auto &[code, change] : changes) {
    const std::size_t source = change > 0 && at > 0 ? at - 1 : at;
    Character next = {code, 0, 0};
    if (source < old.size() && !(change > 0 && at == 0))
      next = {code, old[source].from, old[source].to};
    changed.push_back(next);
    if (change <= 0) at += 1 + static_cast<std::size_t>(-change);
  }
  return changed;
}

// Puts a character before the others; it stands where the first one stands.
inline void prepend(Characters &text, char32_t code) {
  if (text.empty()) return;
  text.insert(text.begin(), {code, text[0].from, text[0].to});
}

}  // namespace effbert::detail
