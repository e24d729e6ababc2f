#include "utf8.hpp"

namespace effbert::detail {

bool next_character(std::string_view text, std::size_t &at, char32_t &character) {
  if (at >= text.size()) return false;
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) {
    character = first;
    ++at;
    return true;
  }
  const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4 || text.size() - at <= more) return false;
  char32_t value = first & (0x3Fu >> more);
  for (std::size_t k = 1; k <= more; ++k) {
    const auto byte = static_cast<unsigned char>(text[at + k]);
    if ((byte & 0xC0) != 0x80) return false;
    value = value << 6 | (byte & 0x3Fu);
  }
  const char32_t smallest = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
  if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return false;
  character = value;
  at += more + 1;
  return true;
}

void append_utf8(std::string &text, char32_t character) {
  const auto low = [&](int shift) {
    return static_cast<char>(0x80 | (character >> shift & 0x3F));
  };
  if (character < 0x80) {
    text += static_cast<char>(character);
  } else if (character < 0x800) {
    text += static_cast<char>(0xC0 | character >> 6);
    text += low(0);
  } else if (character < 0x10000) {
    text += static_cast<char>(0xE0 | character >> 12);
    (text += low(6)) += low(0);
  } else {
    text += static_cast<char>(0xF0 | character >> 18);
    ((text += low(12)) += low(6)) += low(0);
  }
}

std::size_t first_invalid(std::string_view text) {
  char32_t character;
  for (std::size_t at = 0; at < text.size();)
    if (!next_character(text, at, character)) return at;
  return std::string_view::npos;
}

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

}  // namespace effbert::detail
