#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

#include "utf8.hpp"

namespace effbert::detail {
namespace {

// Comments may nest deeper than what is kept; this is what the stack is asked for.
constexpr int deepest_read = 512;
constexpr std::size_t longest_integer = 20;

std::string shortened(std::string_view text) {
  std::size_t end = std::min<std::size_t>(text.size(), 64);
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;
  return std::string(text.substr(0, end));
}

// Correctly rounded whatever the locale; infinite if too large.
double parse_double(std::string_view digits) {
#ifdef __cpp_lib_to_chars
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc()) return value;
#endif
  std::istringstream stream{std::string(digits)};
  stream.imbue(std::locale::classic());
  double slow = 0;
  stream >> slow;
  if (std::abs(slow) == std::numeric_limits<double>::max() && stream.fail()) return HUGE_VAL;
  return slow;
}

class Parser {
 public:
  Parser(std::string_view data, bool drop_comments) : data_(data), drops_(drop_comments) {}

  Json document() {
    Json value;
    read(value, 1);
    blanks();
    if (at_ != data_.size()) fail("something follows the document");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string &what) const {
    throw JsonError(what + " at byte " + std::to_string(at_));
  }

  int peek() const { return at_ < data_.size() ? static_cast<unsigned char>(data_[at_]) : -1; }

  void blanks() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  bool take(char expected) {
    if (peek() != expected) return false;
    ++at_;
    return true;
  }

  void word(const char *expected) {
    const std::string_view text = expected;
    if (data_.substr(at_, text.size()) != text) fail("a value is expected");
    at_ += text.size();
  }

  void read(Json &value, int depth) {
    if (depth > deepest_read) throw JsonError("nested too deeply");
    blanks();
    switch (peek()) {
      case '{': return read_object(value, depth);
      case '[': return read_array(value, depth);
      case '"':
        value.kind = Json::Kind::string;
        value.text = read_string();
        return;
      case 't': case 'f':
        value.kind = Json::Kind::boolean;
        value.boolean = peek() == 't';
        return word(value.boolean ? "true" : "false");
      case 'n': return word("null");
      default: return read_number(value);
    }
  }

  void read_array(Json &value, int depth) {
    value.kind = Json::Kind::array;
    ++at_;
    blanks();
    if (take(']')) return;
    do {
      value.items.emplace_back();
      read(value.items.back(), depth + 1);
      blanks();
    } while (take(','));
    if (!take(']')) fail("',' or ']' is expected");
  }

  void read_object(Json &value, int depth) {
    value.kind = Json::Kind::object;
    ++at_;
    blanks();
    if (take('}')) return;
    do {
      blanks();
      if (peek() != '"') fail("a key is expected");
      value.members.emplace_back(read_string(), Json());
      blanks();
      if (!take(':')) fail("':' is expected");
      read(value.members.back().second, depth + 1);
      blanks();
    } while (take(','));
    if (!take('}')) fail("',' or '}' is expected");
    refuse_repeats(value.members);
    if (drops_) drop_comments(value.members);
  }

  static void refuse_repeats(const std::vector<Json::Member> &members) {
    std::vector<std::string_view> keys;
    keys.reserve(members.size());
    for (const auto &member : members) keys.push_back(member.first);
    std::sort(keys.begin(), keys.end());
    const auto same = std::adjacent_find(keys.begin(), keys.end());
    if (same != keys.end())
      throw JsonError("the key '" + shortened(*same) + "' occurs twice in one object");
  }

  static void drop_comments(std::vector<Json::Member> &members) {
    members.erase(std::remove_if(members.begin(), members.end(),
                                 [](const Json::Member &member) {
                                   return member.first.compare(0, 2, "x-") == 0;
                                 }),
                  members.end());
  }

  std::string read_string() {
    std::string text;
    ++at_;
    for (;;) {
      const std::size_t from = at_;
      while (peek() >= 0x20 && peek() != '"' && peek() != '\\') ++at_;
      text.append(data_.substr(from, at_ - from));
      if (take('"')) return text;
      if (!take('\\')) fail("a string is not closed, or holds a control character");
      read_escape(text);
    }
  }

  void read_escape(std::string &text) {
    static constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const int name = peek();
    ++at_;
    if (name == 'u') {
      char32_t unit = read_unit();
      if (unit >= 0xD800 && unit < 0xDC00 && data_.substr(at_, 2) == "\\u") {
        const std::size_t before = at_;
        at_ += 2;
        const char32_t second = read_unit();
        if (second >= 0xDC00 && second < 0xE000)
          unit = 0x10000 + ((unit - 0xD800) << 10 | (second - 0xDC00));
        else
          at_ = before;
      }
      return append_utf8(text, unit);  // half of a pair is found when the document is checked
    }
    const std::size_t index = name < 0 ? names.npos : names.find(static_cast<char>(name));
    if (index == names.npos) fail("an escape is unknown");
    text += meanings[index];
  }

  char32_t read_unit() {
    char32_t unit = 0;
    for (int k = 0; k < 4; ++k) {
      const int c = peek();
      if (c >= '0' && c <= '9') unit = unit << 4 | static_cast<char32_t>(c - '0');
      else if (c >= 'a' && c <= 'f') unit = unit << 4 | static_cast<char32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F') unit = unit << 4 | static_cast<char32_t>(c - 'A' + 10);
      else fail("four hexadecimal digits are expected");
      ++at_;
    }
    return unit;
  }

  bool digits() {
    const std::size_t from = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > from;
  }

  void read_number(Json &value) {
    const std::size_t from = at_;
    take('-');
    if (!take('0') && !digits()) fail("a value is expected");
    bool floating = false;
    if (take('.')) {
      floating = true;
      if (!digits()) fail("a digit is expected");
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      floating = true;
      if (!take('+')) take('-');
      if (!digits()) fail("a digit is expected");
    }
    const std::string_view text = data_.substr(from, at_ - from);
    value.kind = floating ? Json::Kind::floating : Json::Kind::integer;
    if (!floating && text.size() > longest_integer)
      throw JsonError("an integer of " + std::to_string(text.size()) + " digits is too large");
    value.number = parse_double(text);
    if (!std::isfinite(value.number))
      throw JsonError("the number " + std::string(text.substr(0, 20)) + " is too large");
    value.text = text == "-0" ? "0" : std::string(text);
    if (floating) return;
    if (value.number == 0) value.number = 0;  // integers have no -0
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value.integer);
    value.fits = error == std::errc();
    if (!value.fits)
      value.integer = text[0] == '-' ? std::numeric_limits<std::int64_t>::min()
                                     : std::numeric_limits<std::int64_t>::max();
  }

  std::string_view data_;
  bool drops_;
  std::size_t at_ = 0;
};

void check(const Json &value, int depth, int deepest) {
  if (depth > deepest)
    throw JsonError("nested deeper than " + std::to_string(deepest) + " levels");
  if (value.is(Json::Kind::string) && first_invalid(value.text) != std::string::npos)
    throw JsonError("a string holds half of a surrogate pair");
  for (const Json &item : value.items) check(item, depth + 1, deepest);
  for (const auto &[key, item] : value.members) {
    if (depth + 1 > deepest)
      throw JsonError("nested deeper than " + std::to_string(deepest) + " levels");
    if (first_invalid(key) != std::string::npos)
      throw JsonError("a key holds half of a surrogate pair");
    check(item, depth + 1, deepest);
  }
}

}  // namespace

const Json *Json::find(std::string_view key) const {
  for (const auto &[name, value] : members)
    if (name == key) return &value;
  return nullptr;
}

Json read_json(std::string_view data, const JsonLimits &limits) {
  if (data.size() > limits.bytes)
    throw JsonError("it has " + std::to_string(data.size()) + " bytes, more than the " +
                    std::to_string(limits.bytes) + " allowed");
  const std::size_t invalid = first_invalid(data);
  if (invalid != std::string_view::npos)
    throw JsonError("it is not UTF-8 at byte " + std::to_string(invalid));
  Json value = Parser(data, limits.drop_comments).document();
  check(value, 1, limits.depth);
  return value;
}

}  // namespace effbert::detail
