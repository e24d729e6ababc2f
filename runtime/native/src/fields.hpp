// Typed fields of the manifest: each reader takes a value and its JSON path, and throws ManifestError.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"
#include "manifest.hpp"

namespace effbert::detail {

struct Field {
  const Json &json;
  std::string path;  // "$.segments[0].layer"
};

std::string quoted(const std::string &text);  // for messages: short, and without control characters

[[noreturn]] void refuse(const std::string &path, const std::string &what);

// An object whose members are all known: `finish` refuses the others.
class Record {
 public:
  explicit Record(const Field &field);
  Field operator[](const char *name);              // one that must be there
  std::optional<Field> optional(const char *name);  // also null if absent
  std::optional<Field> nullable(const char *name);  // must be there, but may hold null
  void finish() const;

 private:
  const Json &object_;
  std::string path_;
  std::vector<std::string_view> known_;
};

bool is_null(const Field &field);
std::string text_of(const Field &field);       // at most 4096 characters
std::string name_of(const Field &field);       // of a tensor or knob
std::string file_name_of(const Field &field);  // its letters only; paths.hpp knows more
std::string hash_of(const Field &field);
bool boolean_of(const Field &field);
std::int64_t integer_of(const Field &field, std::int64_t least, std::int64_t most);
std::int64_t any_integer_of(const Field &field);  // the nearest that int64 has
double float_of(const Field &field);              // integers too
Number number_of(const Field &field);
KnobValue knob_value_of(const Field &field);
std::size_t choice_of(const Field &field, std::initializer_list<const char *> allowed);

constexpr std::size_t any_length = std::numeric_limits<std::size_t>::max();

void check_list(const Field &field, std::size_t least, std::size_t most);
void check_table(const Field &field, std::size_t most);

template <typename Read>
auto list_of(const Field &field, Read read, std::size_t least = 0, std::size_t most = any_length) {
  check_list(field, least, most);
  std::vector<decltype(read(field))> values;
  values.reserve(field.json.items.size());
  for (const Json &item : field.json.items)
    values.push_back(read(Field{item, field.path + "[" + std::to_string(values.size()) + "]"}));
  return values;
}

template <typename ReadKey, typename Read>
auto table_of(const Field &field, ReadKey read_key, Read read, std::size_t most = any_length) {
  check_table(field, most);
  Named<decltype(read(field))> values;
  for (const auto &[key, item] : field.json.members) {
    Json spelled;
    spelled.kind = Json::Kind::string;
    spelled.text = key;
    std::string name = read_key(Field{spelled, field.path});
    values.emplace_back(name, read(Field{item, field.path + "." + name}));
  }
  return values;
}

}  // namespace effbert::detail
