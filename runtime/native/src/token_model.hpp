// The models of tokenizer.json: they make tokens of words.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "characters.hpp"
#include "part.hpp"

namespace effbert::detail {

// A token, and the characters of its word that it covers.
struct Token {
  std::int32_t id;
  std::uint32_t begin, end;
};

// Spellings of tokens by id, and the other way round.
class Vocabulary {
 public:
  static constexpr std::int32_t none = -1;

  // Throws TokenizerError if an id is out of range or two tokens have the same.
  explicit Vocabulary(Part &part);
  explicit Vocabulary(const std::vector<std::string> &tokens);  // of equal ones the last counts
  Vocabulary(const Vocabulary &) = delete;
  Vocabulary &operator=(const Vocabulary &) = delete;

  std::int32_t find(std::string_view token) const;
  const std::string *spelling(std::int32_t id) const;
  std::size_t size() const { return ids_.size(); }
  std::size_t longest() const { return longest_; }  // bytes

 private:
  void add(const std::string &token, std::int32_t id);

  std::unordered_map<std::int32_t, std::string> spellings_;
  std::unordered_map<std::string_view, std::int32_t> ids_;
  std::size_t longest_ = 0;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual void tokenize(const Characters &word, std::vector<Token> &to) const = 0;
  virtual const Vocabulary &vocabulary() const = 0;
};

std::unique_ptr<const TokenModel> make_wordpiece(Part &part);
std::unique_ptr<const TokenModel> make_bpe(Part &part);
std::unique_ptr<const TokenModel> make_unigram(Part &part);

// Throws TokenizerError for one that is not known exactly.
std::unique_ptr<const TokenModel> make_model(Part part);

}  // namespace effbert::detail
