#include "fields.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "utf8.hpp"

namespace effbert::detail {
namespace {

constexpr std::size_t longest_text = 4096;  // characters

std::string shown(const Json &json) {
  switch (json.kind) {
    case Json::Kind::null: return "null";
    case Json::Kind::boolean: return json.boolean ? "true" : "false";
    case Json::Kind::integer: return json.text;
    case Json::Kind::floating: return "the float " + json.text.substr(0, 20);
    case Json::Kind::string: return quoted(json.text);
    case Json::Kind::array: return "a list";
    case Json::Kind::object: break;
  }
  return "an object";
}

[[noreturn]] void expected(const Field &field, const std::string &what) {
  refuse(field.path, "expected " + what + ", got " + shown(field.json));
}

const std::string &string_of(const Field &field) {
  if (!field.json.is(Json::Kind::string)) expected(field, "a string");
  return field.json.text;
}

// One character that may start, and a number of those that may follow.
std::string spelled(const Field &field, const char *first, const char *more, std::size_t most,
                    const char *what) {
  const std::string &text = string_of(field);
  const std::string_view starts = first, follows = more;
  bool good = !text.empty() && text.size() <= most && starts.find(text[0]) != starts.npos;
  for (const char c : text)
    good = good && c != '\0' && (starts.find(c) != starts.npos || follows.find(c) != follows.npos);
  if (!good) expected(field, what);
  return text;
}

#define EFFBERT_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define EFFBERT_DIGITS "0123456789"

}  // namespace

std::string quoted(const std::string &text) {
  if (text.size() > 64) return "a long string";
  std::string shown = "'";
  for (const char c : text) shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return shown + "'";
}

void refuse(const std::string &path, const std::string &what) {
  throw ManifestError(std::string(manifest_name) + " is not valid: " + path + ": " + what + ".");
}

Record::Record(const Field &field) : object_(field.json), path_(field.path) {
  if (!object_.is(Json::Kind::object)) expected(field, "an object");
}

std::optional<Field> Record::optional(const char *name) {
  known_.push_back(name);
  const Json *found = object_.find(name);
  if (found == nullptr) return std::nullopt;
  return Field{*found, path_ + "." + name};
}

Field Record::operator[](const char *name) {
  const std::optional<Field> found = optional(name);
  if (!found) refuse(path_, std::string("the field '") + name + "' is missing");
  return *found;
}

std::optional<Field> Record::nullable(const char *name) {
  const Field found = (*this)[name];
  if (is_null(found)) return std::nullopt;
  return found;
}

void Record::finish() const {
  for (const auto &member : object_.members)
    if (std::find(known_.begin(), known_.end(), member.first) == known_.end())
      refuse(path_, "the field " + quoted(member.first) + " is unknown");
}

bool is_null(const Field &field) { return field.json.is(Json::Kind::null); }

std::string text_of(const Field &field) {
  const std::string &text = string_of(field);
  if (text.size() > longest_text && count_characters(text) > longest_text)
    expected(field, "a string of at most " + std::to_string(longest_text) + " characters");
  return text;
}

std::string name_of(const Field &field) {
  return spelled(field, EFFBERT_LETTERS "_", EFFBERT_DIGITS, 64,
                 "a name of at most 64 letters, digits and '_'");
}

std::string file_name_of(const Field &field) {
  return spelled(field, EFFBERT_LETTERS EFFBERT_DIGITS, "._-", 128,
                 "a plain file name of letters, digits, '.', '_' and '-'");
}

std::string hash_of(const Field &field) {
  const std::string text = spelled(field, "0123456789abcdef", "", 64, "64 hexadecimal digits");
  if (text.size() != 64) expected(field, "64 hexadecimal digits");
  return text;
}

bool boolean_of(const Field &field) {
  if (!field.json.is(Json::Kind::boolean)) expected(field, "true or false");
  return field.json.boolean;
}

std::int64_t integer_of(const Field &field, std::int64_t least, std::int64_t most) {
  const Json &json = field.json;
  if (!json.is(Json::Kind::integer) || !json.fits || json.integer < least || json.integer > most)
    expected(field, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
  return json.integer;
}

std::int64_t any_integer_of(const Field &field) {
  if (!field.json.is(Json::Kind::integer)) expected(field, "an integer");
  return field.json.integer;
}

double float_of(const Field &field) {
  if (!field.json.is_number()) expected(field, "a number");
  return field.json.number;
}

Number number_of(const Field &field) {
  const Json &json = field.json;
  if (json.is(Json::Kind::integer)) return {json.number, true, json.text};
  if (json.is(Json::Kind::floating)) return {json.number, false, ""};
  if (json.is(Json::Kind::string)) {
    if (json.text == "inf") return {HUGE_VAL, false, json.text};
    if (json.text == "-inf") return {-HUGE_VAL, false, json.text};
    if (json.text == "nan") return {std::nan(""), false, json.text};
  }
  expected(field, "a number, \"inf\", \"-inf\" or \"nan\"");
}

KnobValue knob_value_of(const Field &field) {
  if (field.json.is(Json::Kind::array)) return {true, list_of(field, number_of)};
  return {false, {number_of(field)}};
}

std::size_t choice_of(const Field &field, std::initializer_list<const char *> allowed) {
  if (field.json.is(Json::Kind::string)) {
    const auto found = std::find(allowed.begin(), allowed.end(), field.json.text);
    if (found != allowed.end()) return static_cast<std::size_t>(found - allowed.begin());
  }
  std::string all;
  for (const char *each : allowed) all += (all.empty() ? "" : ", ") + std::string(each);
  expected(field, "one of " + all);
}

void check_list(const Field &field, std::size_t least, std::size_t most) {
  if (!field.json.is(Json::Kind::array)) expected(field, "a list");
  const std::size_t count = field.json.items.size();
  if (count < least || count > most)
    refuse(field.path, "a list of " + std::to_string(count) + ", expected " +
                           (count < least ? "at least " + std::to_string(least)
                                          : "at most " + std::to_string(most)));
}

void check_table(const Field &field, std::size_t most) {
  if (!field.json.is(Json::Kind::object)) expected(field, "an object");
  if (field.json.members.size() > most)
    refuse(field.path, "more than " + std::to_string(most) + " members");
}

// Numbers are equal whatever they are written as, but spellings only to themselves.
bool operator==(const Number &a, const Number &b) {
  const bool spelled_a = !a.integer && !a.text.empty(), spelled_b = !b.integer && !b.text.empty();
  if (spelled_a || spelled_b) return spelled_a && spelled_b && a.text == b.text;
  if (a.integer && b.integer) return a.text == b.text;
  if (!a.integer && !b.integer) return a.value == b.value;
  const Number &whole = a.integer ? a : b, &broken = a.integer ? b : a;
  if (whole.value != broken.value) return false;
  // Up to 2^53 a double holds every integer; above it is one itself, with these digits.
  if (std::abs(whole.value) < 9007199254740992.0) return true;
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.0f", broken.value);
  return whole.text == digits;
}

bool operator==(const Axis &a, const Axis &b) {
  return a.kind == b.kind && (a.kind != Axis::Kind::fixed || a.size == b.size);
}

}  // namespace effbert::detail
