#include "part.hpp"

#include <algorithm>
#include <limits>

namespace effbert::detail {

Part::Part(const Json &json, const std::string &path) : json_(json), path_(path) {
  if (!json.is(Json::Kind::object)) refuse("is no object");
  const Json *type = json.find("type");
  if (type == nullptr) return;
  if (!type->is(Json::Kind::string)) refuse("has a type that is no string");
  type_ = type->text;
  known_.push_back("type");
}

void Part::refuse(const std::string &what) const {
  throw TokenizerError("tokenizer.json: " + path_ + " " + what +
                       ", which the native runtime does not know exactly; pass token ids, or use "
                       "the Python runtime for texts.");
}

void Part::refuse_type() const { refuse("is of the type '" + type_.substr(0, 40) + "'"); }

bool Part::has(const char *name) const {
  const Json *found = json_.find(name);
  return found != nullptr && !found->is(Json::Kind::null);
}

const Json &Part::operator[](const char *name) {
  known_.push_back(name);
  const Json *found = json_.find(name);
  if (found == nullptr) refuse(std::string("has no '") + name + "'");
  return *found;
}

bool Part::flag(const char *name) {
  const Json &found = (*this)[name];
  if (!found.is(Json::Kind::boolean)) refuse(std::string("has no true or false in '") + name + "'");
  return found.boolean;
}

bool Part::flag(const char *name, bool absent) {
  known_.push_back(name);
  return has(name) ? flag(name) : absent;
}

const std::string &Part::text(const char *name) {
  const Json &found = (*this)[name];
  if (!found.is(Json::Kind::string)) refuse(std::string("has no string in '") + name + "'");
  return found.text;
}

std::int32_t Part::id(const char *name) {
  const Json &found = (*this)[name];
  if (!found.is(Json::Kind::integer) || !found.fits || found.integer < 0 ||
      found.integer > std::numeric_limits<std::int32_t>::max())
    refuse(std::string("has no token id in '") + name + "'");
  return static_cast<std::int32_t>(found.integer);
}

Part Part::part(const char *name) { return Part((*this)[name], path_ + "." + name); }

std::vector<Part> Part::parts(const char *name) {
  const Json &found = (*this)[name];
  if (!found.is(Json::Kind::array)) refuse(std::string("has no list in '") + name + "'");
  std::vector<Part> all;
  for (const Json &item : found.items)
    all.emplace_back(item, path_ + "." + name + "[" + std::to_string(all.size()) + "]");
  return all;
}

void Part::ignore(const char *name) { known_.push_back(name); }

void Part::finish() const {
  for (const auto &member : json_.members)
    if (std::find(known_.begin(), known_.end(), member.first) == known_.end())
      refuse("has '" + member.first.substr(0, 40) + "'");
}

}  // namespace effbert::detail
