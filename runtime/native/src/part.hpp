// A part of tokenizer.json; what is not known exactly is refused by its name.
#pragma once

#include <string>
#include <vector>

#include "errors.hpp"
#include "json.hpp"

namespace effbert::detail {

class Part {
 public:
  Part(const Json &json, const std::string &path);

  const std::string &type() const { return type_; }  // "" if it has none
  const std::string &path() const { return path_; }

  bool has(const char *name) const;  // it is there, and not null
  const Json &operator[](const char *name);
  bool flag(const char *name);
  bool flag(const char *name, bool absent);
  const std::string &text(const char *name);
  std::int32_t id(const char *name);
  Part part(const char *name);
  std::vector<Part> parts(const char *name);
  void ignore(const char *name);  // it does not matter for ids

  void finish() const;  // refuses members that nobody asked for
  [[noreturn]] void refuse(const std::string &what) const;
  [[noreturn]] void refuse_type() const;

 private:
  const Json &json_;
  std::string path_, type_;
  std::vector<std::string> known_;
};

}  // namespace effbert::detail
