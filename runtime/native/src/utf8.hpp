// UTF-8 (RFC 3629), read strictly.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace effbert::detail {

// Reads the character that starts at `at` and moves `at` behind it; false if what stands there is
// not valid: overlong, half of a surrogate pair, above U+10FFFF, or cut off.
bool next_character(std::string_view text, std::size_t &at, char32_t &character);

void append_utf8(std::string &text, char32_t character);

// Position of the first byte that is not valid UTF-8, or npos.
std::size_t first_invalid(std::string_view text);

// Number of characters of valid UTF-8.
std::size_t count_characters(std::string_view text);

}  // namespace effbert::detail
