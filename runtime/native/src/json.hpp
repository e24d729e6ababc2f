// A strict reader of JSON (RFC 8259): nothing ambiguous is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace effbert::detail {

struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One value. Integers and floats are kept apart by how they are written: 1 and 1.0 are different.
struct Json {
  enum class Kind { null, boolean, integer, floating, string, array, object };
  using Member = std::pair<std::string, Json>;

  Kind kind = Kind::null;
  bool boolean = false;
  bool fits = true;          // an integer is within int64
  std::int64_t integer = 0;  // the nearest one that int64 has, if it does not fit
  double number = 0;         // of integers and floats, correctly rounded
  std::string text;          // a string in UTF-8, or a number as it is written ("-0" is "0")
  std::vector<Json> items;
  std::vector<Member> members;  // in the order of the document

  bool is(Kind which) const { return kind == which; }
  bool is_number() const { return kind == Kind::integer || kind == Kind::floating; }
  const Json *find(std::string_view key) const;  // null if there is none, or this is no object
};

struct JsonLimits {
  std::size_t bytes = std::size_t{1} << 20;
  int depth = 16;             // of what is left without comments
  bool drop_comments = true;  // members whose key starts with "x-"
};

// Reads one document in UTF-8.
//
// Throws JsonError if it is larger or deeper than the limits, malformed, repeats a key, holds a
// number that is not finite, an integer of more than 20 characters, or half of a surrogate pair.
Json read_json(std::string_view data, const JsonLimits &limits = JsonLimits());

}  // namespace effbert::detail
